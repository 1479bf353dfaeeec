"""Prepared matrix products: y = activation(x · Wᵀ + bias + residual)."""

from collections.abc import Callable, Sequence

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import Activation
from gossamer.kernels.convolution import Convolution
from gossamer.kernels.geometry import Geometry
from gossamer.kernels.layout import Scratch
from gossamer.kernels.packing import Weights
from gossamer.kernels.target import available

# Both were found by `core/benchmarks/tuning.py`.
FEW = 4  # rows of input that are multiplied one by one
ROWS = 128  # rows of input that go through the kernel together


class Linear:
    """A linear layer with its weights packed; see `linear`. Its attributes are as those of `Convolution`."""

    def __init__(self, weights: Weights, activation: Activation, rows: int | None = None):
        outputs, inputs, _ = weights.shape
        size = None if rows is None or rows <= FEW else (1, min(rows, ROWS))
        pixel = Geometry((outputs, inputs, 1, 1))
        self.convolution = Convolution(weights, pixel, activation, size)
        self.shape, self.activation = (outputs, inputs), activation
        self.nonzeros, self.density, self.pattern = weights.nonzeros, self.convolution.density, weights.pattern

    @classmethod
    def of(cls, convolution: Convolution) -> "Linear":
        """The linear layer of a 1×1 convolution, with its weights."""
        layer = cls.__new__(cls)
        layer.convolution, layer.activation = convolution, convolution.activation
        layer.shape = convolution.shape[:2]
        layer.nonzeros, layer.density, layer.pattern = convolution.nonzeros, convolution.density, convolution.pattern
        return layer

    @property
    def bytes(self) -> int:
        """The memory of the packed weight."""
        return self.convolution.bytes

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """The output's (N, O) for an input of shape (N, I)."""
        if shape[1] != self.shape[1]:
            raise InputError(f"the input has {shape[1]} features, but the weight wants {self.shape[1]}.")
        return shape[0], self.shape[0]

    def bind(
        self,
        x: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None = None,
        *,
        threads: int = 1,
        scratch: Scratch | None = None,
    ) -> Callable[[], None]:
        """A call that sets out (N, O) to activation(x · Wᵀ + bias + residual), x being (N, I).

        Bindings that never run at the same time may share `scratch`; without, this one has memory of its own.
        """
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}.")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or any(a.dtype != np.float32 or a.strides[1] != 4 for a in arrays):
            return self._plain(x, out, residual)
        from gossamer.kernels.products import one_by_one, together
        from gossamer.kernels.tasks import Program

        given = self.convolution, x, out, residual, threads
        tasks = one_by_one(*given) if len(x) <= FEW else together(*given, Scratch() if scratch is None else scratch)
        return Program(tasks, threads)

    def _plain(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> Callable[[], None]:
        weights = self.convolution.weights
        weight = weights.dense()[:, :, 0]

        def run() -> None:
            y = reference.linear(x, weight, weights.bias)
            out[...] = self.activation(y if residual is None else y + residual)

        return run


def linear(
    weight: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    activation: Activation | str | None = None,
    rows: int | None = None,
) -> Linear:
    """Pack weight (O, I) where `mask` (bool, same shape) is true; all of it if None. bias is (O,).

    `rows`, how many rows of input are to come, is what `size` is to `conv2d`.
    """
    weights = Weights.of(weight[:, :, None], None if mask is None else mask[:, :, None], 1, bias)
    return Linear(weights, Activation.of(activation), rows)
