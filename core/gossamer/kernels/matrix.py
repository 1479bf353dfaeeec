"""Prepared matrix products: y = activation(x · Wᵀ + bias + residual)."""

from collections.abc import Callable

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import Activation


class Linear:
    """A linear layer with its weights packed; see `linear`. Its attributes are those of `Convolution`, but for `halo`."""

    def __init__(self, weight, mask, bias, activation):
        self.weight = weight if mask is None else np.where(mask, weight, np.float32(0))
        self.bias, self.activation = bias, activation
        self.nonzeros = weight.size if mask is None else int(np.count_nonzero(mask))
        self.density = self.nonzeros / weight.size
        self.pattern = "dense" if mask is None else "unstructured"
        self.bytes = self.weight.nbytes

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The output's (N, O) for an input of shape (N, I)."""
        if shape[1] != self.weight.shape[1]:
            raise InputError(f"the input has {shape[1]} features, but the weight wants {self.weight.shape[1]}")
        return shape[0], len(self.weight)

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O) to activation(x · Wᵀ + bias + residual), x being (N, I)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}")

        def run():
            y = reference.linear(x, self.weight, self.bias)
            out[...] = self.activation(y if residual is None else y + residual)

        return run


def linear(
    weight: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    activation: Activation | str | None = None,
) -> Linear:
    """Pack weight (O, I) where `mask` (bool, same shape) is true; all of it for the dense kernel if None. bias is (O,)."""
    return Linear(weight, mask, bias, Activation.of(activation))
