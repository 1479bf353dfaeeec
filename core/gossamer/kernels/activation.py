"""The activations that a kernel applies to its result before it is stored."""

import difflib
import math
from dataclasses import dataclass

import numpy as np

from gossamer.errors import InputError

ACTIVATIONS = (
    "none",
    "relu",
    "clamp",
    "leaky_relu",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "silu",
    "gelu",
    "gelu_tanh",
)


@dataclass(frozen=True)
class Activation:
    """An elementwise function with its constants.

    clamp(x) = min(max(x, low), high), so ReLU6 is `Activation("clamp", 0, 6)`;
    leaky_relu(x) = max(x, 0) + slope·min(x, 0); hardsigmoid(x) = clamp(x/6 + 1/2, 0, 1);
    hardswish(x) = x·hardsigmoid(x); silu(x) = x·sigmoid(x);
    gelu(x) = x·Φ(x) with the exact normal distribution Φ, gelu_tanh its tanh approximation.
    """

    name: str = "none"
    low: float = -math.inf
    high: float = math.inf
    slope: float = 0.01

    def __post_init__(self):
        if self.name not in ACTIVATIONS:
            near = difflib.get_close_matches(self.name, ACTIVATIONS, 1) or ACTIVATIONS[:1]
            raise InputError(
                f"activation {self.name!r} is unknown: did you mean {near[0]!r}? ({', '.join(ACTIVATIONS)})"
            )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function of a float array of any shape, in NumPy."""
        match self.name:
            case "none":
                return x
            case "relu":
                return np.maximum(x, 0)
            case "clamp":
                return np.clip(x, self.low, self.high)
            case "leaky_relu":
                return np.where(x > 0, x, self.slope * x)
            case "hardsigmoid":
                return np.clip(x / 6 + 0.5, 0, 1)
            case "hardswish":
                return x * np.clip(x / 6 + 0.5, 0, 1)
            case "sigmoid":
                return _sigmoid(x)
            case "silu":
                return x * _sigmoid(x)
            case "gelu_tanh":
                return x * _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
            case _:
                return x * 0.5 * (1 + _erf(x / math.sqrt(2)))

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value where the function is a clamp, else minus and plus infinity."""
        return {"relu": (0, math.inf), "clamp": (self.low, self.high)}.get(self.name, (-math.inf, math.inf))

    @classmethod
    def of(cls, value: "Activation | str | None") -> "Activation":
        """`value` as an Activation: None is "none", a name takes the default constants."""
        return value if isinstance(value, cls) else cls(value or "none")  # pyright: ignore[reportArgumentType]


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf(x):
    """Abramowitz and Stegun (1964), formula 7.1.26: absolute error below 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))
