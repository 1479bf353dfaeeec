"""Operations between convolutions, bound to images (N, C, H, W) whose columns are adjacent, as tasks."""

import numpy as np

from gossamer.kernels import image_loops, norm_loops, pooling
from gossamer.kernels.activation import Activation
from gossamer.kernels.compiled import CFunction
from gossamer.kernels.functions import CLAMP
from gossamer.kernels.image_loops import Combine, Image, Norm, Scale, Taps
from gossamer.kernels.pooling import Pool
from gossamer.kernels.tasks import Task

FUNCTIONS = {
    "add": image_loops.ADD,
    "subtract": image_loops.SUBTRACT,
    "multiply": image_loops.MULTIPLY,
    "divide": image_loops.DIVIDE,
}
NONE = Activation()


class _Table:
    """A table of `Image` and further columns, and what it points to."""

    def __init__(
        self, size: int, x: np.ndarray, out: np.ndarray, other: np.ndarray | None = None, activation: Activation = NONE
    ):
        self.columns, self.keep = np.zeros(size, np.int64), [x, out]
        self.columns[Image.X : Image.OTHER] = x.ctypes.data, *x.strides[:3]
        if other is not None:
            self.columns[Image.OTHER : Image.OUT] = self.at(other), *other.strides[:3]
        self.columns[Image.OUT : Image.CHANNELS] = out.ctypes.data, *out.strides[:3]
        self.columns[Image.CHANNELS : Image.LOW] = out.shape[1:]
        clamps, floats = activation.function.bounds is not None, self.columns.view(np.float32)
        low, high = activation.bounds
        floats[2 * Image.LOW], floats[2 * Image.HIGH] = low if clamps else activation.slope, high
        self.columns[Image.ACTIVATION] = CLAMP if clamps else activation.number

    def at(self, array: np.ndarray) -> int:
        """The address of an array, which is kept."""
        self.keep.append(array)
        return array.ctypes.data

    def task(self, function: CFunction, items: int) -> Task:
        """The task of a loop over so many items."""
        return Task(function, self.columns, items, keep=self.keep)


def _planes(array: np.ndarray) -> int:
    return array.shape[0] * array.shape[1]


def scale(
    x: np.ndarray,
    other: np.ndarray | None,
    out: np.ndarray,
    factors: np.ndarray,
    shifts: np.ndarray,
    activation: Activation = NONE,
) -> Task:
    """out = activation(factors · x + shifts + other); factors are (1 or images, channels), shifts (channels,)."""
    table = _Table(Scale.SIZE, x, out, other, activation)
    table.columns[Scale.SCALE], table.columns[Scale.SHIFT] = table.at(factors), table.at(shifts)
    table.columns[Scale.SCALE_IMAGE] = factors.strides[0] if len(factors) > 1 else 0
    return table.task(image_loops.scale_images, _planes(out))


def combine(function: str, x: np.ndarray, other: np.ndarray, out: np.ndarray, activation: Activation = NONE) -> Task:
    """out = activation(x add, subtract, multiply or divide other), all of one shape."""
    table = _Table(Combine.SIZE, x, out, other, activation)
    table.columns[Combine.FUNCTION] = FUNCTIONS[function]
    return table.task(image_loops.combine_images, _planes(out))


def depthwise(
    x: np.ndarray,
    other: np.ndarray | None,
    out: np.ndarray,
    starts: np.ndarray,
    offsets: np.ndarray,
    values: np.ndarray,
    bias: np.ndarray,
    stride: tuple[int, int],
    activation: Activation = NONE,
) -> Task:
    """The depthwise convolution with taps `values` at `offsets` (int64, floats), those of channel c from starts[c] on.

    A channel's taps come in whole threes; x has the halo that its offsets reach.
    """
    table = _Table(Taps.SIZE, x, out, other, activation)
    arrays = (starts, offsets, values, bias)
    table.columns[Taps.STARTS : Taps.STRIDE_ROWS] = [table.at(array) for array in arrays]
    table.columns[Taps.STRIDE_ROWS : Taps.SIZE] = stride
    return table.task(image_loops.convolve_channels, _planes(out))


def layer_norm(
    x: np.ndarray, out: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float, centred: bool = True
) -> Task:
    """The norm over the channels of each pixel, with weight and bias (channels,); RMSNorm where it is not centred."""
    table = _Table(Norm.SIZE, x, out)
    table.columns[Norm.WEIGHT], table.columns[Norm.BIAS] = table.at(weight), table.at(bias)
    floats = table.columns.view(np.float32)
    floats[2 * Norm.EPSILON], floats[2 * Norm.CENTRED] = epsilon, centred
    return table.task(norm_loops.normalize_pixels, out.shape[0] * out.shape[2] * -(-out.shape[3] // norm_loops.BAND))


def mean(x: np.ndarray, out: np.ndarray) -> Task:
    """out (N, C, 1, 1) = the mean over the rows and columns of x."""
    table = _Table(Image.END, x, out)
    table.columns[Image.HEIGHT], table.columns[Image.WIDTH] = x.shape[2:]
    return table.task(pooling.average_images, _planes(out))


def max_pool_pairs(x: np.ndarray, out: np.ndarray) -> Task:
    """out[n, c, i, j] = max over a, b in {0, 1} of x[n, c, 2i + a, 2j + b]."""
    return _Table(Image.END, x, out).task(pooling.pool_pairs, _planes(out))


def pool(
    x: np.ndarray,
    out: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    divisors: np.ndarray | None = None,
) -> Task:
    """The largest value of each window or, where there are divisors (out rows, out columns), its sum by them."""
    table = _Table(Pool.SIZE, x, out)
    table.columns[Pool.ROWS : Pool.DIVISORS] = *x.shape[2:], *kernel, *stride, *padding, *dilation
    table.columns[Pool.DIVISORS] = 0 if divisors is None else table.at(np.ascontiguousarray(divisors, np.float32))
    return table.task(pooling.pool_windows, _planes(out))
