"""Prepared convolutions: a packed weight, bound to buffers, called many times."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import packing, reference
from gossamer.kernels.activation import Activation
from gossamer.kernels.geometry import Axis
from gossamer.kernels.target import available


class Convolution:
    """A convolution with its weights packed; see `conv2d`.

    `halo` (rows, columns) is what it wants around its input, `nonzeros` and `density` count its kept weights,
    `pattern` names the packing ("dense", "unstructured", "block(4,1)", …) and `bytes` is the packed weight's memory.
    """

    def __init__(self, weight, mask, bias, stride, padding, dilation, groups, activation):
        self.shape, self.groups, self.activation = weight.shape, groups, activation
        self.stride, self.padding, self.dilation = stride, padding, dilation
        keep = np.ones(weight.shape, bool) if mask is None else mask
        self.mask = keep
        self.bias = np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)
        self.values = np.append(weight[keep], 0).astype(np.float32)
        self.nonzeros = self.values.size - 1
        self.density = self.nonzeros / weight.size
        self.halo = tuple(padding)
        self.sections = packing.sections(keep.reshape(len(weight), -1), groups)
        self.pattern = "dense" if self.density == 1 else packing.name(self.sections)
        self.bytes = sum(4 * section.source.size + 4 * section.group.size for section in self.sections)

    def axes(self, size: tuple[int, ...]) -> list[Axis]:
        """The two directions on an input of `size` (H, W)."""
        each = zip(size, self.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return [Axis(*numbers) for numbers in each]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W)."""
        n, channels, h, w = shape
        expected = self.shape[1] * self.groups
        if channels != expected:
            raise InputError(f"the input has {channels} channels, but the weight wants {expected}")
        oh, ow = (axis.output for axis in self.axes((h, w)))
        if oh < 1 or ow < 1:
            raise InputError(
                f"an input of {h}×{w} pixels is too small for a kernel of {'×'.join(map(str, self.shape[2:]))}"
            )
        return n, self.shape[0], oh, ow

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O, OH, OW) to activation(conv(x) + bias + residual), x being (N, I, H, W)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or any(a.dtype != np.float32 or a.strides[3] != 4 for a in arrays):
            return self._plain(x, out, residual)
        from gossamer.kernels.binding import bind

        return bind(self.weights, self.axes(x.shape[2:]), x, out, residual, threads)

    @cached_property
    def weights(self):
        """The weights in the form that the kernels take."""
        from gossamer.kernels.strips import Weights

        return Weights(self.sections, self.values, self.bias, self.activation, self.groups)

    def _plain(self, x, out, residual):
        weight = np.zeros(self.shape, self.values.dtype)
        weight[self.mask] = self.values[:-1]

        def run():
            y = reference.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
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
    pairs = [(v, v) if isinstance(v, int) else tuple(v) for v in (stride, padding, dilation)]
    return Convolution(weight, mask, bias, *pairs, groups, Activation.of(activation))
