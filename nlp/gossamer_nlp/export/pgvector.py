"""SQL for PostgreSQL with pgvector: documents as `sparsevec`, and their dimensions' terms.

    psql -f documents.sql
    SELECT id FROM documents ORDER BY embedding <#> '{12:1,90:2}/1000' LIMIT 10

The operator <#> is the inner product, negated; a query's dimensions are the numbers of its terms in the table of terms.
"""

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gossamer import InputError
from gossamer_nlp.export.exported import Exported

MOST = 16_000  # non-zeros of a sparsevec
INDEXED = 1_000  # non-zeros, at most, of a sparsevec in an HNSW index


def write(found: Exported, path: Path, table: str = "documents") -> None:
    """Write SQL that makes the tables `documents` (id, embedding) and `documents_terms` (number, term) and fills them.

    pgvector holds vectors of at most 16,000 non-zeros, and its HNSW index of at most 1,000: what has more is refused
    here, or named in a comment.
    """
    from gossamer.paths import writing_atomically

    wide, size = 0, max(len(found.terms), 1)
    for name, columns, _ in found.rows():
        wide += len(columns) > INDEXED
        if len(columns) > MOST:
            raise InputError(
                f"the document {name!r} has {len(columns):,} non-zeros; pgvector's sparsevec holds {MOST:,}: split "
                "such documents."
            )
    lines = itertools.chain(
        [
            f"-- {wide:,} of {len(found):,} documents have more than {INDEXED:,} non-zeros, which an HNSW index cannot "
            "hold",
            "CREATE EXTENSION IF NOT EXISTS vector;",
            f"CREATE TABLE {table} (id text PRIMARY KEY, embedding sparsevec({size}) NOT NULL);",
            f"CREATE TABLE {table}_terms (number integer PRIMARY KEY, term text NOT NULL);",
            f"COPY {table}_terms (number, term) FROM stdin;",
        ],
        (f"{i}\t{escaped(term)}" for i, term in enumerate(found.terms, 1)),
        ["\\.", f"COPY {table} (id, embedding) FROM stdin;"],
        (f"{escaped(name)}\t{sparsevec(columns, values, size)}" for name, columns, values in found.rows()),
        ["\\."],
    )
    with writing_atomically(path) as file:
        for line in lines:
            file.write(f"{line}\n".encode("utf-8", "replace"))


def sparsevec(columns: NDArray[np.int64], values: NDArray[np.float32], size: int) -> str:
    """A vector as pgvector writes it, {number:value,…}/size, its dimensions numbered from 1."""
    parts = (f"{c + 1}:{v:.7g}" for c, v in zip(columns.tolist(), values.tolist(), strict=True))
    return "{" + ",".join(parts) + f"}}/{size}"


def escaped(text: str) -> str:
    """Text within a line of COPY; a NUL, which PostgreSQL's text cannot hold, is left out."""
    for letter, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "")):
        text = text.replace(letter, code)
    return text
