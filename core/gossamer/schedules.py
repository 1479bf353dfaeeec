"""Schedules: how far along the way to its end something is, as a function of progress in [0, 1]."""

import math
from collections.abc import Callable

from gossamer.errors import InputError, function_of

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """All at once: 1."""
    return 1.0


def linear(progress: float) -> float:
    """p: in step with the training."""
    return progress


def cubic(progress: float) -> float:
    """1 − (1 − p)³: gradual magnitude pruning (Zhu & Gupta 2017)."""
    return 1 - (1 - progress) ** 3


def cosine(progress: float) -> float:
    """(1 − cos πp) / 2."""
    return (1 - math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "cubic": cubic, "cosine": cosine}


def schedule(name: str | Schedule) -> Schedule:
    """The schedule of that name, or the function itself."""
    if callable(name):
        function_of(1, "a name, or a function of progress in [0, 1]", schedule=name)
        return name
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError(f"schedule is {name!r}; choose one of {', '.join(SCHEDULES)}, or pass a function of progress.")
    return SCHEDULES[name]
