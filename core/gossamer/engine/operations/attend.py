"""Attention over sequences that are images one row high, (batch, features, 1, tokens), and the masks that it adds."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import compiled
from gossamer.engine.operations.attention import attention
from gossamer.engine.operations.entry import Operation, Shape, Writer, is_count, is_flag, is_number, never, require

# Attention ----------------------------------------------------------------------------------------------------------


def _shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    (q, k, v), heads, groups = inputs[:3], attributes["heads"], attributes["groups"]
    require(all(len(x) == 4 and x[2] == 1 and x[0] == q[0] for x in (q, k, v)), f"{q}, {k}, {v}")
    require(k == v and heads % groups == 0 and q[1] % heads == 0 and k[1] * heads == q[1] * groups, f"{q}, {k}, {v}")
    for mask in (*inputs[3:], *tensors.values()):
        whole = (q[0], heads, k[3], q[3])
        require(len(mask) == 4 and np.broadcast_shapes(whole, mask) == whole, f"a mask {mask}")
    return q


def _heads(x: np.ndarray, count: int) -> np.ndarray:
    """An image's heads (batch, heads, tokens, size), without a copy."""
    batch, features, _, tokens = x.shape
    strides = (x.strides[0], x.strides[1] * (features // count), x.strides[3], x.strides[1])
    return np.lib.stride_tricks.as_strided(x, (batch, count, tokens, features // count), strides)


def attend(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`softmax(scale · q kᵀ + mask) v` of images of `heads` and `groups` heads; a mask is (…, keys, queries), added."""
    q, k, v, *masks = inputs
    heads = [_heads(x, attributes[many]) for x, many in ((q, "heads"), (k, "groups"), (v, "groups"))]
    turned = [mask.swapaxes(2, 3) for mask in (*masks, *tensors.values())]
    wanted = {name: attributes[name] for name in ("scale", "causal")}
    return attention([*heads, *turned], {}, wanted).swapaxes(2, 3).reshape(q.shape)


def _onnx(w: Writer, node: Node) -> None:
    name, (q, k, v, *masks), a = node.name, node.inputs, node.attributes
    (_, features, _, queries), keys = w.shapes[q], w.shapes[k][3]
    size, heads, groups = features // a["heads"], a["heads"], a["groups"]

    def split(x: str, role: str, count: int, tokens: int) -> str:
        """The heads (batch, heads, size, tokens); each group's as often as heads share it."""
        one = w.constant([-1, count, 1, size, tokens], f"{name}.{role}.shape", np.int64)
        many = w.constant([1, 1, heads // count, 1, 1], f"{name}.{role}.many", np.int64)
        whole = w.constant([-1, heads, size, tokens], f"{name}.{role}.whole", np.int64)
        x = w.emit("Expand", [w.emit("Reshape", [x, one], f"{name}.{role}.one"), many], f"{name}.{role}.copies")
        return w.emit("Reshape", [x, whole], f"{name}.{role}")

    parts = [split(*part) for part in ((q, "q", heads, queries), (k, "k", groups, keys), (v, "v", groups, keys))]
    turned = w.emit("Transpose", [parts[1]], name + ".keys", perm=[0, 1, 3, 2])
    scores = w.emit("MatMul", [turned, parts[0]], name + ".product")
    scores = w.emit("Mul", [scores, w.constant(a["scale"], name + ".scale")], name + ".scaled")
    masks = [*masks, w.tensor(node, "mask")] if node.tensors else masks
    for place, mask in enumerate(masks):
        scores = w.emit("Add", [scores, mask], f"{name}.masked{place}")
    if a["causal"]:
        later = w.constant(np.where(np.tri(queries, keys, dtype=np.bool_), 0, -np.inf).T, name + ".later")
        scores = w.emit("Add", [scores, later], name + ".causal")
    values = w.emit("MatMul", [parts[2], w.emit("Softmax", [scores], name + ".weights", axis=2)], name + ".values")
    w.emit("Reshape", [values, w.constant([-1, features, 1, queries], name + ".shape", np.int64)], name)


def _bind(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray) -> Any:
    q, k, v, *masks = inputs
    if not compiled.fit(q, k, v, out):
        return NotImplemented
    heads, groups = attributes["heads"], attributes["groups"]
    arrays = _heads(q, heads), _heads(k, groups), _heads(v, groups), _heads(out, heads)
    mask = next(iter((*masks, *tensors.values())), None)
    return compiled.attending(*arrays, mask, attributes)


ATTEND = Operation(
    inputs=range(3, 5),
    tensors=("mask?",),
    attributes={"heads": is_count, "groups": is_count, "scale": is_number, "causal": is_flag},
    shape=_shape,
    run=attend,
    onnx=_onnx,
    captures={},
    bind=_bind,
)

# Masks --------------------------------------------------------------------------------------------------------------


def _turned_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs[0]) == 4 and inputs[0][2] in (1, attributes["queries"]), f"a mask {inputs[0]}")
    return (*inputs[0][:2], inputs[0][3], attributes["queries"])


def turned_mask(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """A mask (…, 1 or queries, keys), true where a key may be seen or added, as one (…, keys, queries), added."""
    mask = inputs[0].swapaxes(2, 3)
    mask = np.where(mask, np.float32(0), np.float32(-np.inf)) if mask.dtype == np.bool_ else mask
    return np.broadcast_to(mask, (*mask.shape[:3], attributes["queries"]))


def _turned_onnx(w: Writer, node: Node) -> None:
    mask, queries = node.inputs[0], node.attributes["queries"]
    if w.kinds[mask] == "bool":
        least, zero = (w.constant(x, f"{node.name}.{name}") for name, x in (("least", -np.inf), ("zero", 0.0)))
        mask = w.emit("Where", [mask, zero, least], node.name + ".added")
    turned = w.emit("Transpose", [mask], node.name + ".turned", perm=[0, 1, 3, 2])
    w.emit("Expand", [turned, w.constant([1, 1, 1, queries], node.name + ".many", np.int64)], node.name)


TURNED_MASK = Operation(
    attributes={"queries": is_count},
    shape=_turned_shape,
    run=turned_mask,
    onnx=_turned_onnx,
    captures={},
    mixes=never,
    kind=lambda kinds, attributes: "float32" if kinds[0] in ("float32", "bool") else None,
)
