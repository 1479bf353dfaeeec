"""The one exception of ours, input that a person can mend, and the checks that raise it."""

import difflib
import inspect
import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


class InputError(ValueError):
    """Input that cannot be used. The message names the input, its value and the remedy.

    The commands print it without a traceback and exit with status 2; any other exception is a bug of ours.
    """


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM; the message says what is kept of it."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where one of the choices is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(choices: Iterable[str], **values: str | None) -> None:
    """Raise `InputError` for a value that is none of the choices, with the nearest of them. None passes."""
    choices = list(choices)
    for name, value in values.items():
        if value is not None and value not in choices:
            near = nearest(str(value), choices)
            raise InputError(f"{name} is {value!r}{near}; it must be one of {', '.join(choices)}.")


def positive(**values: float | None) -> None:
    """Raise `InputError` for a value that is not above 0 and finite. None passes."""
    _refuse(lambda value: 0 < value < math.inf, "above 0 and finite", values)


def finite(**values: float | None) -> None:
    """Raise `InputError` for a value that is infinite or no number. None passes."""
    _refuse(math.isfinite, "a finite number", values)


def within(low: float, high: float, **values: float | None) -> None:
    """Raise `InputError` for a value outside [low, high]. None passes."""
    _refuse(lambda value: low <= value <= high, f"in [{low:g}, {high:g}]", values)


def share(**values: float | None) -> None:
    """Raise `InputError` for a value outside [0, 1), where sparsities and decays lie. None passes."""
    _refuse(lambda value: 0 <= value < 1, "in [0, 1)", values)


def check_sparsity(sparsity: float) -> None:
    """Raise `InputError` for what is no sparsity."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity!r}; it must be in [0, 1): 0.9 removes nine weights of ten.")


def at_least(least: float, **values: float | None) -> None:
    """Raise `InputError` for a value below `least`, or infinite. None passes."""
    _refuse(lambda value: least <= value < math.inf, f"at least {least:g}", values)


def learning_rate(**values: float | None) -> None:
    """Raise `InputError` for a learning rate outside (0, 10]. None passes."""
    _refuse(lambda value: 0 < value <= 10, "above 0 and at most 10", values)


def whole(least: int, **values: int) -> None:
    """Raise `InputError` for a value that is no whole number, or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} is {value!r:.60}; it must be a whole number of at least {least}.")


def function_of(count: int, asked: str, **values: Any) -> None:
    """Raise `InputError` for a value that is no function of `count` arguments, saying what was `asked`. None passes."""
    for name, value in values.items():
        try:
            inspect.signature(value).bind(*range(count))
            fits = not isinstance(value, type) and not hasattr(value, "forward")  # a class or a module is none
        except (TypeError, ValueError):
            fits = False
        if value is not None and not fits:
            raise InputError(f"{name} is {value!r:.60}; it must be {asked}.")


def of_type(kinds: Any, asked: str, **values: Any) -> None:
    """Raise `InputError` for a value that is none of the kinds, saying that it must be what was `asked`."""
    for name, value in values.items():
        if not isinstance(value, kinds):
            plain = isinstance(value, str | int | float)
            told = f"{value!r:.40} ({type(value).__name__})" if plain else f"a {type(value).__name__}"
            raise InputError(f"{name} is {told}; it must be {asked}.")


def a_path(**values: Any) -> None:
    """Raise `InputError` for a value that is no path of a file."""
    of_type((str, os.PathLike), "the path of a file", **values)


def _refuse(fits: Any, range_: str, values: dict[str, float | None]) -> None:
    """Raise `InputError` for the first value that does not fit; nan fits nowhere, nor does what is no number."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, Real) and not isinstance(value, bool) and fits(value)):
            raise InputError(f"{name} is {value!r:.60}; it must be {range_}.")
