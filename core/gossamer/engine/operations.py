"""The fixed list of the engine's operations: for each the shape that it makes, and its plain NumPy reference.

An operation is a pair of functions of (inputs, tensors, attributes): one on shapes, one on arrays. `inputs` are the
values that flow, `tensors` the constants by role. Convolutions, linear maps and scalings take a second input, added
before the activation: `activation(w * x + bias + residual)`.
"""

import numpy as np

from gossamer.engine import pooling
from gossamer.engine.operation import (
    OPERATIONS,
    Shape,
    activate,
    check_activation,
    each,
    integers,
    is_count,
    is_flag,
    is_number,
    is_size,
    operation,
    pair_of_counts,
    pair_of_sizes,
    require,
)

__all__ = ["OPERATIONS", "pooling"]  # pooling registers further operations


def _check_residual(inputs: list[Shape], shape: Shape) -> Shape:
    require(all(other == shape for other in inputs[1:]), f"residual {inputs[1:]} does not have the shape {shape}")
    return shape


def _finish(y: np.ndarray, inputs: list, attributes: dict) -> np.ndarray:
    return activate(attributes["activation"], y + inputs[1] if len(inputs) > 1 else y)


# Convolutions and linear maps ---------------------------------------------------------------------------------------


def _conv_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    batch, channels, *size = inputs[0]
    out, group_channels, *kernel = tensors["weight"]
    groups = attributes["groups"]
    require(len(kernel) == 2 and len(size) == 2, "2-d convolution")
    require(
        channels == group_channels * groups and out % groups == 0, f"{channels} channels, weight {tensors['weight']}"
    )
    require(tensors.get("bias", (out,)) == (out,), f"bias {tensors.get('bias')}")
    ways = zip(size, kernel, attributes["stride"], attributes["padding"], attributes["dilation"], strict=True)
    spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in ways]
    require(min(spatial) > 0, f"input {inputs[0]} is smaller than the kernel")
    return _check_residual(inputs, (batch, out, *spatial))


@operation(
    "conv2d",
    _conv_shape,
    inputs=range(1, 3),
    tensors="weight bias?",
    stride=pair_of_counts,
    padding=pair_of_sizes,
    dilation=pair_of_counts,
    groups=is_count,
    activation=check_activation,
)
def conv2d(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = activation(sum over c, i, j of w[o, c, i, j] x[n, c, s h + d i - p, s w + d j - p] + b[o] + residual)`."""
    x, weight, groups = inputs[0], tensors["weight"], attributes["groups"]
    (top, left), (down, right), (high, wide) = attributes["padding"], attributes["stride"], attributes["dilation"]
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(weight.shape[2:], (high, wide), strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))[:, :, ::down, ::right, ::high, ::wide]
    parts = zip(np.split(windows, groups, axis=1), np.split(weight, groups, axis=0), strict=True)
    y = np.concatenate([np.tensordot(w, part, ((1, 2, 3), (1, 4, 5))) for part, w in parts], axis=0).swapaxes(0, 1)
    if "bias" in tensors:
        y = y + tensors["bias"][:, None, None]
    return _finish(y, inputs, attributes)


def _linear_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    out, features = tensors["weight"]
    require(inputs[0][-1] == features, f"{inputs[0][-1]} features, weight {tensors['weight']}")
    require(tensors.get("bias", (out,)) == (out,), f"bias {tensors.get('bias')}")
    return _check_residual(inputs, (*inputs[0][:-1], out))


@operation("linear", _linear_shape, inputs=range(1, 3), tensors="weight bias?", activation=check_activation)
def linear(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = activation(x @ w.T + bias + residual)` over the last axis."""
    return _finish(inputs[0] @ tensors["weight"].T + tensors.get("bias", np.float32(0)), inputs, attributes)


def _scale_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(tensors["scale"] == tensors["shift"] == (inputs[0][1],), f"scale {tensors['scale']} for {inputs[0]}")
    return _check_residual(inputs, inputs[0])


@operation("scale_shift", _scale_shape, inputs=range(1, 3), tensors="scale shift", activation=check_activation)
def scale_shift(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y[n, c] = activation(scale[c] * x[n, c] + shift[c] + residual)`: a batch norm that follows no convolution."""
    x = inputs[0]
    scale, shift = (tensors[role].reshape(-1, *[1] * (x.ndim - 2)) for role in ("scale", "shift"))
    return _finish(x * scale + shift, inputs, attributes)


# Element by element -------------------------------------------------------------------------------------------------

BINARY = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}


def _binary_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(len(inputs) + len(tensors) == 2, "two operands")
    return np.broadcast_shapes(*inputs, *tensors.values())


@operation(
    "binary",
    _binary_shape,
    inputs=range(1, 3),
    tensors="other?",
    function=BINARY.__contains__,
    activation=check_activation,
)
def binary(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = activation(x add|subtract|multiply|divide other)` with broadcasting; `other` is an input or a constant."""
    x, other = [*inputs, *tensors.values()]
    return activate(attributes["activation"], BINARY[attributes["function"]](x, other))


def _same_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    return inputs[0]


@operation("activation", _same_shape, activation=check_activation)
def activation(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = activation(x)`, one of `gossamer.kernels.ACTIVATIONS`."""
    return activate(attributes["activation"], inputs[0])


def _softmax_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(attributes["axis"] < len(inputs[0]), f"axis {attributes['axis']} of {inputs[0]}")
    return inputs[0]


@operation("softmax", _softmax_shape, axis=is_size)
def softmax(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = exp(x - max x) / sum exp(x - max x)` along the axis."""
    e = np.exp(inputs[0] - inputs[0].max(attributes["axis"], keepdims=True))
    return e / e.sum(attributes["axis"], keepdims=True)


def _norm_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    normalized = tuple(inputs[0][axis] for axis in attributes["axes"])
    require(all(tensors.get(role, normalized) == normalized for role in ("weight", "bias")), f"axes {normalized}")
    return inputs[0]


@operation("layer_norm", _norm_shape, tensors="weight? bias?", axes=each(is_size), epsilon=is_number)
def layer_norm(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`y = (x - mean) / sqrt(variance + epsilon) * weight + bias`, mean and variance over the axes."""
    x, axes = inputs[0], tuple(attributes["axes"])
    x = x - x.mean(axes, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + np.float32(attributes["epsilon"]))
    over = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    x = x * tensors["weight"].reshape(over) if "weight" in tensors else x
    return x + tensors["bias"].reshape(over) if "bias" in tensors else x


# Shapes -------------------------------------------------------------------------------------------------------------


def _mean_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(all(axis < len(inputs[0]) for axis in attributes["axes"]), f"axes {attributes['axes']} of {inputs[0]}")
    kept = [1 if axis in attributes["axes"] else size for axis, size in enumerate(inputs[0])]
    return tuple(size for axis, size in enumerate(kept) if attributes["keep"] or axis not in attributes["axes"])


@operation("mean", _mean_shape, axes=each(is_size), keep=is_flag)
def mean(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The mean over the axes."""
    return inputs[0].mean(tuple(attributes["axes"]), keepdims=attributes["keep"])


def _reshape_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    shape, total = attributes["shape"], int(np.prod(inputs[0]))
    require(shape.count(-1) <= 1 and min(shape, default=0) >= -1, f"shape {shape}")
    known = int(np.prod([size for size in shape if size != -1]))
    shape = tuple(total // max(known, 1) if size == -1 else size for size in shape)
    require(int(np.prod(shape)) == total, f"{inputs[0]} to {attributes['shape']}")
    return shape


@operation("reshape", _reshape_shape, shape=integers)
def reshape(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The same values in another shape; one size may be -1."""
    return inputs[0].reshape(attributes["shape"])


def _permute_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(sorted(attributes["axes"]) == list(range(len(inputs[0]))), f"axes {attributes['axes']} of {inputs[0]}")
    return tuple(inputs[0][axis] for axis in attributes["axes"])


@operation("permute", _permute_shape, axes=each(is_size))
def permute(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The axes in another order."""
    return inputs[0].transpose(attributes["axes"])


def _slice_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    axis, start, stop, step = (attributes[name] for name in ("axis", "start", "stop", "step"))
    require(axis < len(inputs[0]) and start <= stop <= inputs[0][axis], f"{start}:{stop} of {inputs[0]}")
    return tuple(-(-(stop - start) // step) if a == axis else size for a, size in enumerate(inputs[0]))


@operation("slice", _slice_shape, axis=is_size, start=is_size, stop=is_size, step=is_count)
def slice_axis(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`x[start:stop:step]` along the axis."""
    section = slice(attributes["start"], attributes["stop"], attributes["step"])
    return inputs[0][(slice(None),) * attributes["axis"] + (section,)]


def _concat_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    axis = attributes["axis"]
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
    require(axis < len(inputs[0]) and len(rest) == 1, f"{inputs} along axis {axis}")
    return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


@operation("concat", _concat_shape, inputs=range(1, 4096), axis=is_size)
def concat(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """The inputs one after another along the axis."""
    return np.concatenate(inputs, axis=attributes["axis"])


def _pad_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    return tuple(n + before + after for n, (before, after) in zip(inputs[0], attributes["widths"], strict=True))


@operation("pad", _pad_shape, widths=each(pair_of_sizes), value=is_number)
def pad(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """`value` around the input; `widths` holds (before, after) for every axis."""
    return np.pad(inputs[0], attributes["widths"], constant_values=attributes["value"])


def _shuffle_shape(inputs: list, tensors: dict, attributes: dict) -> Shape:
    require(len(inputs[0]) == 4 and inputs[0][1] % attributes["groups"] == 0, f"{inputs[0]}")
    return inputs[0]


@operation("channel_shuffle", _shuffle_shape, groups=is_count)
def channel_shuffle(inputs: list, tensors: dict, attributes: dict) -> np.ndarray:
    """Channels seen as (groups, channels / groups), transposed."""
    batch, channels, height, width = inputs[0].shape
    split = inputs[0].reshape(batch, attributes["groups"], -1, height, width)
    return split.swapaxes(1, 2).reshape(batch, channels, height, width)
