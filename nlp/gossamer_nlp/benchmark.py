"""What is compared: the presets, their methods and seeds, and one run. Light: heavy parts load in `run`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gossamer_nlp.config import CONTEXTUAL, ENCODER, METHODS, METRIC, PRESETS, READING, Config

if TYPE_CHECKING:
    from gossamer import Result

__all__ = ["COMMANDS", "HIGHER_IS_BETTER", "METRIC", "PRESETS", "grid", "pictures", "run"]

HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)
UNREAD = dict.fromkeys(("dense", "bm25", "encoder"), ("sparsity",))
COMMANDS = {
    "index": "index a folder of your own files, learning from them what counts",
    "search": "search an index, and see why each document matched",
    "serve": "search an index in the browser, on this machine alone",
    "export": "write an index's vectors for Lucene, PISA, Seismic or PostgreSQL",
    "words": "learn sparse word embeddings, and show what each dimension means",
}


def grid(config: Config) -> list[Config]:
    """Every method with every seed; BM25 and the encoder, which have nothing random, once.

    Networks that read documents, which train for minutes, are left out (`--method splade-doc` runs them), and methods
    over the encoder of the extra `encoder` where it is not installed.
    """
    absent = CONTEXTUAL if find_spec(ENCODER) is None else ()
    return [
        replace(config, method=method, seed=seed)
        for seed in SEEDS
        for method in METHODS
        if method not in (*READING, *absent) and (method not in ("bm25", "encoder") or seed == SEEDS[0])
    ]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> "Result":
    """Train and evaluate one configuration; `value` is nDCG@10 on the test queries, the median of a query `latency_ms`.

    Whatever is chosen is chosen on the development queries. `bytes` is the model's size, without the vocabulary, which
    all methods share (BM25 has none); the index's bytes, other metrics and intervals are in `extra`.
    """
    from gossamer_nlp.measure import measured

    return measured(config, log)


def pictures(results: "Sequence[Result]") -> dict[str, bytes]:
    """What the page of `gossamer report` shows of the results of one data set: SVG by captions."""
    from gossamer_nlp import report

    return report.pictures(results)
