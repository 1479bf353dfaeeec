"""What is compared: the presets, their methods and seeds, and the result of one run."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from gossamer import Result
from gossamer.files import size
from gossamer.results import plain
from gossamer_nlp.data import PINNED
from gossamer_nlp.embeddings import SparseProjection
from gossamer_nlp.evaluate import metrics, ranking
from gossamer_nlp.features import Features
from gossamer_nlp.systems import Embedded, Hybrid, Lexical, System
from gossamer_nlp.train import METHODS, Config, prepared, train

METRIC = "nDCG@10"
HIGHER_IS_BETTER = True
FLOOR = 0.0
SEEDS = (1, 2, 3)
BLOCK = 256
PRESETS = {
    "quick": Config(),
    "anonymous": Config(queries="anonymous"),
    "full": Config(data="docstrings-all"),
    "full-anonymous": Config(data="docstrings-all", queries="anonymous"),
    "beir": Config(data="beir"),
}


def grid(config: Config) -> list[Config]:
    """Every method with every seed, the dense one first; BM25, which has nothing random, once."""
    return [
        replace(config, method=method, seed=seed)
        for seed in SEEDS
        for method in METHODS
        if method != "bm25" or seed == SEEDS[0]
    ]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> Result:
    """Train and evaluate one configuration on one thread; `value` is nDCG@10 on the test queries.

    Whatever is chosen is chosen on the development queries. `bytes` is the model's file (BM25 has none), without the
    vocabulary, which all methods share; the index's bytes, and the densities of codes, are in `extra`.
    """
    torch.set_num_threads(1)
    collection, found = prepared(config.data, config.queries, config.data_dir)
    log(f"{collection.name}: {len(found.documents)} documents, {len(found.vocabulary)} terms")
    pinned = PINNED.get(config.data)
    if pinned and collection.sha256 != pinned:
        log(
            f"this text ({collection.sha256[:8]}) is not that of the README's numbers ({pinned[:8]}): other "
            "versions of the packages; compare within this install only"
        )
    if config.method == "bm25":
        encoder, projection = None, None
        start = time.perf_counter()
        system: System = Lexical(collection)
        seconds = time.perf_counter() - start
    else:
        encoder, seconds = train(config, found, log)
        projection = encoder.projection
        system = Hybrid(encoder, found) if config.method == "hybrid" else Embedded(encoder, found)
    sparse = isinstance(projection, SparseProjection)
    test = quality(system, "test", found)
    parameters = list(encoder.parameters()) if encoder else []
    return Result(
        domain="nlp",
        method=config.method,
        data=collection.name,
        pattern=f"{projection.values.shape[1]} per term" if sparse else "dense",
        sparsity_asked=config.sparsity if sparse else 0.0,
        sparsity=projection.sparsity if sparse else 0.0,
        seed=config.seed,
        metric=METRIC,
        value=test[METRIC],
        higher_is_better=HIGHER_IS_BETTER,
        floor=FLOOR,
        parameters=sum(p.numel() for p in parameters),
        nonzeros=sum(int((p != 0).sum()) for p in parameters),
        bytes=size(encoder) if encoder else 0,
        latency_ms=latency(system, "test", min(50, len(found.relevant["test"]))),
        train_seconds=seconds,
        config=plain(config),
        extra={
            **test,
            "development": quality(system, "development", found)[METRIC],
            **system.facts(),
            "sha256": collection.sha256,
            "packages": collection.versions,
        },
    )


def quality(system: System, split: str, found: Features) -> dict[str, float]:
    """The metrics of a system on the queries of a split."""
    count = len(found.relevant[split])
    blocks = [ranking(system.scores(split, slice(i, min(i + BLOCK, count)))) for i in range(0, count, BLOCK)]
    return metrics(np.concatenate(blocks), found.relevant[split])


def latency(system: System, split: str, queries: int) -> float:
    """The median milliseconds from one query's terms to its ranking, of the first queries of a split."""
    times = []
    for number in range(queries):
        start = time.perf_counter()
        ranking(system.scores(split, slice(number, number + 1)))
        times.append(time.perf_counter() - start)
    return 1000 * median(times)
