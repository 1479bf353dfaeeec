"""Write an index's vectors for another program: Lucene, PISA and Terrier, Seismic, or PostgreSQL.

gossamer nlp export FOLDER documents.ciff.gz
gossamer nlp export FOLDER documents.jsonl     # for Seismic
gossamer nlp export FOLDER documents.sql       # for PostgreSQL with pgvector

A query is nothing but how often each of its terms stands in it: what it counts is in the documents' vectors. For Qdrant
there is `gossamer_nlp.export.qdrant.upload`.
"""

from gossamer_nlp.export.command import Options, main

__all__ = ["Options", "main"]
