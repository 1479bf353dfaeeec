"""Scores: what a weight is worth. The higher the score, the longer the weight lives. A score is a file.

A score takes the weights by name and gives a tensor of the same shape for each. Those that need data are objects that
carry it; they run `model` in evaluation mode, leave its parameters and buffers as they were, and average over batches.
"""

import importlib
import pkgutil

from gossamer.errors import InputError
from gossamer.scores.batches import Loss
from gossamer.scores.fisher import Fisher
from gossamer.scores.from_gradients import FromGradients
from gossamer.scores.grasp import GraSP
from gossamer.scores.magnitude import Magnitude
from gossamer.scores.movement import Movement
from gossamer.scores.random import Random
from gossamer.scores.score import SCORES, Score, Weights, check_generator, evaluating, finite, gradients
from gossamer.scores.snip import SNIP
from gossamer.scores.synflow import SynFlow
from gossamer.scores.taylor import Taylor
from gossamer.scores.wanda import Wanda

__all__ = [
    "SCORES",
    "SNIP",
    "Fisher",
    "FromGradients",
    "GraSP",
    "Loss",
    "Magnitude",
    "Movement",
    "Random",
    "Score",
    "SynFlow",
    "Taylor",
    "Wanda",
    "Weights",
    "check_generator",
    "evaluating",
    "finite",
    "gradients",
    "score",
]

for _module in pkgutil.iter_modules(__path__):  # a file that nothing above names has its plain name all the same
    importlib.import_module(f"{__name__}.{_module.name}")


def score(name: str | Score) -> Score:
    """The score of that name, or the object itself; `InputError` for what is neither."""
    if not isinstance(name, str):
        if isinstance(name, type) or not (callable(name) and hasattr(name, "iterations")):
            raise InputError(f"score is {name!r}; pass a name, or a score object such as gossamer.SNIP(batches, loss).")
        return name
    if name not in SCORES:
        raise InputError(
            f"score is {name!r}; choose {' or '.join(map(repr, SCORES))}, or pass one that carries data: "
            "SNIP(batches, loss)."
        )
    return SCORES[name]()
