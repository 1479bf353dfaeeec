"""The same values elsewhere: in other shapes and orders."""

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
    integers,
    is_count,
    is_size,
    never,
    require,
    same_kind,
)

# Another shape ------------------------------------------------------------------------------------------------------


def _reshape_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    shape, total = attributes["shape"], math.prod(inputs[0])
    require(shape.count(-1) <= 1 and min(shape, default=0) >= -1, f"shape {shape}")
    known = math.prod(size for size in shape if size != -1)
    shape = tuple(total // max(known, 1) if size == -1 else size for size in shape)
    require(math.prod(shape) == total, f"{inputs[0]} to {attributes['shape']}")
    return shape


def reshape(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The same values in another shape; one size may be -1."""
    return inputs[0].reshape(attributes["shape"])


def _reshape_onnx(w: Writer, node: Node) -> None:
    w.emit("Reshape", [node.inputs[0], w.constant(node.attributes["shape"], node.name + ".shape", np.int64)], node.name)


def _capture_reshape(call: Call) -> str:
    return call.emit("reshape", [call["self"]], shape=call.sizes)


def _bind_reshape(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    x = inputs[0]
    if x.ctypes.data == out.ctypes.data:
        return None
    if out.flags.c_contiguous:
        return compiled.copying((out.reshape(x.shape), x))
    return compiled.copying((out, x.reshape(out.shape))) if x.flags.c_contiguous else NotImplemented


RESHAPE = Operation(
    attributes={"shape": integers},
    shape=_reshape_shape,
    kind=same_kind,
    run=reshape,
    onnx=_reshape_onnx,
    captures=dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze"), _capture_reshape
    ),
    bind=_bind_reshape,
)

# Another order ------------------------------------------------------------------------------------------------------


def _permute_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(sorted(attributes["axes"]) == list(range(len(inputs[0]))), f"axes {attributes['axes']} of {inputs[0]}")
    return tuple(inputs[0][axis] for axis in attributes["axes"])


def permute(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The axes in another order."""
    return inputs[0].transpose(attributes["axes"])


def _permute_onnx(w: Writer, node: Node) -> None:
    w.emit("Transpose", node.inputs, node.name, perm=node.attributes["axes"])


def _capture_permute(call: Call) -> str:
    axes = list(range(len(call.shape)))
    dims = call.get("dims")
    if dims is not None:
        axes = [axis % len(axes) for axis in dims]
    else:
        i, j = call.get("dim0", 0), call.get("dim1", len(axes) - 1)
        axes[i], axes[j] = axes[j], axes[i]
    return call.emit("permute", [call["self"]], axes=axes)


def _bind_permute(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    axes = attributes["axes"]
    if len(axes) > 2 and axes == [*range(len(axes) - 2), len(axes) - 1, len(axes) - 2]:
        return compiled.turning(inputs[0], out)
    return compiled.copying((out, permute(inputs, tensors, attributes)))


PERMUTE = Operation(
    attributes={"axes": each(is_size)},
    shape=_permute_shape,
    kind=same_kind,
    run=permute,
    onnx=_permute_onnx,
    captures={"permute": _capture_permute, "transpose": _capture_permute, "t": _capture_permute},
    bind=_bind_permute,
    mixes=never,  # its axes begin with the batch, which stays in its place
)

# Rolled along axes ---------------------------------------------------------------------------------------------------


def _roll_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    axes, by = attributes["axes"], attributes["by"]
    require(len(axes) == len(by) and max(axes, default=0) < len(inputs[0]), f"axes {axes} of {inputs[0]}")
    return inputs[0]


def roll(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y[i] = x[i - by]` along each axis, around its end."""
    return np.roll(inputs[0], attributes["by"], attributes["axes"])


def _roll_onnx(w: Writer, node: "Node") -> None:
    value, parts = node.inputs[0], list(zip(node.attributes["axes"], node.attributes["by"], strict=True))
    for number, (axis, by) in enumerate(parts):
        size = w.shapes[node.name][axis]
        name = node.name if number == len(parts) - 1 else f"{node.name}.{number}"
        places = w.constant((np.arange(size) - by) % size, f"{node.name}.{number}.places", np.int64)
        value = w.emit("Gather", [value, places], name, axis=axis)


def _capture_roll(call: Call) -> str:
    axes, by = [axis % len(call.shape) for axis in call["dims"]], list(call["shifts"])
    if not axes or 0 in axes or not all(isinstance(shift, int) for shift in by):
        raise NotCapturedError("a roll of the batch, or of all values as one")
    return call.emit("roll", [call["self"]], axes=axes, by=by)


ROLL = Operation(
    attributes={"axes": each(is_size), "by": integers},
    shape=_roll_shape,
    kind=same_kind,
    run=roll,
    onnx=_roll_onnx,
    captures={"roll": _capture_roll},
    torch=lambda torch, inputs, tensors, attributes: torch.roll(inputs[0], attributes["by"], attributes["axes"]),
)

# Shuffled channels --------------------------------------------------------------------------------------------------


def _shuffle_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs[0]) == 4 and inputs[0][1] % attributes["groups"] == 0, f"{inputs[0]}")
    return inputs[0]


def channel_shuffle(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """Channels seen as (groups, channels / groups), transposed."""
    batch, channels, height, width = inputs[0].shape
    split = inputs[0].reshape(batch, attributes["groups"], -1, height, width)
    return split.swapaxes(1, 2).reshape(batch, channels, height, width)


def _shuffle_onnx(w: Writer, node: Node) -> None:
    _, channels, *size = w.shapes[node.name]
    groups = node.attributes["groups"]
    split = w.constant([-1, groups, channels // groups, *size], node.name + ".split", np.int64)
    joined = w.constant([-1, channels, *size], node.name + ".joined", np.int64)
    x = w.emit("Reshape", [node.inputs[0], split], node.name + ".groups")
    x = w.emit("Transpose", [x], node.name + ".swapped", perm=[0, 2, 1, 3, 4])
    w.emit("Reshape", [x, joined], node.name)


def _bind_shuffle(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    x, groups = inputs[0], attributes["groups"]
    (n, channels, *size), (image, channel, *rows) = x.shape, x.strides
    width = channels // groups
    source = np.lib.stride_tricks.as_strided(x, (n, width, groups, *size), (image, channel, channel * width, *rows))
    image, channel, *rows = out.strides
    target = np.lib.stride_tricks.as_strided(out, source.shape, (image, channel * groups, channel, *rows))
    return partial(np.copyto, target, source)


CHANNEL_SHUFFLE = Operation(
    attributes={"groups": is_count},
    shape=_shuffle_shape,
    run=channel_shuffle,
    onnx=_shuffle_onnx,
    captures={},  # `fold` finds it
    bind=_bind_shuffle,
)
