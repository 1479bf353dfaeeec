"""Larger images: transposed convolutions, and resizing."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    is_count,
    is_flag,
    is_tensor,
    pair,
    pair_of_counts,
    pair_of_sizes,
    require,
)

# Transposed convolutions --------------------------------------------------------------------------------------------

_GEOMETRY = ("stride", "padding", "more", "groups", "dilation")


def _transpose_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    batch, channels, *size = inputs[0]
    taken, out, *kernel = tensors["weight"]
    require(len(size) == len(kernel) == 2 and taken == channels, f"{inputs[0]}, weight {tensors['weight']}")
    require(channels % attributes["groups"] == 0, f"{channels} channels")
    outputs = out * attributes["groups"]
    require(tensors.get("bias", (outputs,)) == (outputs,), f"bias {tensors.get('bias')}")
    stride, padding, more, dilation = (attributes[name] for name in ("stride", "padding", "more", "dilation"))
    ways = zip(size, kernel, stride, padding, more, dilation, strict=True)
    spatial = [(n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, k, s, p, m, d in ways]
    require(min(spatial) > 0 and all(m < s for m, s in zip(more, stride, strict=True)), f"result {spatial}")
    return (batch, outputs, *spatial)


def conv_transpose2d(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]
) -> np.ndarray:
    """Each pixel times the kernel, `stride` apart and added up, without `padding` at the edges, plus bias."""
    x, weight, groups = inputs[0], tensors["weight"], attributes["groups"]
    shape = _transpose_shape([x.shape], {"weight": weight.shape}, attributes)
    (top, left), (down, right), (high, wide) = attributes["padding"], attributes["stride"], attributes["dilation"]
    whole = np.zeros((*shape[:2], shape[2] + 2 * top, shape[3] + 2 * left), np.float32)
    apart, kernels = x.reshape(len(x), groups, -1, *x.shape[2:]), weight.reshape(groups, -1, *weight.shape[1:])
    for i, j in np.ndindex(*weight.shape[2:]):
        part = np.einsum("ngihw,gio->ngohw", apart, kernels[..., i, j]).reshape(len(x), shape[1], *x.shape[2:])
        rows, columns = (
            slice(a, a + (n - 1) * s + 1, s)
            for a, n, s in ((i * high, x.shape[2], down), (j * wide, x.shape[3], right))
        )
        whole[:, :, rows, columns] += part
    y = whole[:, :, top : top + shape[2], left : left + shape[3]]
    return y + tensors["bias"][:, None, None] if "bias" in tensors else y


def _transpose_torch(torch: Any, inputs: list[Any], tensors: dict[str, Any], attributes: dict[str, Any]) -> Any:
    geometry = (attributes[name] for name in _GEOMETRY)
    return torch.conv_transpose2d(inputs[0], tensors["weight"], tensors.get("bias"), *geometry)


def _transpose_onnx(w: Writer, node: Node) -> None:
    a = node.attributes
    inputs = [node.inputs[0], w.tensor(node, "weight"), w.tensor(node, "bias")]
    geometry = {"strides": a["stride"], "pads": a["padding"] * 2, "output_padding": a["more"]}
    geometry |= {"dilations": a["dilation"], "group": a["groups"]}
    w.emit("ConvTranspose", [name for name in inputs if name], node.name, **geometry)


def _capture_transpose(call: Call) -> str:
    weight = call["weight"]
    if not is_tensor(weight) or weight.ndim != 4 or len(call.shape) != 4:
        raise NotCapturedError("a weight that is computed, or an input without a batch")
    geometry = {name: pair(call[name]) for name in ("stride", "padding", "dilation")}
    geometry |= {"more": pair(call["output_padding"]), "groups": call["groups"]}
    return call.emit("conv_transpose2d", [call["input"]], {"weight": weight, "bias": call["bias"]}, **geometry)


CONV_TRANSPOSE2D = Operation(
    tensors=("weight", "bias?"),
    attributes={
        "stride": pair_of_counts,
        "padding": pair_of_sizes,
        "dilation": pair_of_counts,
        "more": pair_of_sizes,
        "groups": is_count,
    },
    shape=_transpose_shape,
    run=conv_transpose2d,
    onnx=_transpose_onnx,
    captures={"conv_transpose2d": _capture_transpose},
    torch=_transpose_torch,
)

# Resizing -----------------------------------------------------------------------------------------------------------


def _resize_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs[0]) == 4, "a batch of images")
    return (*inputs[0][:2], *attributes["size"])


def resize_weights(inputs: int, outputs: int, attributes: dict[str, Any]) -> np.ndarray:
    """The (outputs, inputs) matrix whose row i holds the shares of the pixels that output i is made of."""
    weights, place = np.zeros((outputs, inputs), np.float32), np.arange(outputs)
    if not attributes["linear"]:
        weights[place, place * inputs // outputs] = 1
        return weights
    if attributes["corners"]:
        at = place * ((inputs - 1) / max(outputs - 1, 1))
    else:
        at = np.maximum((place + 0.5) * (inputs / outputs) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), inputs - 1)
    np.add.at(weights, (place, low), (1 - (at - low)).astype(np.float32))
    np.add.at(weights, (place, np.minimum(low + 1, inputs - 1)), (at - low).astype(np.float32))
    return weights


def _resize_matrices(shape: Shape, attributes: dict[str, Any]) -> list[np.ndarray]:
    return [resize_weights(n, m, attributes) for n, m in zip(shape[2:], attributes["size"], strict=True)]


def resize(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The image at another size: of each pixel the nearest, or, if `linear`, the shares of its neighbours."""
    down, right = _resize_matrices(inputs[0].shape, attributes)
    return (down @ inputs[0]) @ right.T


def _resize_torch(torch: Any, inputs: list[Any], tensors: dict[str, Any], attributes: dict[str, Any]) -> Any:
    how: dict[str, Any] = {"mode": "nearest"}
    if attributes["linear"]:
        how = {"mode": "bilinear", "align_corners": attributes["corners"]}
    return torch.nn.functional.interpolate(inputs[0], attributes["size"], **how)


def _resize_onnx(w: Writer, node: Node) -> None:
    down, right = _resize_matrices(w.shapes[node.inputs[0]], node.attributes)
    rows = w.emit("MatMul", [w.constant(down, node.name + ".rows"), node.inputs[0]], node.name + ".down")
    w.emit("MatMul", [rows, w.constant(right.T, node.name + ".columns")], node.name)


def _capture_resize(call: Call) -> str:
    size, scales = call.sizes[2:], call.get("scale_factors") or []
    if any(n * scale != m for n, scale, m in zip(call.shape[2:], scales, size, strict=False)):
        raise NotCapturedError("resizing by a scale that gives no whole sizes")
    linear = call.operator == "upsample_bilinear2d"
    return call.emit("resize", [call["input"]], size=size, linear=linear, corners=bool(call.get("align_corners")))


RESIZE = Operation(
    attributes={"size": pair_of_counts, "linear": is_flag, "corners": is_flag},
    shape=_resize_shape,
    run=resize,
    onnx=_resize_onnx,
    captures={"upsample_nearest2d": _capture_resize, "upsample_bilinear2d": _capture_resize},
    torch=_resize_torch,
)
