"""Prepared convolutions: a packed weight, bound to buffers, called many times."""

from collections.abc import Callable

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import Activation


class Convolution:
    """A convolution with its weights packed; see `conv2d`.

    `halo` (rows, columns) is what it wants around its input, `nonzeros` and `density` count its kept weights,
    `pattern` names the packing ("dense", "unstructured", "block(4,1)", …) and `bytes` is the packed weight's memory.
    """

    def __init__(self, weight, mask, bias, stride, padding, dilation, groups, activation):
        self.weight = weight if mask is None else np.where(mask, weight, np.float32(0))
        self.bias, self.stride, self.padding, self.dilation, self.groups = bias, stride, padding, dilation, groups
        self.activation = activation
        self.nonzeros = weight.size if mask is None else int(np.count_nonzero(mask))
        self.density = self.nonzeros / weight.size
        self.halo = tuple(max(p, (k - 1) * d - p) for k, d, p in zip(weight.shape[2:], dilation, padding, strict=True))
        self.pattern = "dense" if mask is None else "unstructured"
        self.bytes = self.weight.nbytes

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W)."""
        n, channels, *size = shape
        expected = self.weight.shape[1] * self.groups
        if channels != expected:
            raise InputError(f"the input has {channels} channels, but the weight wants {expected}")
        kernel = self.weight.shape[2:]
        oh, ow = (
            (s + 2 * p - (k - 1) * d - 1) // t + 1
            for s, k, t, p, d in zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        if oh < 1 or ow < 1:
            raise InputError(
                f"an input of {size[0]}×{size[1]} pixels is too small for a kernel of {kernel[0]}×{kernel[1]}"
            )
        return n, len(self.weight), oh, ow

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O, OH, OW) to activation(conv(x) + bias + residual), x being (N, I, H, W)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}")

        def run():
            y = reference.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
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
    """Pack weight (O, I/groups, KH, KW) where `mask` (bool, same shape) is true; all of it for the dense kernel if None.

    bias is (O,); the rest as in `torch.nn.functional.conv2d`. A 1-D convolution is one of height 1.
    """
    pairs = [(v, v) if isinstance(v, int) else tuple(v) for v in (stride, padding, dilation)]
    return Convolution(weight, mask, bias, *pairs, groups, Activation.of(activation))
