"""Prepared convolutions: a packed weight, bound to buffers, called many times."""

from collections.abc import Callable, Sequence

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import Activation
from gossamer.kernels.geometry import Geometry
from gossamer.kernels.packing import Weights
from gossamer.kernels.target import available


class Convolution:
    """A convolution with its weights packed; see `conv2d`.

    `shape` is the weight's, `halo` (rows, columns) what it wants around its input, `nonzeros` and `density` count its
    kept weights, `pattern` names the packing ("dense", "unstructured", "block(4,1)", …) and `bytes` is its memory.
    """

    def __init__(
        self, weights: Weights, geometry: Geometry, activation: Activation, size: tuple[int, int] | None = None
    ):
        self.geometry, self.activation, self.groups = geometry, activation, geometry.groups
        self.shape, self.halo = geometry.shape, geometry.padding
        self.nonzeros, self.pattern = weights.nonzeros, weights.pattern
        self.density = self.nonzeros / max(1, np.prod(self.shape))
        self.weights, self.is_sized = weights, size is not None and available()
        if size is not None and self.is_sized:
            from gossamer.kernels.binding import packed

            self.weights = packed(weights, geometry, size)

    @property
    def bytes(self) -> int:
        """The memory of the packed weight."""
        return self.weights.bytes

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W)."""
        return self.geometry.output_shape(shape)

    def bind(
        self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None, *, threads: int = 1
    ) -> Callable[[], None]:
        """A call that sets out (N, O, OH, OW) to activation(conv(x) + bias + residual), x being (N, I, H, W)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}.")
        if residual is not None and residual.shape != out.shape:
            raise InputError(f"the residual has shape {residual.shape}, not {out.shape} like out.")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or any(a.dtype != np.float32 or a.strides[3] != 4 for a in arrays):
            return self._plain(x, out, residual)
        from gossamer.kernels.binding import bind, packed
        from gossamer.kernels.tasks import Program

        height, width = x.shape[2:]
        weights = self.weights if self.is_sized else packed(self.weights, self.geometry, (height, width))
        return Program(bind(weights, self.geometry, self.activation, x, out, residual, threads), threads)

    def _plain(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> Callable[[], None]:
        weight, g = self.weights.dense().reshape(self.shape), self.geometry

        def run() -> None:
            y = reference.conv2d(x, weight, self.weights.bias, g.stride, g.padding, g.dilation, g.groups)
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
    size: tuple[int, int] | None = None,
) -> Convolution:
    """Pack weight (O, I/groups, KH, KW) where `mask` (bool, same shape) is true; all of it if None.

    bias is (O,); the rest as in `torch.nn.functional.conv2d`. A 1-D convolution is one of height 1. With the `size`
    (H, W) of the images to come, the weights lie once for all in the order that suits them; without, each binding sorts
    a copy of its own. Raises InputError where mask, groups or bias do not fit the weight.
    """
    if mask is not None and (mask.dtype != bool or mask.shape != weight.shape):
        raise InputError(f"the mask is {mask.dtype} of shape {mask.shape}, not bool of the weight's {weight.shape}.")
    sizes = None if bias is None else bias.shape
    if len(weight) % groups or sizes not in (None, weight.shape[:1]):
        raise InputError(f"{groups} groups and a bias of {sizes} do not fit a weight of {weight.shape}.")
    outputs, inputs, height, width = weight.shape
    shape = (outputs, inputs, height * width)
    weights = Weights.of(weight.reshape(shape), None if mask is None else mask.reshape(shape), groups, bias)
    geometry = Geometry((outputs, inputs, height, width), _pair(stride), _pair(padding), _pair(dilation), groups)
    return Convolution(weights, geometry, Activation.of(activation), size)


def _pair(size: tuple[int, int] | int) -> tuple[int, int]:
    rows, columns = (size, size) if isinstance(size, int) else size
    return rows, columns
