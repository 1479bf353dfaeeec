"""Methods over a dense encoder's vectors: as they are, as sparse codes, and beside learned term weights."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gossamer_nlp.config import METRIC, Config
from gossamer_nlp.evaluate import evaluate, mean
from gossamer_nlp.features import Features
from gossamer_nlp.pursuit import PursuitCodes, joined, shares
from gossamer_nlp.train import train
from gossamer_nlp.trained import Vectors, vectors

WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)  # of the codes beside the terms
WITHOUT = 0.6  # where there are no development queries to choose it by
SPLITS = ("development", "test")


def encoded(found: Features, log: Callable[[str], None]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The encoder's vectors of documents and of development and test queries, kept in the cache."""
    from gossamer_nlp.encoder import Encoder

    encoder, collection = Encoder(), found.collection
    texts = ["\n".join(text for text in document if text) for document in collection.documents]
    queries = {split: encoder.cached([query.text for query in collection.queries[split]], log) for split in SPLITS}
    return encoder.cached(texts, log), queries


def coded(found: Features, config: Config, log: Callable[[str], None]) -> Vectors:
    """Sparse codes of documents and queries."""
    documents, queries = encoded(found, log)
    codes = PursuitCodes(config.code_dimensions, config.code_active, seed=config.seed).fit(documents)
    return codes.transform(documents), {split: codes.transform_queries(own) for split, own in queries.items()}


def hybrid(found: Features, config: Config, log: Callable[[str], None]) -> Vectors:
    """Terms and codes as one vector: Σ_terms q_t d_t / Σ q_t + weight · ⟨q, x̂⟩.

    The terms are those of `expanded`; the weight is the best on development queries, where these are judged: queries
    made of documents' own beginnings share too many words with them.
    """
    codes, code_queries = coded(found, config, log)
    lexical = replace(config, method="expanded")
    encoder, _ = train(lexical, found, log)
    terms, term_queries = vectors(encoder, found, lexical)
    term_queries = {split: shares(own) for split, own in term_queries.items()}  # pyright: ignore[reportArgumentType]

    def queries(weight: float, split: str):
        return joined(term_queries[split], code_queries[split], weight)  # pyright: ignore[reportArgumentType]

    documents = joined(terms, codes)  # pyright: ignore[reportArgumentType]
    weight = WITHOUT
    if (relevant := found.relevant["development"]) and "development" not in found.collection.pseudo:
        values = {w: mean(evaluate(queries(w, "development"), documents, relevant))[METRIC] for w in WEIGHTS}
        weight = max(values, key=lambda w: values[w])
        log(f"codes count {weight} beside terms; {METRIC} on development queries {values[weight]:.4f}")
    return documents, {split: queries(weight, split) for split in SPLITS}
