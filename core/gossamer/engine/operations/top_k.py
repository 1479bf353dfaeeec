"""The largest of each row, and zero elsewhere: the codes of `gossamer.nn.TopK`."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import compiled
from gossamer.engine.operations.entry import Call, Operation, Shape, Writer, is_count, require


def _shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs[0]) > 1 and attributes["k"] <= inputs[0][-1], f"the {attributes['k']} largest of {inputs[0]}")
    return inputs[0]


def top_k(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """max(x, 0) where x is among the k largest of its row, 0 elsewhere; of equal ones the earlier are larger."""
    x = inputs[0]
    places = np.argsort(-x, axis=-1, kind="stable")[..., : attributes["k"]]
    y = np.zeros_like(x)
    np.put_along_axis(y, places, np.maximum(np.take_along_axis(x, places, -1), 0), -1)
    return y


def _onnx(w: Writer, node: Node) -> None:
    x, name = node.inputs[0], node.name
    values, places = f"{name}.values", f"{name}.places"
    w.emit("TopK", [x, w.constant([node.attributes["k"]], name + ".k", np.int64)], values, places)
    zeros = w.emit("Expand", [w.constant(0, name + ".zero"), w.emit("Shape", [x], name + ".shape")], name + ".zeros")
    w.emit("ScatterElements", [zeros, places, w.emit("Relu", [values], name + ".positive")], name, axis=-1)


def _capture(call: Call) -> str:
    return call.emit("top_k", [call["x"]], k=call["k"])


def _bind(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray) -> Any:
    x, k = inputs[0], attributes["k"]
    if compiled.loops is None or not x.size:
        return NotImplemented
    values, places = np.empty((*x.shape[:-1], k), np.float32), np.empty((*x.shape[:-1], k), np.int32)

    def call() -> None:
        rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        compiled.loops.largest(rows, k, values.reshape(-1, k), places.reshape(-1, k))
        out.fill(0)
        np.put_along_axis(out, places, values, -1)

    return call


TOP_K = Operation(
    attributes={"k": is_count},
    shape=_shape,
    run=top_k,
    onnx=_onnx,
    captures={"top_k": _capture},
    bind=_bind,
)
