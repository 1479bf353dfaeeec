"""What an operation of the engine is: its checks, the shape that it makes, and its plain NumPy reference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.kernels import ACTIVATIONS, Activation

Shape = tuple[int, ...]
LARGEST = 2**31


@dataclass(frozen=True)
class Operation:
    """One entry of the list: how many inputs, which tensors (`bias?` may be absent), checks of the attributes."""

    inputs: range
    tensors: tuple[str, ...]
    attributes: dict[str, Callable[[Any], bool]]
    shape: Callable[..., Shape]
    run: Callable[..., np.ndarray]

    def infer(self, inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
        """Return the shape of the result. Raises ValueError where anything is missing, unknown or does not fit."""
        if len(inputs) not in self.inputs:
            raise ValueError(f"{len(inputs)} inputs")
        roles = {role.rstrip("?") for role in self.tensors}
        needed = {role for role in self.tensors if not role.endswith("?")}
        if not needed <= set(tensors) <= roles:
            raise ValueError(f"tensors {sorted(tensors)} in place of {self.tensors}")
        if set(attributes) != set(self.attributes):
            raise ValueError(f"attributes {sorted(attributes)} in place of {sorted(self.attributes)}")
        for name, check in self.attributes.items():
            if not check(attributes[name]):
                raise ValueError(f"{name} = {attributes[name]!r}")
        shape = self.shape(inputs, tensors, attributes)
        if any(size < 0 for size in shape) or np.prod(shape, dtype=np.float64) >= LARGEST:
            raise ValueError(f"result of shape {shape}")
        return shape


OPERATIONS: dict[str, Operation] = {}


def is_count(value: Any) -> bool:
    """Say whether this is a whole number from 1 up."""
    return type(value) is int and 0 < value < LARGEST


def is_size(value: Any) -> bool:
    """Say whether this is a whole number from 0 up."""
    return type(value) is int and 0 <= value < LARGEST


def is_integer(value: Any) -> bool:
    """Say whether this is a whole number."""
    return type(value) is int and abs(value) < LARGEST


def is_number(value: Any) -> bool:
    """Say whether this is a number."""
    return type(value) in (int, float)


def is_flag(value: Any) -> bool:
    """Say whether this is true or false."""
    return type(value) is bool


def check_activation(value: Any) -> bool:
    """Say whether this is the JSON form of an activation: None, or the arguments of `kernels.Activation`."""
    if value is None:
        return True
    known = type(value) is dict and value.get("name") in ACTIVATIONS and set(value) <= {"name", "low", "high", "slope"}
    return known and all(is_number(value[key]) for key in set(value) - {"name"})


def activate(value: dict | None, y: np.ndarray) -> np.ndarray:
    """Return activation(y) for an activation in JSON form."""
    return (Activation(**value)(y) if value else y).astype(np.float32, copy=False)


def each(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """Return the check of a list whose elements pass `check`."""

    def checked(value: Any) -> bool:
        return type(value) is list and (length is None or len(value) == length) and all(map(check, value))

    return checked


pair_of_counts, pair_of_sizes, integers = each(is_count, 2), each(is_size, 2), each(is_integer)


def operation(
    name: str, infer: Callable[..., Shape], /, inputs: int | range = 1, tensors: str = "", **attributes: Callable
) -> Any:
    """Register the decorated function as the reference of this operation."""

    def register(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        arity = range(inputs, inputs + 1) if isinstance(inputs, int) else inputs
        OPERATIONS[name] = Operation(arity, tuple(tensors.split()), attributes, infer, run)
        return run

    return register


def require(condition: bool, message: str) -> None:
    """Raise ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)
