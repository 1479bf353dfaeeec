"""Prepared convolutions: a packed weight, bound to buffers, called many times."""

from collections.abc import Callable

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import Activation
from gossamer.kernels.geometry import Axis
from gossamer.kernels.packing import Weights
from gossamer.kernels.target import available


class Convolution:
    """A convolution with its weights packed; see `conv2d`.

    `shape` is the weight's, `halo` (rows, columns) what it wants around its input, `nonzeros` and `density` count its
    kept weights, `pattern` names the packing ("dense", "unstructured", "block(4,1)", …) and `bytes` is its memory.
    """

    def __init__(self, weights: Weights, kernel, stride, padding, dilation, activation: Activation):
        outputs, inputs, _ = weights.shape
        self.weights, self.activation, self.groups = weights, activation, weights.parts
        self.shape = (outputs, inputs, *kernel)
        self.stride, self.padding, self.dilation = tuple(stride), tuple(padding), tuple(dilation)
        self.halo = self.padding
        self.nonzeros, self.pattern = weights.nonzeros, weights.pattern
        self.density = self.nonzeros / max(1, np.prod(self.shape))

    @property
    def bytes(self) -> int:
        """The memory of the packed weight."""
        return self.weights.bytes

    def axes(self, size: tuple[int, ...]) -> tuple[Axis, Axis]:
        """The two directions on an input of `size` (H, W)."""
        each = zip(size, self.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (Axis(*numbers) for numbers in each)
        return rows, columns

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W)."""
        n, channels, h, w = shape
        expected = self.shape[1] * self.groups
        if channels != expected:
            raise InputError(f"the input has {channels} channels, but the weight wants {expected}.")
        oh, ow = (axis.output for axis in self.axes((h, w)))
        if oh < 1 or ow < 1:
            kernel = "×".join(map(str, self.shape[2:]))
            raise InputError(f"an input of {h}×{w} pixels is too small for a kernel of {kernel}; pad it.")
        return n, self.shape[0], oh, ow

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O, OH, OW) to activation(conv(x) + bias + residual), x being (N, I, H, W)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}.")
        if residual is not None and residual.shape != out.shape:
            raise InputError(f"the residual has shape {residual.shape}, not {out.shape} like out.")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or not len(x) or any(a.dtype != np.float32 or a.strides[3] != 4 for a in arrays):
            return self._plain(x, out, residual)
        from gossamer.kernels.binding import bind

        return bind(self, x, out, residual, threads)

    def _plain(self, x, out, residual):
        weight = self.weights.dense().reshape(self.shape)

        def run():
            y = reference.conv2d(x, weight, self.weights.bias, self.stride, self.padding, self.dilation, self.groups)
            out[...] = self.activation(y if residual is None else y + residual)

        return run


def conv2d(
    weight: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    stride: tuple[int, int] | int = 1,
    padding: tuple[int, int] | int = 0,
    dilation: tuple[int, int] | int = 1,
    groups: int = 1,
    activation: Activation | str | None = None,
) -> Convolution:
    """Pack weight (O, I/groups, KH, KW) where `mask` (bool, same shape) is true; all of it if None.

    bias is (O,); the rest as in `torch.nn.functional.conv2d`. A 1-D convolution is one of height 1.
    """
    stride, padding, dilation = ((v, v) if isinstance(v, int) else v for v in (stride, padding, dilation))
    if mask is not None and (mask.dtype != bool or mask.shape != weight.shape):
        raise InputError(f"the mask is {mask.dtype} of shape {mask.shape}, not bool of the weight's {weight.shape}.")
    sizes = None if bias is None else bias.shape
    if len(weight) % groups or sizes not in (None, weight.shape[:1]):
        raise InputError(f"{groups} groups and a bias of {sizes} do not fit a weight of {weight.shape}.")
    shape = (*weight.shape[:2], weight.shape[2] * weight.shape[3])
    weights = Weights.of(weight.reshape(shape), None if mask is None else mask.reshape(shape), groups, bias)
    return Convolution(weights, weight.shape[2:], stride, padding, dilation, Activation.of(activation))
