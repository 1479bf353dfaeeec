"""The engine's pooling operations: for each the shape that it makes, and its plain NumPy reference."""

import numpy as np

from gossamer.engine.operation import Shape, is_flag, operation, pair_of_counts, pair_of_sizes, require


def _pool_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    batch, channels, *size = inputs[0]
    require(len(size) == 2, "a batch of images")
    dilation = attributes.get("dilation", [1, 1])
    spatial = []
    for n, k, s, p, d in zip(
        size, attributes["kernel"], attributes["stride"], attributes["padding"], dilation, strict=True
    ):
        require(2 * p <= k, f"padding {p} of a window of {k}")
        room = n + 2 * p - d * (k - 1) - 1
        out = (-(-room // s) if attributes["ceil"] else room // s) + 1
        spatial.append(out - 1 if attributes["ceil"] and (out - 1) * s >= n + p else out)
    require(min(spatial) > 0, f"input {inputs[0]} is smaller than the window")
    return (batch, channels, *spatial)


def _windows(x: np.ndarray, attributes: dict, fill: float) -> np.ndarray:
    """Return the view (batch, channels, out rows, out columns, kernel rows, kernel columns) of the padded input."""
    shape = _pool_shape([x.shape], {}, attributes)[2:]
    kernel, stride, dilation = attributes["kernel"], attributes["stride"], attributes.get("dilation", [1, 1])
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    after = [
        max(0, (o - 1) * s + e - n - p)
        for o, s, e, n, p in zip(shape, stride, extent, x.shape[2:], attributes["padding"], strict=True)
    ]
    around = list(zip(attributes["padding"], after, strict=True))
    x = np.pad(x, ((0, 0), (0, 0), *around), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]][:, :, : shape[0], : shape[1]]


_POOL = {"kernel": pair_of_counts, "stride": pair_of_counts, "padding": pair_of_sizes, "ceil": is_flag}


@operation("max_pool2d", _pool_shape, **_POOL, dilation=pair_of_counts)
def max_pool2d(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The largest value of each window; the padding counts as minus infinity."""
    return _windows(inputs[0], attributes, -np.inf).max((4, 5))


def pool_divisors(size: Shape, attributes: dict) -> np.ndarray:
    """Return by how much avg_pool2d divides each window's sum: (out rows, out columns)."""
    shape = _pool_shape([(1, 1, *size)], {}, attributes)[2:]
    counts = []
    for axis in range(2):
        n, k, s, p = size[axis], *(attributes[name][axis] for name in ("kernel", "stride", "padding"))
        start = np.arange(shape[axis]) * s - p
        stop = np.minimum(start + k, n + p)
        counts.append(stop - start if attributes["count_padding"] else np.minimum(stop, n) - np.maximum(start, 0))
    return np.outer(*counts).astype(np.float32)


@operation("avg_pool2d", _pool_shape, **_POOL, count_padding=is_flag)
def avg_pool2d(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The mean of each window; `count_padding` says whether the padding's zeros are counted."""
    return _windows(inputs[0], attributes, 0).sum((4, 5)) / pool_divisors(inputs[0].shape[2:], attributes)


def _adaptive_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(len(inputs[0]) == 4, "a batch of images")
    return (*inputs[0][:2], *attributes["size"])


def adaptive_weights(inputs: int, outputs: int) -> np.ndarray:
    """Return the (outputs, inputs) matrix whose row i averages the inputs floor(i n / m) to ceil((i + 1) n / m)."""
    weights = np.zeros((outputs, inputs), np.float32)
    for i in range(outputs):
        start, stop = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


@operation("adaptive_avg_pool2d", _adaptive_shape, size=pair_of_counts)
def adaptive_avg_pool2d(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The means of `size` windows that cover the image evenly."""
    down, right = (adaptive_weights(n, m) for n, m in zip(inputs[0].shape[2:], attributes["size"], strict=True))
    return (down @ inputs[0]) @ right.T
