"""The activations, one entry each: the formula, PyTorch's and ONNX's form, and the operators that are captured as it.

A formula is written once, in an arithmetic `f` and a value x of it: `f` is `NUMPY` here, the plain reference, and
vectors of machine code in `functions`. An entry is all that a new activation takes; its constants are among the fields
of `Activation`, and `bounds` says of a clamp which one it is, since kernels clamp while they store.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from gossamer.errors import InputError, one_of


class Arithmetic(Protocol):
    """What a formula may use beside +, −, ·, / and > on its values."""

    def exp(self, x: Any) -> Any:
        """e^x, of no less than −87 and no more than 88."""
        ...

    def abs(self, x: Any) -> Any:
        """|x|."""
        ...

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        """min(max(x, low), high), and NaN of NaN."""
        ...

    def where(self, condition: Any, yes: Any, no: Any) -> Any:
        """`yes` where the condition holds, `no` elsewhere; both are computed everywhere."""
        ...


class _NumPy:
    """The arithmetic of float arrays."""

    abs, clip, where = staticmethod(np.abs), staticmethod(np.clip), staticmethod(np.where)

    def exp(self, x: Any) -> Any:
        return np.exp(np.clip(x, -87, 88))


NUMPY = cast(Arithmetic, _NumPy())


class Arguments(Protocol):
    """The arguments of an operator by their names, as a dict has them."""

    def __getitem__(self, name: str, /) -> Any: ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """An argument, or the default."""
        ...


Operators = Mapping[str, Callable[[Arguments], dict[str, float] | None]]


@dataclass(frozen=True)
class Function:
    """One activation in all its forms; `constants` names the fields of `Activation` that it takes, in order.

    `formula(f, x, *constants)`; `torch(functional, y, *constants)` may change y; `onnx(writer, x, y, *constants)` emits
    nodes from the value named x to the one named y; `operators` maps a name of ATen to the function from the operator's
    arguments to the constants, or to None where it is another activation; `bounds(*constants)` is a clamp's.
    """

    formula: Callable[..., Any]
    constants: tuple[str, ...]
    torch: Callable[..., Any]
    onnx: Callable[..., Any]
    operators: Operators
    bounds: Callable[..., tuple[float, float]] | None


ACTIVATIONS: dict[str, Function] = {}
"""By name, in the order of the numbers that stand for them in compiled code; 0 is none."""


def _activation(
    torch: Callable[..., Any],
    onnx: Callable[..., Any],
    operators: Operators,
    bounds: Callable[..., tuple[float, float]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated formula under its name, less a last underscore."""

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        constants = tuple(inspect.signature(formula).parameters)[2:]
        ACTIVATIONS[formula.__name__.rstrip("_")] = Function(formula, constants, torch, onnx, operators, bounds)
        return formula

    return enter


def _without_constants(arguments: Arguments) -> dict[str, float]:
    return {}


@_activation(torch=lambda functional, y: y, onnx=lambda w, x, y: w.emit("Identity", [x], y), operators={})
def none(f: Arithmetic, x: Any) -> Any:
    """x, unchanged."""
    return x


@_activation(
    torch=lambda functional, y: functional.relu_(y),
    onnx=lambda w, x, y: w.emit("Relu", [x], y),
    operators={"relu": _without_constants},
    bounds=lambda: (0.0, math.inf),
)
def relu(f: Arithmetic, x: Any) -> Any:
    """max(x, 0)."""
    return f.clip(x, 0.0, math.inf)


def _bounds_of(arguments: Arguments) -> dict[str, float] | None:
    bounds = {"low": arguments.get("min"), "high": arguments.get("max")}
    if not all(bound is None or isinstance(bound, int | float) for bound in bounds.values()):
        return None
    return {key: float(bound) for key, bound in bounds.items() if bound is not None}


@_activation(
    torch=lambda functional, y, low, high: y.clamp_(low, high),
    onnx=lambda w, x, y, low, high: w.emit("Clip", [x, w.constant(low, y + ".low"), w.constant(high, y + ".high")], y),
    operators={
        "relu6": lambda a: {"low": 0.0, "high": 6.0},
        "hardtanh": lambda a: {"low": float(a["min_val"]), "high": float(a["max_val"])},
        "clamp": _bounds_of,
        "clamp_min": _bounds_of,
        "clamp_max": _bounds_of,
    },
    bounds=lambda low, high: (low, high),
)
def clamp(f: Arithmetic, x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high)."""
    return f.clip(x, low, high)


@_activation(
    torch=lambda functional, y, slope: functional.leaky_relu_(y, slope),
    onnx=lambda w, x, y, slope: w.emit("LeakyRelu", [x], y, alpha=slope),
    operators={"leaky_relu": lambda a: {"slope": float(a["negative_slope"])}},
)
def leaky_relu(f: Arithmetic, x: Any, slope: Any) -> Any:
    """max(x, 0) + slope · min(x, 0)."""
    return f.where(x > 0.0, x, x * slope)


@_activation(
    torch=lambda functional, y: functional.hardswish(y, inplace=True),
    onnx=lambda w, x, y: w.emit("HardSwish", [x], y),
    operators={"hardswish": _without_constants},
)
def hardswish(f: Arithmetic, x: Any) -> Any:
    """x · hardsigmoid(x)."""
    return x * hardsigmoid(f, x)


@_activation(
    torch=lambda functional, y: functional.hardsigmoid(y, inplace=True),
    onnx=lambda w, x, y: w.emit("HardSigmoid", [x], y, alpha=1 / 6, beta=0.5),
    operators={"hardsigmoid": _without_constants},
)
def hardsigmoid(f: Arithmetic, x: Any) -> Any:
    """clamp(x/6 + 1/2, 0, 1)."""
    return f.clip(x * (1 / 6) + 0.5, 0.0, 1.0)


@_activation(
    torch=lambda functional, y: y.sigmoid_(),
    onnx=lambda w, x, y: w.emit("Sigmoid", [x], y),
    operators={"sigmoid": _without_constants},
)
def sigmoid(f: Arithmetic, x: Any) -> Any:
    """1 / (1 + e^−x)."""
    return 1.0 / (f.exp(-x) + 1.0)


@_activation(
    torch=lambda functional, y: functional.silu(y, inplace=True),
    onnx=lambda w, x, y: w.emit("Mul", [x, w.emit("Sigmoid", [x], y + ".gate")], y),
    operators={"silu": _without_constants},
)
def silu(f: Arithmetic, x: Any) -> Any:
    """x · sigmoid(x)."""
    return x * sigmoid(f, x)


@_activation(
    torch=lambda functional, y: functional.gelu(y),
    onnx=lambda w, x, y: w.emit("Gelu", [x], y),
    operators={"gelu": lambda a: {} if a["approximate"] == "none" else None},
)
def gelu(f: Arithmetic, x: Any) -> Any:
    """x · Φ(x), Φ the normal distribution: erfc(z) / 2 by Abramowitz and Stegun (1964), 7.1.26, to 1e-7."""
    z = f.abs(x) * math.sqrt(0.5)
    t = 1.0 / (z * 0.3275911 + 1.0)
    series = (((t * 1.061405429 - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592
    tail = series * t * f.exp(-(z * z)) * 0.5
    return x * f.where(x > 0.0, 1.0 - tail, tail)


@_activation(
    torch=lambda functional, y: functional.gelu(y, approximate="tanh"),
    onnx=lambda w, x, y: w.emit("Gelu", [x], y, approximate="tanh"),
    operators={"gelu": lambda a: {} if a["approximate"] == "tanh" else None},
)
def gelu_tanh(f: Arithmetic, x: Any) -> Any:
    """x · sigmoid(√(8/π) (x + 0.044715 x³)), which is GELU by its tanh."""
    return x * sigmoid(f, (x * x * 0.044715 + 1.0) * x * math.sqrt(8 / math.pi))


@_activation(
    torch=lambda functional, y: y.tanh_(),
    onnx=lambda w, x, y: w.emit("Tanh", [x], y),
    operators={"tanh": _without_constants},
)
def tanh(f: Arithmetic, x: Any) -> Any:
    """tanh(x), near 0 by the polynomial of Cephes' tanhf (Moshier), which keeps the last digits there."""
    z = x * x
    series = (((z * -5.70498872745e-3 + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z
    near = (series - 3.33332819422e-1) * z * x + x
    return f.where(f.abs(x) > 0.625, 1.0 - 2.0 / (f.exp(x * 2.0) + 1.0), near)


@dataclass(frozen=True)
class Activation:
    """An elementwise function by its name in `ACTIVATIONS`, with its constants; ReLU6 is `Activation("clamp", 0, 6)`.

    Raises `InputError` for an unknown name and for a constant that the function does not take.
    """

    name: str = "none"
    low: float = -math.inf
    high: float = math.inf
    slope: float = 0.01

    def __post_init__(self) -> None:
        one_of(ACTIVATIONS, activation=self.name)
        for constant, default in (("low", -math.inf), ("high", math.inf), ("slope", 0.01)):
            value = getattr(self, constant)
            if value != default and constant not in self.function.constants:
                raise InputError(f"activation {self.name!r} has no {constant} (it is {value!r}): leave it out")

    @property
    def function(self) -> Function:
        """The entry of its name."""
        return ACTIVATIONS[self.name]

    @property
    def number(self) -> int:
        """What stands for its name in compiled code."""
        return list(ACTIVATIONS).index(self.name)

    @property
    def constants(self) -> tuple[float, ...]:
        """The constants of its formula, in order."""
        return tuple(getattr(self, name) for name in self.function.constants)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value where the function is a clamp, else minus and plus infinity."""
        return self.function.bounds(*self.constants) if self.function.bounds else (-math.inf, math.inf)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function of a float array of any shape, in NumPy."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.function.formula(NUMPY, x, *self.constants)

    @classmethod
    def of(cls, value: "Activation | str | None") -> "Activation":
        """`value` as an Activation: None is "none", a name takes the default constants."""
        return value if isinstance(value, cls) else cls(value or "none")  # pyright: ignore[reportArgumentType]
