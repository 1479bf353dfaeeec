"""Softmax and means along axes."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import compiled
from gossamer.engine.operations.entry import Call, Operation, Shape, Writer, each, is_flag, is_size, require


def _softmax_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(attributes["axis"] < len(inputs[0]), f"axis {attributes['axis']} of {inputs[0]}")
    return inputs[0]


def softmax(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = exp(x - max x) / sum exp(x - max x)` along the axis."""
    e = np.exp(inputs[0] - inputs[0].max(attributes["axis"], keepdims=True))
    return e / e.sum(attributes["axis"], keepdims=True)


def _softmax_onnx(w: Writer, node: Node) -> None:
    w.emit("Softmax", node.inputs, node.name, axis=node.attributes["axis"])


def _capture_softmax(call: Call) -> str:
    return call.emit("softmax", [call["self"]], axis=call["dim"] % len(call.shape))


SOFTMAX = Operation(
    attributes={"axis": is_size},
    shape=_softmax_shape,
    run=softmax,
    onnx=_softmax_onnx,
    captures={"softmax": _capture_softmax, "_softmax": _capture_softmax},
    torch=lambda torch, inputs, tensors, attributes: torch.softmax(inputs[0], attributes["axis"]),
)


def _mean_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(all(axis < len(inputs[0]) for axis in attributes["axes"]), f"axes {attributes['axes']} of {inputs[0]}")
    kept = [1 if axis in attributes["axes"] else size for axis, size in enumerate(inputs[0])]
    return tuple(size for axis, size in enumerate(kept) if attributes["keep"] or axis not in attributes["axes"])


def mean(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The mean over the axes."""
    return inputs[0].mean(tuple(attributes["axes"]), keepdims=attributes["keep"])


def _mean_onnx(w: Writer, node: Node) -> None:
    axes = w.constant(node.attributes["axes"], node.name + ".axes", np.int64)
    w.emit("ReduceMean", [node.inputs[0], axes], node.name, keepdims=int(node.attributes["keep"]))


def _capture_mean(call: Call) -> str:
    rank = len(call.shape)
    axes = sorted(axis % rank for axis in (call.get("dim") or range(rank)))
    return call.emit("mean", [call["self"]], axes=axes, keep=bool(call.get("keepdim", False)))


def _bind_mean(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    x = inputs[0]
    if attributes["axes"] != [2, 3] or not compiled.fit(x) or not out.flags.c_contiguous:
        return NotImplemented
    return compiled.Program([compiled.images.mean(x, out.reshape(*x.shape[:2], 1, 1))])


MEAN = Operation(
    attributes={"axes": each(is_size), "keep": is_flag},
    shape=_mean_shape,
    run=mean,
    onnx=_mean_onnx,
    captures={"mean": _capture_mean},
    bind=_bind_mean,
)
