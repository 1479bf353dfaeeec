"""Dense layers by torch on NumPy arrays, whose memory they share."""

import numpy as np
import torch
import torch.nn.functional as functional

from gossamer.engine.graph import Node
from gossamer.engine.steps import Step

_ACTIVATIONS = {
    "relu": torch.relu_,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "sigmoid": torch.sigmoid_,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
}


def _activate(activation: dict | None, y: torch.Tensor) -> torch.Tensor:
    match activation and activation["name"]:
        case None | "none":
            return y
        case "clamp":
            return y.clamp_(activation.get("low"), activation.get("high"))  # type: ignore[union-attr]
        case "leaky_relu":
            return functional.leaky_relu_(y, activation.get("slope", 0.01))  # type: ignore[union-attr]
        case name:
            return _ACTIVATIONS[name](y)  # type: ignore[index]


class DenseLayer:
    """A convolution or a linear map by torch, bound like the layers of `gossamer.kernels`."""

    pattern = "dense"

    def __init__(self, node: Node, weight: np.ndarray, bias: np.ndarray | None, matrix: bool):
        weight = weight.reshape(weight.shape[:2]) if matrix else weight
        self.weight = torch.from_numpy(np.ascontiguousarray(weight))
        self.bias = None if bias is None else torch.from_numpy(bias)
        self.activation, self.matrix = node.attributes["activation"], matrix
        if not matrix:
            names = ("stride", "padding", "dilation", "groups")
            self.arguments = tuple(node.attributes[name] for name in names)

    @property
    def bytes(self) -> int:
        """The memory of the weight."""
        return self.weight.nbytes

    def dense(self) -> np.ndarray:
        """Return the weight."""
        return self.weight.numpy()

    def bind(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None, *, threads: int = 1) -> Step:
        """Return the call that sets out to activation(layer(x) + bias + residual); torch uses its own threads."""
        source, target = torch.from_numpy(x), torch.from_numpy(out)
        added = None if residual is None else torch.from_numpy(residual)

        def run() -> None:
            if self.matrix:
                y = functional.linear(source, self.weight, self.bias)
            else:
                y = torch.conv2d(source, self.weight, self.bias, *self.arguments)
            target.copy_(_activate(self.activation, y if added is None else y.add_(added)))

        return run
