"""What an operation of the engine is: all that there is to say of it, in one entry.

A rule of capture turns a call of PyTorch into nodes by way of a `Call`; a form in ONNX is written by way of a `Writer`.
Neither needs torch or onnx to be imported here, so that an engine's file is read without them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from gossamer.engine.node import Node
from gossamer.kernels import ACTIVATIONS, Activation

if TYPE_CHECKING:
    import torch


Shape = tuple[int, ...]
Check = Callable[[Any], bool]
LARGEST = 2**31


class NotCapturedError(Exception):
    """This part of the model cannot be written in the engine's operations."""


class Call(Protocol):
    """One call of PyTorch that is being captured; `call["weight"]` is an argument by its name in ATen's schema.

    Arguments are names of values (str), constant tensors, numbers, sizes that are not known yet, or lists of these.
    `operator` is its name without overload and underscore, `shape` the first argument's (int, or a symbol for the
    batch), `sizes` the result's, with -1 in the place of the batch.
    """

    operator: str

    def __getitem__(self, name: str) -> Any: ...
    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or the default where the operator has none of this name."""
        ...

    @property
    def shape(self) -> tuple[Any, ...]:
        """The first argument's shape."""
        ...

    @property
    def sizes(self) -> list[int]:
        """The result's shape, from those of the inputs."""
        ...

    def kind(self, value: str) -> str:
        """The dtype of a value."""
        ...

    @property
    def result_kind(self) -> str:
        """The dtype of the result."""
        ...

    def uses(self, place: int) -> bool:
        """Whether this one of several results is used."""
        ...

    def everywhere(self, value: Any) -> str:
        """A constant as a value, the same for every input of the batch; a value as it is."""
        ...

    def emit(
        self, operation: str, inputs: list[Any], tensors: Mapping[str, Any] | None = None, **attributes: Any
    ) -> str:
        """Append a node and return its value's name. A tensor that is None is left out."""
        ...

    def renamed(self, value: "torch.Tensor", source: "torch.Tensor", how: str) -> "torch.Tensor":
        """Give a tensor a name after the one that it was made from, and how."""
        ...


class Writer(Protocol):
    """Collects the ONNX nodes and initializers of a graph; `shapes` are its values' for two inputs, `kinds` dtypes."""

    shapes: dict[str, Shape]
    kinds: dict[str, str]

    def emit(self, operator: str, inputs: list[str], output: str, *more: str, **attributes: Any) -> str:
        """Append an ONNX node and return its output's name; `more` are the names of further outputs."""
        ...

    def constant(self, value: Any, name: str, dtype: Any = np.float32) -> str:
        """Add an initializer and return its name."""
        ...

    def tensor(self, node: Node, role: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        """Add one of the node's tensors, changed if asked, and return its name; "" where it has none of this role."""
        ...

    def apply(self, activation: dict[str, Any] | None, x: str, y: str) -> None:
        """Write an activation in JSON form from one value to another."""
        ...

    def ends(self, node: Node, residual: bool = True) -> str:
        """The name for a result that `finish` goes on with, or ends with."""
        ...

    def finish(self, node: Node, value: str, residual: bool = True) -> None:
        """Add the node's second input, where that is a residual, and apply its activation."""
        ...


def floats(kinds: list[str], attributes: dict[str, Any]) -> str | None:
    """The dtype of an operation on float32; None where an input has another."""
    return "float32" if all(kind == "float32" for kind in kinds) else None


def same_kind(kinds: list[str], attributes: dict[str, Any]) -> str | None:
    """The dtype of an operation that moves values of any kind."""
    return kinds[0] if len(set(kinds)) == 1 else None


def never(attributes: dict[str, Any], rank: int) -> bool:
    """Say that inputs of a batch do not see each other, whatever the attributes."""
    return False


def along_axis(attributes: dict[str, Any], rank: int) -> bool:
    """Say whether the batch is the `axis`, or one of the `axes`, that the operation goes along."""
    return attributes.get("axis") == 0 or 0 in attributes.get("axes", ())


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One entry of the list.

    inputs: how many values it reads. tensors: the roles of its constants (`bias?` may be absent). attributes: a check
    for each. shape: `(inputs, tensors, attributes)` on shapes to the result's. run: the same on arrays, in plain NumPy,
    the reference. onnx: `(writer, node)` writes its nodes. captures: an operator of ATen and the rule that turns its
    calls into nodes. mixes: `(attributes, rank of the first input)`, whether inputs of a batch see each other; they do
    along an `axis` of 0 or among `axes`, if nothing else is said. kind:
    `(dtypes of the inputs, attributes)` to the result's, None where it does not take them. bind: `(inputs, tensors,
    attributes, out)` on float32 arrays to the call without arguments that sets `out` in compiled code, None where there
    is nothing to do, NotImplemented where it does not take these arrays; `compiled` has what it is made of. torch:
    `(torch, inputs, tensors, attributes)`, a faster way than the reference where torch is at hand and nothing is
    compiled. layer: its weight is packed, and its kernel chosen by measuring. fuses: it adds a second input, then
    applies an activation.
    """

    inputs: range = range(1, 2)
    tensors: tuple[str, ...] = ()
    attributes: Mapping[str, Check] = field(default_factory=dict)
    shape: Callable[[list[Shape], dict[str, Shape], dict[str, Any]], Shape]
    run: Callable[[list[np.ndarray], dict[str, np.ndarray], dict[str, Any]], np.ndarray]
    onnx: Callable[[Writer, Node], Any]
    captures: Mapping[str, Callable[[Call], Any]]
    mixes: Callable[[dict[str, Any], int], bool] = along_axis
    kind: Callable[[list[str], dict[str, Any]], str | None] = floats
    bind: Callable[[list[np.ndarray], dict[str, np.ndarray], dict[str, Any], np.ndarray], Any] | None = None
    torch: Callable[..., Any] | None = None
    layer: bool = False
    fuses: bool = False

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
        if any(size < 0 for size in shape) or math.prod(shape) >= LARGEST:
            raise ValueError(f"result of shape {shape}")
        return shape


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


def each(check: Check, length: int | None = None) -> Check:
    """Return the check of a list whose elements pass `check`."""

    def checked(value: Any) -> bool:
        return type(value) is list and (length is None or len(value) == length) and all(map(check, value))

    return checked


pair_of_counts, pair_of_sizes, integers = each(is_count, 2), each(is_size, 2), each(is_integer)


def check_activation(value: Any) -> bool:
    """Say whether this is the JSON form of an activation: None, or the arguments of `kernels.Activation`."""
    if value is None:
        return True
    if type(value) is not dict or type(value.get("name")) is not str or value["name"] not in ACTIVATIONS:
        return False
    constants = {key: constant for key, constant in value.items() if key != "name"}
    return set(constants) <= set(ACTIVATIONS[value["name"]].constants) and all(map(is_number, constants.values()))


def activate(value: dict[str, Any] | None, y: np.ndarray) -> np.ndarray:
    """Return activation(y) for an activation in JSON form."""
    return (Activation(**value)(y) if value else y).astype(np.float32, copy=False)


def finish(y: np.ndarray, inputs: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """Return activation(y + residual), the residual being the second input, if there is one."""
    return activate(attributes["activation"], y + inputs[1] if len(inputs) > 1 else y)


def check_residual(inputs: list[Shape], shape: Shape) -> Shape:
    """Return the result's shape, which a second input must have. Raises ValueError where it has another."""
    require(all(other == shape for other in inputs[1:]), f"residual {inputs[1:]} does not have the shape {shape}")
    return shape


def same_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    """The shape of an operation whose result is as large as its input."""
    return inputs[0]


def require(condition: bool, message: str) -> None:
    """Raise ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def is_tensor(value: Any) -> "TypeGuard[torch.Tensor]":
    """Say whether an argument is a constant tensor."""
    return hasattr(value, "is_floating_point")


def pair(value: Any) -> list[int]:
    """Return one or two numbers as two."""
    value = [value] if isinstance(value, int) else list(value)
    return [int(v) for v in (value * 2 if len(value) == 1 else value)]
