"""The fixed list of the engine's operations, in one file each or a few that belong together.

An entry says everything of its operation: the shape that it makes, the plain NumPy reference, its compiled form where
there is one, its form in ONNX and the calls of PyTorch that are captured as it; `entry` describes the fields. To add
one, write its file: every `NAME = Operation(…)` in this package is the operation "name".
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from gossamer.engine.operations.entry import LARGEST, Call, NotCapturedError, Operation, Shape, floats

__all__ = ["LARGEST", "OF_ANY_KIND", "OPERATIONS", "RULES", "UNCHANGED", "NotCapturedError", "Shape"]

OPERATIONS: dict[str, Operation] = {
    name.lower(): entry
    for module in pkgutil.iter_modules(__path__)
    for name, entry in vars(importlib.import_module(f"{__name__}.{module.name}")).items()
    if isinstance(entry, Operation)
}
"""Each operation by its name in a graph's nodes and in files."""

UNCHANGED = ("dropout", "clone", "contiguous", "detach", "alias", "feature_dropout", "lift_fresh_copy")
"""Operators of ATen that return what they were given."""


def _unchanged(call: Call) -> Any:
    if call.get("train"):
        raise NotCapturedError("dropout in training")
    return call.get("input", call.get("self"))


def _rules() -> dict[str, Callable[[Call], Any]]:
    rules: dict[str, Callable[[Call], Any]] = dict.fromkeys(UNCHANGED, _unchanged)
    for name, operation in OPERATIONS.items():
        for operator, rule in operation.captures.items():
            if operator in rules:
                raise ValueError(f"{operator} is captured as {name} and as something else")
            rules[operator] = rule
    return rules


RULES = _rules()
"""An operator of ATen and the rule that turns its calls into nodes."""

OF_ANY_KIND = set(UNCHANGED) | {
    operator for one in OPERATIONS.values() if one.kind is not floats for operator in one.captures
}
"""Operators of ATen that may make something other than float32."""
