"""Norms of each input by itself."""

import math
from functools import partial
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
    require,
)

FEW = 16
"""Rows up to which a norm over the last axis is one of single pixels, whose vectors hold one number each."""


def _shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    normalized = tuple(inputs[0][axis] for axis in attributes["axes"])
    require(all(tensors.get(role, normalized) == normalized for role in ("weight", "bias")), f"axes {normalized}")
    return inputs[0]


def layer_norm(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = (x - mean) / sqrt(variance + epsilon) * weight + bias`, mean and variance over the axes."""
    x, axes = inputs[0], tuple(attributes["axes"])
    x = x - x.mean(axes, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + np.float32(attributes["epsilon"]))
    over = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    x = x * tensors["weight"].reshape(over) if "weight" in tensors else x
    return x + tensors["bias"].reshape(over) if "bias" in tensors else x


def _onnx(w: Writer, node: Node) -> None:
    rank, axes = len(w.shapes[node.name]), node.attributes["axes"]
    order = [axis for axis in range(rank) if axis not in axes] + axes
    normalized = [w.shapes[node.name][axis] for axis in axes]
    x, y = node.inputs[0], node.name
    if order != list(range(rank)):
        x, y = w.emit("Transpose", [x], node.name + ".last", perm=order), node.name + ".normed"
    weight = w.tensor(node, "weight") or w.constant(np.ones(normalized), node.name + ".weight")
    inputs = [x, weight, *([w.tensor(node, "bias")] if "bias" in node.tensors else [])]
    w.emit("LayerNormalization", inputs, y, axis=rank - len(axes), epsilon=node.attributes["epsilon"])
    if y != node.name:
        w.emit("Transpose", [y], node.name, perm=np.argsort(order).tolist())


def _torch(torch: Any, inputs: list[Any], tensors: dict[str, Any], attributes: dict[str, Any]) -> Any:
    x, axes = inputs[0], attributes["axes"]
    order = [axis for axis in range(x.ndim) if axis not in axes] + axes
    sizes = [x.shape[axis] for axis in axes]
    weights = tensors.get("weight"), tensors.get("bias")
    y = torch.nn.functional.layer_norm(x.permute(order), sizes, *weights, attributes["epsilon"])
    return y.permute(np.argsort(order).tolist())


def _capture(call: Call) -> str:
    rank = len(call.shape)
    axes = list(range(rank - len(call["normalized_shape"]), rank))
    tensors = {"weight": call["weight"], "bias": call["bias"]}
    return call.emit("layer_norm", [call["input"]], tensors, axes=axes, epsilon=call["eps"])


def _bind(
    inputs: list[np.ndarray],
    tensors: dict[str, np.ndarray],
    attributes: dict[str, Any],
    out: np.ndarray,
    centred: bool = True,
) -> Any:
    x = inputs[0]
    if attributes["axes"] == [x.ndim - 1] and math.prod(x.shape[:-1]) <= FEW:
        x, out = (compiled.as_pixels(a) for a in (x, out))
    elif attributes["axes"] != [1]:
        return NotImplemented
    if not compiled.fit(x, out):
        return NotImplemented
    weight = tensors.get("weight", np.ones(x.shape[1], np.float32))
    bias = tensors.get("bias", np.zeros(x.shape[1], np.float32))
    return compiled.Program([compiled.images.layer_norm(x, out, weight, bias, attributes["epsilon"], centred)])


LAYER_NORM = Operation(
    tensors=("weight?", "bias?"),
    attributes={"axes": each(is_size), "epsilon": is_number},
    shape=_shape,
    run=layer_norm,
    onnx=_onnx,
    captures={"layer_norm": _capture},
    torch=_torch,
    bind=_bind,
)

# By the root of the mean square -------------------------------------------------------------------------------------


def rms_norm(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = x / sqrt(mean of squares + epsilon) * weight` over the last axes (Zhang and Sennrich 2019)."""
    x, axes = inputs[0], tuple(attributes["axes"])
    x = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + np.float32(attributes["epsilon"]))
    over = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    return x * tensors["weight"].reshape(over) if "weight" in tensors else x


def _rms_onnx(w: Writer, node: "Node") -> None:
    name, axes = node.name, node.attributes["axes"]
    square = w.emit("Mul", [node.inputs[0], node.inputs[0]], name + ".square")
    mean = w.emit("ReduceMean", [square, w.constant(axes, name + ".axes", np.int64)], name + ".mean")
    more = w.emit("Add", [mean, w.constant(node.attributes["epsilon"], name + ".epsilon")], name + ".more")
    root = w.emit("Sqrt", [more], name + ".root")
    scaled = w.emit("Div", [node.inputs[0], root], name + ".scaled" if node.tensors else name)
    if node.tensors:
        over = [size if axis in axes else 1 for axis, size in enumerate(w.shapes[name])]
        w.emit("Mul", [scaled, w.tensor(node, "weight", lambda value: value.reshape(over))], name)


def _capture_rms(call: Call) -> str:
    rank, epsilon = len(call.shape), call["eps"]
    axes = list(range(rank - len(call["normalized_shape"]), rank))
    epsilon = float(np.finfo(np.float32).eps) if epsilon is None else epsilon
    return call.emit("rms_norm", [call["input"]], {"weight": call["weight"]}, axes=axes, epsilon=epsilon)


RMS_NORM = Operation(
    tensors=("weight?",),
    attributes={"axes": each(is_size), "epsilon": is_number},
    shape=_shape,
    run=rms_norm,
    onnx=_rms_onnx,
    captures={"rms_norm": _capture_rms},
    bind=partial(_bind, centred=False),
)

# By groups of channels ----------------------------------------------------------------------------------------------


def _group_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    _, channels, *places = inputs[0]
    require(len(places) > 0 and channels % attributes["groups"] == 0, f"{inputs[0]}")
    require(all(tensor == (channels,) for tensor in tensors.values()), f"{tensors} of {inputs[0]}")
    return inputs[0]


def group_norm(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = (x - mean) / sqrt(variance + epsilon) * weight + bias`, both over each group of channels and all places."""
    x = inputs[0].reshape(len(inputs[0]), attributes["groups"], -1)
    x = x - x.mean(2, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(2, keepdims=True) + np.float32(attributes["epsilon"]))
    x, over = x.reshape(inputs[0].shape), (-1, *[1] * (inputs[0].ndim - 2))
    x = x * tensors["weight"].reshape(over) if "weight" in tensors else x
    return x + tensors["bias"].reshape(over) if "bias" in tensors else x


def _group_onnx(w: Writer, node: "Node") -> None:
    name, groups, shape = node.name, node.attributes["groups"], w.shapes[node.name]
    apart = w.constant([-1, groups, int(np.prod(shape[1:])) // groups], name + ".apart", np.int64)
    whole = w.constant([-1, *shape[1:]], name + ".whole", np.int64)
    ones, zeros = w.constant(np.ones(groups), name + ".ones"), w.constant(np.zeros(groups), name + ".zeros")
    x = w.emit("Reshape", [node.inputs[0], apart], name + ".groups")
    x = w.emit("InstanceNormalization", [x, ones, zeros], name + ".normed", epsilon=node.attributes["epsilon"])
    value = w.emit("Reshape", [x, whole], name + ".joined" if node.tensors else name)
    over, roles = (-1, *[1] * (len(shape) - 2)), [role for role in ("weight", "bias") if role in node.tensors]
    for role in roles:
        operand = w.tensor(node, role, lambda tensor: tensor.reshape(over))
        value = w.emit(
            "Mul" if role == "weight" else "Add", [value, operand], name if role == roles[-1] else name + ".scaled"
        )


def _group_torch(torch: Any, inputs: list[Any], tensors: dict[str, Any], attributes: dict[str, Any]) -> Any:
    weights = tensors.get("weight"), tensors.get("bias")
    return torch.nn.functional.group_norm(inputs[0], attributes["groups"], *weights, attributes["epsilon"])


def _capture_group(call: Call) -> str:
    if call.operator == "instance_norm" and not call["use_input_stats"]:
        raise NotCapturedError("an instance norm by running statistics")
    groups, epsilon = call.get("num_groups", call.shape[1]), call["eps"]
    tensors = {"weight": call["weight"], "bias": call["bias"]}
    return call.emit("group_norm", [call["input"]], tensors, groups=groups, epsilon=epsilon)


GROUP_NORM = Operation(
    tensors=("weight?", "bias?"),
    attributes={"groups": is_count, "epsilon": is_number},
    shape=_group_shape,
    run=group_norm,
    onnx=_group_onnx,
    captures={"group_norm": _capture_group, "instance_norm": _capture_group},
    torch=_group_torch,
)
