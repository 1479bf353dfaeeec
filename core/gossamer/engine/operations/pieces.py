"""Parts of values, and what is put together of them."""

import math
from itertools import accumulate
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
    each,
    is_count,
    is_number,
    is_size,
    pair_of_sizes,
    require,
    same_kind,
)

# Parts --------------------------------------------------------------------------------------------------------------


def _slice_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    axis, start, stop, step = (attributes[name] for name in ("axis", "start", "stop", "step"))
    require(axis < len(inputs[0]) and start <= stop <= inputs[0][axis], f"{start}:{stop} of {inputs[0]}")
    return tuple(-(-(stop - start) // step) if a == axis else size for a, size in enumerate(inputs[0]))


def slice_axis(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`x[start:stop:step]` along the axis."""
    section = slice(attributes["start"], attributes["stop"], attributes["step"])
    return inputs[0][(slice(None),) * attributes["axis"] + (section,)]


def _slice_onnx(w: Writer, node: Node) -> None:
    names = ("start", "stop", "axis", "step")
    section = [w.constant([node.attributes[name]], f"{node.name}.{name}", np.int64) for name in names]
    w.emit("Slice", [node.inputs[0], *section], node.name)


def _capture_slice(call: Call) -> str:
    axis = call["dim"] % len(call.shape)
    size = call.shape[axis]
    start, step, length = call["start"] or 0, call.get("step", 1), call.get("length")
    stop = call["end"] if length is None else start + length
    if start == 0 and step == 1 and (stop is None or stop is size or (isinstance(stop, int) and stop >= 2**62)):
        return call["self"]
    if not all(isinstance(value, int) for value in (size, start)) or not isinstance(stop, int | None):
        raise NotCapturedError("a slice of the batch")
    section = range(*slice(start, stop, step).indices(size))
    stop = max(section.start, section.stop)
    return call.emit("slice", [call["self"]], axis=axis, start=section.start, stop=stop, step=step)


def _capture_select(call: Call) -> str:
    axis = call["dim"] % len(call.shape)
    size = call.shape[axis]
    if not isinstance(size, int) or not isinstance(call["index"], int):
        raise NotCapturedError("an element of the batch")
    index = call["index"] % size
    y = call.emit("slice", [call["self"]], axis=axis, start=index, stop=index + 1, step=1)
    return call.emit("reshape", [y], shape=call.sizes)


def _capture_unbind(call: Call) -> list[str]:
    axis = call["dim"] % len(call.shape)
    size, rest = call.shape[axis], [s if isinstance(s, int) else -1 for s in call.shape]
    if not isinstance(size, int):
        raise NotCapturedError("the inputs of the batch, one by one")
    del rest[axis]
    parts = [call.emit("slice", [call["self"]], axis=axis, start=i, stop=i + 1, step=1) for i in range(size)]
    return [call.emit("reshape", [part], shape=rest) for part in parts]


def _capture_split(call: Call) -> list[str]:
    axis = call["dim"] % len(call.shape)
    size = call.shape[axis]
    if not isinstance(size, int):
        raise NotCapturedError("parts of the batch")
    lengths = call.get("split_sizes", call.get("split_size"))
    if not isinstance(lengths, list):
        chunks = call.get("chunks")
        step = lengths if chunks is None else math.ceil(size / chunks)
        lengths = [min(step, size - start) for start in range(0, size, step)]
    x = call.get("self", call.get("input"))
    parts = zip(accumulate([0, *lengths]), lengths, strict=False)
    return [call.emit("slice", [x], axis=axis, start=start, stop=start + length, step=1) for start, length in parts]


def _bind_slice(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    return compiled.copying((out, slice_axis(inputs, tensors, attributes)))


SLICE = Operation(
    attributes={"axis": is_size, "start": is_size, "stop": is_size, "step": is_count},
    shape=_slice_shape,
    kind=same_kind,
    run=slice_axis,
    onnx=_slice_onnx,
    captures={
        "slice": _capture_slice,
        "narrow": _capture_slice,
        "select": _capture_select,
        "unbind": _capture_unbind,
        **dict.fromkeys(("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split"), _capture_split),
    },
    bind=_bind_slice,
)

# Put together -------------------------------------------------------------------------------------------------------


def _concat_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    axis = attributes["axis"]
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
    require(axis < len(inputs[0]) and len(rest) == 1, f"{inputs} along axis {axis}")
    return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


def concat(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The inputs one after another along the axis."""
    return np.concatenate(inputs, axis=attributes["axis"])


def _concat_onnx(w: Writer, node: Node) -> None:
    w.emit("Concat", node.inputs, node.name, axis=node.attributes["axis"])


def _capture_concat(call: Call) -> str:
    parts, axis = call["tensors"], call["dim"] % len(call.sizes)
    return call.emit("concat", [part if isinstance(part, str) else call.everywhere(part) for part in parts], axis=axis)


def _bind_concat(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    axis = attributes["axis"]
    parts = np.split(out, np.cumsum([x.shape[axis] for x in inputs])[:-1], axis=axis)
    return compiled.copying(*zip(parts, inputs, strict=True))


CONCAT = Operation(
    inputs=range(1, 4096),
    attributes={"axis": is_size},
    shape=_concat_shape,
    kind=same_kind,
    run=concat,
    onnx=_concat_onnx,
    captures={"cat": _capture_concat, "concat": _capture_concat},
    bind=_bind_concat,
)


def _pad_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    return tuple(n + before + after for n, (before, after) in zip(inputs[0], attributes["widths"], strict=True))


def pad(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`value` around the input; `widths` holds (before, after) for every axis."""
    return np.pad(inputs[0], attributes["widths"], constant_values=attributes["value"])


def _pad_onnx(w: Writer, node: Node) -> None:
    widths = w.constant(np.transpose(node.attributes["widths"]).reshape(-1), node.name + ".widths", np.int64)
    w.emit("Pad", [node.inputs[0], widths, w.constant(node.attributes["value"], node.name + ".value")], node.name)


def _capture_pad(call: Call) -> str:
    widths = [list(pair) for pair in zip(call["pad"][::2], call["pad"][1::2], strict=True)][::-1]
    bad = any(not isinstance(width, int) or width < 0 for pair in widths for width in pair)
    if call.get("mode", "constant") != "constant" or bad:
        raise NotCapturedError("padding other than by a constant")
    widths = [[0, 0]] * (len(call.shape) - len(widths)) + widths
    return call.emit("pad", [call["self"]], widths=widths, value=float(call.get("value") or 0.0))


PAD = Operation(
    attributes={"widths": each(pair_of_sizes), "value": is_number},
    shape=_pad_shape,
    kind=same_kind,
    run=pad,
    onnx=_pad_onnx,
    captures={"pad": _capture_pad, "constant_pad_nd": _capture_pad},
    mixes=lambda attributes, rank: attributes["widths"][0] != [0, 0],
)
