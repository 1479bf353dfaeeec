"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gossamer_speech.config import MASKED, METHODS, PRESETS, Config

if TYPE_CHECKING:
    from gossamer import Result

METRIC = "word accuracy (%)"
HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)
UNREAD = dict.fromkeys(
    (m for m in METHODS if m not in (*MASKED, "small-dense", "temporal", "temporal-topk")), ("sparsity",)
)
COMMANDS = {
    "recognise": "say which words files or a stream hold, by a model that train kept",
    "export": "write a recogniser as an ONNX file, or as an engine's",
    "extract": "turn a folder of recordings into sparse codes, in one file",
    "pictures": "show what each code of a model looks and sounds like, on one page",
}
COMPARED = tuple(method for method in METHODS if method not in ("nmf", "omp", "kl", "temporal", "temporal-topk"))

__all__ = ["COMMANDS", "HIGHER_IS_BETTER", "METRIC", "PRESETS", "Config", "grid", "pictures", "run"]


def grid(config: Config) -> list[Config]:
    """Every method that is quick with every seed, the dense one first."""
    return [replace(config, method=method, seed=seed) for seed in SEEDS for method in COMPARED]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> "Result":
    """Learn features and read words from them, fold by fold; `value` is the percentage of words of speakers not heard.

    With `save`, the recogniser is then learned once more, from all speakers, and kept.
    """
    from gossamer_speech.train import run

    return run(config, log)


def pictures(results: "Sequence[Result]") -> dict[str, list[bytes]]:
    """What the page of `gossamer report` shows of the results of one data set: a PNG and a WAV by captions."""
    from gossamer_speech import report

    return report.pictures(results)
