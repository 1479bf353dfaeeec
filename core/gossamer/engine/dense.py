"""Dense layers by torch on NumPy arrays, whose memory they share."""

import numpy as np
import torch
import torch.nn.functional as functional

from gossamer.engine.node import Node
from gossamer.engine.steps import Step
from gossamer.kernels import Activation


def _activate(activation: dict | None, y: torch.Tensor) -> torch.Tensor:
    one = Activation(**activation or {})
    return one.function.torch(functional, y, *one.constants)


class DenseLayer:
    """A convolution or a linear map by torch, bound like the layers of `gossamer.kernels`."""

    pattern = "dense"

    def __init__(self, node: Node, weight: np.ndarray, bias: np.ndarray | None, matrix: bool) -> None:
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
        """The weight as it was given."""
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
