"""A trained encoder as what an index holds: its lexical model, and vectors."""

import numpy as np
import scipy.sparse
import torch

from gossamer.results import plain
from gossamer_nlp.bm25 import BM25
from gossamer_nlp.config import KEPT, Config
from gossamer_nlp.embeddings import Encoder, SparseProjection
from gossamer_nlp.evaluate import Codes
from gossamer_nlp.features import Features
from gossamer_nlp.index.neighbours import expanded
from gossamer_nlp.model import Lexical
from gossamer_nlp.train import encode

Vectors = tuple[Codes, dict[str, Codes]]  # of the documents, and of the queries of each part


def vectors(encoder: Encoder, found: Features, config: Config) -> Vectors:
    """The codes of documents and of development and test queries, lexical ones as an index has them."""
    splits = ("development", "test")
    if config.method not in KEPT:
        queries = {split: encode(encoder, found.queries[split], queries=True) for split in splits}
        return encode(encoder, found.documents), queries
    model = lexical(encoder, found, config).take(found.documents)
    counted = found.documents if model.network is None else model.count(found.collection.documents, grow=False)
    documents = model.weigh(counted, model.mean_lengths)
    if config.method == "expanded":
        terms = len(found.vocabulary)
        words = expanded(documents[:, :terms], found.idf, config.neighbours, config.borrowed)
        documents = scipy.sparse.csr_array(scipy.sparse.hstack([words, documents[:, terms:]], format="csr"))
    return documents, {split: model.weigh_queries(found.queries[split]) for split in splits}


def lexical(encoder: Encoder, found: Features, config: Config) -> Lexical:
    """A trained encoder with one dimension a term as the model that an index holds."""
    weights, projection = encoder.weights, encoder.projection
    assert isinstance(projection, SparseProjection)
    relations = None
    if projection.values.shape[1] > 1:
        relations = projection.matrix()
        relations.data = np.maximum(relations.data, 0)
        relations.eliminate_zeros()
    with torch.no_grad():
        return Lexical(
            analyzer=found.analyzer,
            bm25=BM25(float(weights.log_k1.exp()), float(weights.logit_b.sigmoid())),
            fields=found.collection.fields,
            field_weights=weights.field.exp().numpy(),
            terms=tuple(found.vocabulary),
            document_weights=weights.document.exp().numpy(),
            query_weights=weights.query.exp().numpy(),
            relations=relations,
            active=config.active,
            phrases=0.0 if config.method == "bm25" else config.phrases,
            neighbours=config.neighbours if config.method == "expanded" else 0,
            borrowed=config.borrowed,
            about={"config": plain(config), "collection": found.collection.name, "sha256": found.collection.sha256},
            network=encoder.network.eval() if encoder.network is not None else None,
        )
