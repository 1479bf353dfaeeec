"""From a node and the arrays that it reads and writes to a call without arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from gossamer.engine.graph import Graph, Node, Shape
from gossamer.engine.operations import OPERATIONS
from gossamer.engine.pooling import pool_divisors
from gossamer.kernels.geometry import Axis

try:
    from gossamer.engine import loops, pooling_loops
    from gossamer.kernels.copies import Copies
    from gossamer.kernels.pooling import MaxPool
except ImportError:  # no Numba: the plain references do the work
    loops: Any = None
    pooling_loops: Any = None
    Copies: Any = None
    MaxPool: Any = None

Step = Callable[[], Any]


class Layer(Protocol):
    """A convolution or linear map with its weights prepared, by `gossamer.kernels` or by `engine.dense` (torch)."""

    pattern: str

    @property
    def bytes(self) -> int:
        """The memory of its weights."""
        ...

    def bind(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None, *, threads: int = 1) -> Step:
        """Return the call that sets out to activation(layer(x) + bias + residual)."""
        ...


def is_matrix(node: Node, graph: Graph, shape: Shape) -> bool:
    """Say whether this layer is a matrix product: a linear map, or a 1×1 convolution of single pixels."""
    if node.operation == "linear":
        return True
    a, kernel = node.attributes, graph.tensors[node.tensors["weight"]].shape[2:]
    return a["groups"] == 1 and a["stride"] == [1, 1] and a["padding"] == [0, 0] and kernel == shape[2:] == (1, 1)


def bind_layer(node: Node, graph: Graph, layer: Layer, values: dict[str, np.ndarray], threads: int) -> Step:
    """Return the call that runs a convolution or linear map."""
    x, out = values[node.inputs[0]], values[node.name]
    residual = values[node.inputs[1]] if len(node.inputs) > 1 else None
    if is_matrix(node, graph, x.shape):
        features, outputs = graph.tensors[node.tensors["weight"]].shape[1::-1]
        x, out = x.reshape(-1, features), out.reshape(-1, outputs)
        residual = None if residual is None else residual.reshape(-1, outputs)
    return layer.bind(x, out, residual, threads=threads)


def bind_torch(node: Node, values: dict[str, np.ndarray], batch: int) -> Step:
    """Return the call that runs a node of the operation "torch", which sees the same memory."""
    import torch

    call, target = node.attributes["bind"](batch), torch.from_numpy(values[node.name])
    sources = [torch.from_numpy(values[name]) for name in node.inputs]

    def run() -> None:
        with torch.no_grad():
            target.copy_(call(*sources))

    return run


def bind(node: Node, graph: Graph, values: dict[str, np.ndarray]) -> Step | None:
    """Return the call that runs any other node of the list; None where there is nothing to do."""
    inputs, out = [values[name] for name in node.inputs], values[node.name]
    tensors = {role: graph.tensors[name] for role, name in node.tensors.items()}
    special = _BOUND.get(node.operation)
    if special is not None:
        step = special(node.attributes, inputs, tensors, out)
        if step is not NotImplemented:
            return step
    run, attributes = OPERATIONS[node.operation].run, node.attributes

    def plain() -> None:
        out[...] = run(inputs, tensors, attributes)

    return plain


def _images(*arrays: np.ndarray) -> bool:
    """Say whether the compiled loops take these arrays: images with adjacent columns."""
    rows = all(a.ndim == 4 and (a.strides[3] == 4 or a.shape[3] == 1) and a.dtype == np.float32 for a in arrays)
    return loops is not None and rows and all(a.size for a in arrays)


def _scale(
    x: np.ndarray, residual: np.ndarray | None, out: np.ndarray, scale: np.ndarray, shift: np.ndarray, activation: Any
) -> Any:
    others = [] if residual is None else [residual]
    if not _images(x, out, *others):
        return NotImplemented
    size, added = np.array(x.shape, np.int64), loops.flat(residual) if residual is not None else loops.NOTHING
    arguments = (
        loops.flat(x),
        added,
        loops.flat(out),
        scale,
        shift,
        size,
        loops.strides(x, out, *others),
        *loops.code(activation),
    )
    return partial(loops.scale_rows, *arguments)


def _scale_shift(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    residual = inputs[1] if len(inputs) > 1 else None
    return _scale(inputs[0], residual, out, tensors["scale"][None], tensors["shift"][None], attributes["activation"])


def _activation(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x, out = _as_rows(inputs[0]), _as_rows(out)
    one, zero = np.ones((1, x.shape[1]), np.float32), np.zeros((1, x.shape[1]), np.float32)
    return _scale(x, None, out, one, zero, attributes["activation"])


def _as_rows(x: np.ndarray) -> np.ndarray:
    """Return a contiguous array that is no image as one row of an image."""
    return x if x.ndim == 4 or not x.flags.c_contiguous else x.reshape(1, 1, 1, -1)


def _binary(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    if len(inputs) < 2 or loops is None:
        return NotImplemented
    x, other = inputs
    if attributes["function"] == "multiply" and x.shape != other.shape:
        x, other = (x, other) if x.shape == out.shape else (other, x)
        if x.ndim == 4 and other.shape == (*x.shape[:2], 1, 1):  # a gate on every channel
            gate = other.reshape(x.shape[:2])
            return _scale(x, None, out, gate, np.zeros((1, x.shape[1]), np.float32), attributes["activation"])
    if not x.shape == other.shape == out.shape:
        return NotImplemented
    x, other, out = _as_rows(x), _as_rows(other), _as_rows(out)
    if not _images(x, other, out):
        return NotImplemented
    size, function = np.array(x.shape, np.int64), loops.FUNCTIONS[attributes["function"]]
    arguments = (
        loops.flat(x),
        loops.flat(other),
        loops.flat(out),
        size,
        loops.strides(x, out, other),
        function,
        *loops.code(attributes["activation"]),
    )
    return partial(loops.combine_rows, *arguments)


def _pool(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x = inputs[0]
    apart = max(attributes.get("dilation", [1, 1])) > 1 and any(attributes["padding"])  # windows may miss the image
    if apart or not _images(x, out):
        return NotImplemented
    if attributes["kernel"] == [1, 1] and attributes["padding"] == [0, 0]:
        return _every(attributes["stride"], x, out)
    average = "count_padding" in attributes
    names = ("kernel", "stride", "padding")
    sizes = [attributes[name] for name in names] + [attributes.get("dilation", [1, 1])]
    whole = all(2 * n <= size for n, size in zip(out.shape[2:], x.shape[2:], strict=True))
    if not average and whole and sizes == [[2, 2], [2, 2], [0, 0], [1, 1]]:
        return MaxPool(x, out)
    divisors = pool_divisors(x.shape[2:], attributes) if average else np.zeros((0, 0), np.float32)
    window = [np.array(size, np.int64) for size in sizes]
    places = np.array(out.shape, np.int64), *x.shape[2:], loops.strides(x, out)
    return partial(pooling_loops.pool_rows, loops.flat(x), loops.flat(out), *places, *window, divisors)


def _every(stride: list[int], x: np.ndarray, out: np.ndarray) -> Step:
    """Return the call that copies the pixels of every so many rows and columns."""
    rows, columns = (Axis(size, 1, step, 0, 1) for size, step in zip(x.shape[2:], stride, strict=True))
    calls = [Copies(rows, columns, image, target).splitting(image) for image, target in zip(x, out, strict=True)]

    def run() -> None:
        for call in calls:
            call()

    return run


def _mean(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x = inputs[0]
    if attributes["axes"] != [2, 3] or not _images(x) or not out.flags.c_contiguous:
        return NotImplemented
    return partial(
        pooling_loops.mean_rows, loops.flat(x), out.reshape(x.shape[:2]), np.array(x.shape, np.int64), loops.strides(x)
    )


def _layer_norm(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x = inputs[0]
    if attributes["axes"] != [1] or not _images(x, out):
        return NotImplemented
    weight = tensors.get("weight", np.ones(x.shape[1], np.float32))
    bias = tensors.get("bias", np.zeros(x.shape[1], np.float32))
    epsilon = np.float32(attributes["epsilon"])
    return partial(
        pooling_loops.norm_rows,
        loops.flat(x),
        loops.flat(out),
        weight,
        bias,
        np.array(x.shape, np.int64),
        loops.strides(x, out),
        epsilon,
    )


def _copies(attributes: dict, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Step | None:
    """Return the call that copies each source that does not already lie in its place."""
    pairs = [(target, source) for target, source in pairs if target.ctypes.data != source.ctypes.data]

    def copy() -> None:
        for target, source in pairs:
            np.copyto(target, source)

    return copy if pairs else None


def _concat(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    parts = np.split(out, np.cumsum([x.shape[attributes["axis"]] for x in inputs])[:-1], axis=attributes["axis"])
    return _copies(attributes, list(zip(parts, inputs, strict=True)))


def _slice(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    return _copies(attributes, [(out, OPERATIONS["slice"].run(inputs, tensors, attributes))])


def _reshape(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x = inputs[0]
    if x.ctypes.data == out.ctypes.data:
        return None
    if out.flags.c_contiguous:
        return _copies(attributes, [(out.reshape(x.shape), x)])
    return _copies(attributes, [(out, x.reshape(out.shape))]) if x.flags.c_contiguous else NotImplemented


def _permute(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    return _copies(attributes, [(out, inputs[0].transpose(attributes["axes"]))])


def _channel_shuffle(attributes: dict, inputs: list, tensors: dict, out: np.ndarray) -> Any:
    x, groups = inputs[0], attributes["groups"]
    (n, channels, *size), (image, channel, *rows) = x.shape, x.strides
    width = channels // groups
    source = np.lib.stride_tricks.as_strided(x, (n, width, groups, *size), (image, channel, channel * width, *rows))
    image, channel, *rows = out.strides
    target = np.lib.stride_tricks.as_strided(out, source.shape, (image, channel * groups, channel, *rows))
    return partial(np.copyto, target, source)


_BOUND: dict[str, Callable[[dict, list, dict, np.ndarray], Any]] = {
    "scale_shift": _scale_shift,
    "activation": _activation,
    "binary": _binary,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "mean": _mean,
    "layer_norm": _layer_norm,
    "concat": _concat,
    "slice": _slice,
    "reshape": _reshape,
    "permute": _permute,
    "channel_shuffle": _channel_shuffle,
}
