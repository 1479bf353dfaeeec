"""Products of values, and attention."""

import math
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
    is_number,
    is_tensor,
    require,
)

# Products -----------------------------------------------------------------------------------------------------------


def _matmul_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    x, y = inputs
    require(len(x) == len(y) >= 3 and x[-1] == y[-2], f"{x} times {y}")
    return (*np.broadcast_shapes(x[:-2], y[:-2]), x[-2], y[-1])


def matmul(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The matrix products of the last two axes."""
    return np.matmul(*inputs)


def _matmul_onnx(w: Writer, node: Node) -> None:
    w.emit("MatMul", node.inputs, node.name)


def _capture_matmul(call: Call) -> str:
    x, other = call["self"], call.get("other", call.get("mat2"))
    if is_tensor(other) and other.ndim == 2:
        weight = call.renamed(other.t(), other, "transposed")
        return call.emit("linear", [x], {"weight": weight, "bias": None}, activation=None)
    if not isinstance(x, str) or not isinstance(other, str):
        raise NotCapturedError("a product with a constant")
    return call.emit("matmul", [x, other])


MATMUL = Operation(
    inputs=range(2, 3),
    shape=_matmul_shape,
    run=matmul,
    onnx=_matmul_onnx,
    captures={"matmul": _capture_matmul, "bmm": _capture_matmul},
    torch=lambda torch, inputs, tensors, attributes: torch.matmul(*inputs),
)

# Attention ----------------------------------------------------------------------------------------------------------


def _attention_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    q, k, v = inputs[:3]
    require(len(q) == len(k) == len(v) == 4 and q[3] == k[3] and k[:3] == v[:3] and q[0] == k[0], f"{q}, {k}, {v}")
    require(k[1] > 0 and q[1] % k[1] == 0, f"{q[1]} heads of queries for {k[1]} of keys")
    for mask in (*inputs[3:], *tensors.values()):
        require(np.broadcast_shapes((*q[:3], k[2]), mask) == (*q[:3], k[2]), f"a mask {mask}")
    return (*q[:3], v[3])


def attention(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`softmax(scale · q kᵀ + mask) v` of q, k, v (batch, heads, tokens, size); k and v may have fewer heads.

    A mask that is an input is true where a key may be seen, or added; the constant one is added. With `causal`, no
    query sees later keys. A query that sees no key gives 0.
    """
    q, k, v, *masks = inputs
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) if group > 1 else x for x in (k, v))
    scores = np.matmul(q, k.swapaxes(2, 3)) * np.float32(attributes["scale"])
    for mask in (*masks, *tensors.values()):
        scores = np.where(mask, scores, np.float32(-np.inf)) if mask.dtype == np.bool_ else scores + mask
    if attributes["causal"]:
        scores = np.where(np.tri(*scores.shape[2:], dtype=np.bool_), scores, np.float32(-np.inf))
    largest = scores.max(3, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, np.float32(0)))
    total = weights.sum(3, keepdims=True)
    return np.matmul(weights / np.where(total > 0, total, np.float32(1)), v)


def _attention_torch(torch: Any, inputs: list[Any], tensors: dict[str, Any], attributes: dict[str, Any]) -> Any:
    masks = [*inputs[3:], *tensors.values()]
    if len(masks) + attributes["causal"] > 1:
        masks = [sum(map(_added_by(torch), masks), _later(torch, inputs) if attributes["causal"] else 0)]
    return torch.nn.functional.scaled_dot_product_attention(
        *inputs[:3],
        attn_mask=masks[0] if masks else None,
        is_causal=attributes["causal"] and not masks,
        scale=attributes["scale"],
        enable_gqa=inputs[0].shape[1] != inputs[1].shape[1],
    )


def _added_by(torch: Any) -> Any:
    return lambda mask: mask.float().log() if mask.dtype == torch.bool else mask


def _later(torch: Any, inputs: list[Any]) -> Any:
    return torch.ones(inputs[0].shape[2], inputs[1].shape[2]).tril().log()


def _attention_onnx(w: Writer, node: Node) -> None:
    name, (q, k, v, *masks), shapes = node.name, node.inputs, w.shapes
    (_, heads, length, _), (_, groups, keys, size) = shapes[q], shapes[k]
    if heads != groups:
        k, v = (
            _repeated(w, x, f"{name}.{place}", heads // groups, groups, keys, size) for place, x in enumerate((k, v))
        )
    turned = w.emit("Transpose", [k], name + ".keys", perm=[0, 1, 3, 2])
    product = w.emit("MatMul", [q, turned], name + ".product")
    scores = w.emit("Mul", [product, w.constant(node.attributes["scale"], name + ".scale")], name + ".scores")
    for mask in masks:
        scores = _masked(w, node, mask, scores)
    if "mask" in node.tensors:
        scores = w.emit("Add", [scores, w.tensor(node, "mask")], name + ".added")
    if node.attributes["causal"]:
        causal = np.where(np.tri(length, keys, dtype=np.bool_), 0, -np.inf)
        scores = w.emit("Add", [scores, w.constant(causal, name + ".later")], name + ".causal")
    w.emit("MatMul", [w.emit("Softmax", [scores], name + ".weights", axis=3), v], name)


def _masked(w: Writer, node: Node, mask: str, scores: str) -> str:
    if w.kinds[mask] == "bool":
        least = w.constant(-np.inf, node.name + ".least")
        return w.emit("Where", [mask, scores, least], node.name + ".seen")
    return w.emit("Add", [scores, mask], node.name + ".masked")


def _repeated(w: Writer, x: str, name: str, times: int, groups: int, length: int, size: int) -> str:
    split = w.constant([-1, groups, 1, length, size], name + ".split", np.int64)
    many = w.constant([1, 1, times, 1, 1], name + ".many", np.int64)
    joined = w.constant([-1, groups * times, length, size], name + ".joined", np.int64)
    x = w.emit("Expand", [w.emit("Reshape", [x, split], name + ".one"), many], name + ".copies")
    return w.emit("Reshape", [x, joined], name + ".heads")


def _capture_attention(call: Call) -> str:
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["dropout_p"] or len(call.shape) != 4:
        raise NotCapturedError("attention with dropout, or of other than four axes")
    scale = call["scale"] or 1 / math.sqrt(call.shape[3])
    inputs, tensors = [q, k, v], {}
    if isinstance(mask, str):
        inputs.append(mask)
    elif is_tensor(mask):
        if mask.is_floating_point() or not bool(mask.all()):
            tensors["mask"] = mask if mask.is_floating_point() else mask.float().log()  # 0 where true, −∞ elsewhere
    elif mask is not None:
        raise NotCapturedError("a mask that depends on the batch's size")
    return call.emit("attention", inputs, tensors, scale=float(scale), causal=bool(call["is_causal"]))


def _bind(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray) -> Any:
    if len(inputs) > 3 or any(x.strides[3] != 4 for x in (*inputs, out)):
        return NotImplemented
    mask = tensors.get("mask")
    if mask is not None:
        shape = (*([1] * (4 - mask.ndim)), *mask.shape)
        mask = np.broadcast_to(mask.reshape(shape), (*shape[:2], inputs[0].shape[2], inputs[1].shape[2]))
        mask = np.ascontiguousarray(mask.swapaxes(2, 3))
    q, k, v = inputs
    return compiled.attending(q, k, v, out, mask, attributes)


ATTENTION = Operation(
    inputs=range(3, 5),
    tensors=("mask?",),
    attributes={"scale": is_number, "causal": is_flag},
    shape=_attention_shape,
    run=attention,
    onnx=_attention_onnx,
    captures={"scaled_dot_product_attention": _capture_attention},
    kind=lambda kinds, attributes: (
        "float32" if set(kinds[:3]) == {"float32"} and set(kinds[3:]) <= {"float32", "bool"} else None
    ),
    torch=_attention_torch,
    bind=_bind,
)
