"""How far a run is, how its learning rate and a time budget follow that, and how averaged weights do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


@dataclass
class Progress:
    """How far a run is: the training it is in, its epoch and the step in that, and what the epochs so far gave.

    `steps` are those done, `skipped` those that a time budget left out, `seconds` what the steps took and `spent` all.
    """

    epochs: int
    cycle: int = 0
    epoch: int = 0
    step: int = 0
    started: bool = False
    steps: int = 0
    skipped: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    loss: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


def one_cycle(progress: float, warm_up: float = 0.2) -> float:
    """The learning rate's share of its peak: linear from 0.04 to 1, then half a cosine to 0 (Smith & Topin 2018)."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


def late(spent: float, budget: float, done: int, steps: int) -> int:
    """How many steps to leave out after `done` of them, so that the rest ends within the budget, in seconds.

    Steps are due in proportion to the time after a first tenth, so that a slow start leaves none out, and before a last
    twentieth, which a last look at the held-out images may take.
    """
    due = (spent / budget - 0.1) / 0.85
    return max(0, math.ceil(min(1.0, due) * steps) - done)


def averaging(decay: float) -> Callable[..., None]:
    """How averaged weights follow the weights: a ← decay · a + (1 − decay) · w; whole numbers are copied."""
    average = get_ema_multi_avg_fn(decay)

    def follow(averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        if averaged[0].is_floating_point():
            average(averaged, current, count)
        else:
            for target, source in zip(averaged, current, strict=True):
                target.copy_(source)

    return follow
