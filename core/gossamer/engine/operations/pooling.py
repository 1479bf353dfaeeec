"""Pooling of images."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import compiled
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    is_flag,
    pair,
    pair_of_counts,
    pair_of_sizes,
    require,
)
from gossamer.kernels.geometry import Axis


def _pool_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
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


def _windows(x: np.ndarray, attributes: dict[str, Any], fill: float) -> np.ndarray:
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


def max_pool2d(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The largest value of each window; the padding counts as minus infinity."""
    return _windows(inputs[0], attributes, -np.inf).max((4, 5))


def _window(a: dict[str, Any]) -> dict[str, Any]:
    sizes = {"kernel_shape": a["kernel"], "strides": a["stride"], "pads": a["padding"] * 2}
    return sizes | {"ceil_mode": int(a["ceil"])}


def _max_onnx(w: Writer, node: Node) -> None:
    window = _window(node.attributes) | {"dilations": node.attributes["dilation"]}
    w.emit("MaxPool", node.inputs, node.name, **window)


def _average_onnx(w: Writer, node: Node) -> None:
    window = _window(node.attributes) | {"count_include_pad": int(node.attributes["count_padding"])}
    w.emit("AveragePool", node.inputs, node.name, **window)


def _capture_pool(call: Call) -> str:
    if len(call.shape) != 4 or call.get("divisor_override") is not None:
        raise NotCapturedError("pooling of a single image, or with its own divisor")
    window: dict[str, Any] = {"kernel": pair(call["kernel_size"])}
    window |= {"stride": pair(call["stride"] or call["kernel_size"]), "padding": pair(call["padding"])}
    window |= {"ceil": bool(call["ceil_mode"])}
    if call.operator == "max_pool2d":
        return call.emit("max_pool2d", [call["self"]], **window, dilation=pair(call["dilation"]))
    return call.emit("avg_pool2d", [call["self"]], **window, count_padding=bool(call["count_include_pad"]))


def pool_divisors(size: Shape, attributes: dict[str, Any]) -> np.ndarray:
    """Return by how much avg_pool2d divides each window's sum: (out rows, out columns)."""
    shape = _pool_shape([(1, 1, *size)], {}, attributes)[2:]
    counts = []
    for axis in range(2):
        n, k, s, p = size[axis], *(attributes[name][axis] for name in ("kernel", "stride", "padding"))
        start = np.arange(shape[axis]) * s - p
        stop = np.minimum(start + k, n + p)
        counts.append(stop - start if attributes["count_padding"] else np.minimum(stop, n) - np.maximum(start, 0))
    return np.outer(*counts).astype(np.float32)


def _bind_pool(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    x = inputs[0]
    apart = max(attributes.get("dilation", [1, 1])) > 1 and any(attributes["padding"])  # windows may miss the image
    if apart or not compiled.fit(x, out):
        return NotImplemented
    if attributes["kernel"] == [1, 1] and attributes["padding"] == [0, 0]:
        return _every(attributes["stride"], x, out)
    average = "count_padding" in attributes
    names = ("kernel", "stride", "padding")
    sizes = [attributes[name] for name in names] + [attributes.get("dilation", [1, 1])]
    whole = all(2 * n <= size for n, size in zip(out.shape[2:], x.shape[2:], strict=True))
    if not average and whole and sizes == [[2, 2], [2, 2], [0, 0], [1, 1]]:
        return compiled.Program([compiled.images.max_pool_pairs(x, out)])
    divisors = pool_divisors(x.shape[2:], attributes) if average else None
    return compiled.Program([compiled.images.pool(x, out, *map(tuple, sizes), divisors)])


def _every(stride: list[int], x: np.ndarray, out: np.ndarray) -> Any:
    """Return the call that copies the pixels of every so many rows and columns."""
    rows, columns = (Axis(size, 1, step, 0, 1) for size, step in zip(x.shape[2:], stride, strict=True))
    return compiled.Program([compiled.splitting(rows, columns, x, out)])


MAX_POOL2D = Operation(
    attributes={**_POOL, "dilation": pair_of_counts},
    shape=_pool_shape,
    run=max_pool2d,
    onnx=_max_onnx,
    captures={"max_pool2d": _capture_pool},
    bind=_bind_pool,
)


def avg_pool2d(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The mean of each window; `count_padding` says whether the padding's zeros are counted."""
    return _windows(inputs[0], attributes, 0).sum((4, 5)) / pool_divisors(inputs[0].shape[2:], attributes)


AVG_POOL2D = Operation(
    attributes={**_POOL, "count_padding": is_flag},
    shape=_pool_shape,
    run=avg_pool2d,
    onnx=_average_onnx,
    captures={"avg_pool2d": _capture_pool},
    bind=_bind_pool,
)


def _adaptive_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs[0]) == 4, "a batch of images")
    return (*inputs[0][:2], *attributes["size"])


def adaptive_weights(inputs: int, outputs: int) -> np.ndarray:
    """Return the (outputs, inputs) matrix whose row i averages the inputs floor(i n / m) to ceil((i + 1) n / m)."""
    weights = np.zeros((outputs, inputs), np.float32)
    for i in range(outputs):
        start, stop = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


def adaptive_avg_pool2d(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]
) -> np.ndarray:
    """The means of `size` windows that cover the image evenly."""
    down, right = (adaptive_weights(n, m) for n, m in zip(inputs[0].shape[2:], attributes["size"], strict=True))
    return (down @ inputs[0]) @ right.T


def _adaptive_onnx(w: Writer, node: Node) -> None:
    sizes = zip(w.shapes[node.inputs[0]][2:], node.attributes["size"], strict=True)
    down, right = (adaptive_weights(n, m) for n, m in sizes)
    rows = w.emit("MatMul", [w.constant(down, node.name + ".rows"), node.inputs[0]], node.name + ".down")
    w.emit("MatMul", [rows, w.constant(right.T, node.name + ".columns")], node.name)


def _capture_adaptive(call: Call) -> str:
    return call.emit("adaptive_avg_pool2d", [call["self"]], size=call.sizes[2:])


ADAPTIVE_AVG_POOL2D = Operation(
    attributes={"size": pair_of_counts},
    shape=_adaptive_shape,
    run=adaptive_avg_pool2d,
    onnx=_adaptive_onnx,
    captures={"adaptive_avg_pool2d": _capture_adaptive},
)
