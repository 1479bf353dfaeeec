"""One run from configuration to result: train, index, and measure on the test queries."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

import numpy as np
import scipy.sparse

from gossamer import Result
from gossamer.files import size
from gossamer.results import plain
from gossamer_nlp import report
from gossamer_nlp.config import CONTEXTUAL, LEXICAL, METRIC, Config
from gossamer_nlp.data import PINNED, load
from gossamer_nlp.embeddings import Encoder, SparseProjection
from gossamer_nlp.evaluate import Codes, evaluate, interval, mean, ranking
from gossamer_nlp.features import Features, features
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.index.state import best
from gossamer_nlp.train import train
from gossamer_nlp.trained import Vectors, lexical, vectors


def measured(config: Config, log: Callable[[str], None]) -> Result:
    """The result of one configuration; see `benchmark.run`."""
    collection = load(config.data, config.queries, config.data_dir)
    found = features(collection, config.language)
    log(
        f"{collection.name}: {len(found.documents)} documents, {len(found.vocabulary)} terms, "
        f"BM25 with k1 {found.start.k1}, b {found.start.b}"
    )
    pinned = PINNED.get(config.data)
    if pinned and collection.sha256 != pinned:
        log(
            f"this text ({collection.sha256[:8]}) is not that of the README's numbers ({pinned[:8]}): other "
            "versions of the packages; compare within this install only"
        )
    if config.method in CONTEXTUAL:
        return result(config, found, *contextual(config, found, log))
    encoder, seconds = train(config, found, log)
    if config.save:
        lexical(encoder, found, config).save(config.save)
        log(f"kept in {config.save}")
    return result(config, found, sized(config, encoder, seconds), vectors(encoder, found, config))


@dataclass(frozen=True)
class Sized:
    """What was trained: how large it is, how sparse, by what pattern, and the seconds that it took."""

    pattern: str
    sparsity_asked: float
    sparsity: float
    parameters: int
    nonzeros: int
    bytes: int
    train_seconds: float


def sized(config: Config, encoder: Encoder, seconds: float) -> Sized:
    """An encoder of bags of terms; BM25 has no parameters, and splade-doc's sparsity is that of its linear layers."""
    projection = encoder.projection
    sparse = isinstance(projection, SparseProjection)
    parameters = [] if config.method == "bm25" else list(encoder.parameters())
    pattern, asked = (f"{projection.values.shape[1]} per term", config.sparsity) if sparse else ("dense", 0.0)
    sparsity = projection.sparsity if sparse else 0.0
    if config.method == "splade-doc" and encoder.network:
        weights = [p for name, p in encoder.network.named_parameters() if "layers" in name and p.ndim == 2]
        sparsity = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
        pattern, asked = "unstructured", config.layer_sparsity
    return Sized(
        pattern=pattern,
        sparsity_asked=0.0 if config.method in LEXICAL else asked,
        sparsity=sparsity,
        parameters=sum(p.numel() for p in parameters),
        nonzeros=sum(int((p != 0).sum()) for p in parameters),
        bytes=size(encoder) if parameters else 0,
        train_seconds=seconds,
    )


def contextual(config: Config, found: Features, log: Callable[[str], None]) -> tuple[Sized, Vectors]:
    """The vectors of a method over a dense encoder; its size is that of the encoder and the dictionary of codes."""
    from gossamer_nlp.contextual import coded, encoded, hybrid
    from gossamer_nlp.encoder import Encoder as Dense

    start = time.perf_counter()
    count = sum(p.numel() for p in Dense().model.parameters())
    if config.method == "encoder":
        documents, queries = encoded(found, log)
        return Sized("dense", 0.0, 0.0, count, count, 4 * count, time.perf_counter() - start), (documents, {**queries})
    make = coded if config.method == "codes" else hybrid
    found_vectors = make(found, config, log)
    count += (config.code_dimensions - 1) * Dense().dimensions
    seconds = time.perf_counter() - start
    pattern = f"{config.code_active} of {config.code_dimensions} per document"
    sparsity = 1 - config.code_active / config.code_dimensions
    return Sized(pattern, sparsity, sparsity, count, count, 4 * count, seconds), found_vectors


def result(config: Config, found: Features, own: Sized, made: Vectors) -> Result:
    """The numbers of a method whose codes of documents and queries are given."""
    documents, queries = made
    values = {split: evaluate(queries[split], documents, found.relevant[split]) for split in queries}
    latency, index_bytes = served(queries["test"], documents)
    extra: dict[str, Any] = {
        **mean(values["test"]),
        f"{METRIC} interval": list(interval(values["test"][METRIC])),
        "development": mean(values["development"])[METRIC],
        "index_bytes": index_bytes,
        "active_per_document": documents.size / len(found.documents),
        "active_per_query": queries["test"].size / max(1, len(found.relevant["test"])),
        "k1": found.start.k1,
        "b": found.start.b,
        "sha256": found.collection.sha256,
        "packages": found.collection.versions,
        **report.kept(config, found, documents, queries["test"]),
    }
    return Result(
        domain="nlp",
        method=config.method,
        data=found.collection.name,
        seed=config.seed,
        metric=METRIC,
        value=extra[METRIC],
        higher_is_better=True,
        floor=0.0,
        reference="bm25",
        latency_ms=latency,
        **vars(own),
        config=plain(config),
        extra=extra,
    )


def served(queries: Codes, documents: Codes, count: int = 50) -> tuple[float, int]:
    """The median milliseconds of one query, by the index that `search` runs (or a dense product), and its bytes."""
    if isinstance(documents, np.ndarray):
        index = np.ascontiguousarray(documents.T)

        def answer(row: int) -> Any:
            return ranking(queries[row : row + 1] @ index, 10)

        held = documents.nbytes
    else:
        assert isinstance(queries, scipy.sparse.csr_array)
        segment = Segment.of(documents)

        def answer(row: int) -> Any:
            part = slice(queries.indptr[row], queries.indptr[row + 1])
            return best([segment], queries.indices[part].astype(np.uint64), queries.data[part].astype(float), 10)

        held = sum(array.nbytes for array in segment.postings.values())
    times = []
    for row in range(min(count, cast(tuple[int, int], queries.shape)[0])):
        start = time.perf_counter()
        answer(row)
        times.append(time.perf_counter() - start)
    return 1000 * median(times), held
