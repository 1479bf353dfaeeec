"""Convolutions of images, and of sequences as images one row high."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    check_activation,
    check_residual,
    finish,
    is_count,
    is_tensor,
    pair,
    pair_of_counts,
    pair_of_sizes,
    require,
)
from gossamer.kernels import reference


def _shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
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
    return check_residual(inputs, (batch, out, *spatial))


def conv2d(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = activation(sum over c, i, j of w[o, c, i, j] x[n, c, s h + d i - p, s w + d j - p] + b[o] + residual)`."""
    geometry = (attributes[name] for name in ("stride", "padding", "dilation", "groups"))
    y = reference.conv2d(inputs[0], tensors["weight"], tensors.get("bias"), *geometry)
    return finish(y, inputs, attributes)


def _onnx(w: Writer, node: Node) -> None:
    a = node.attributes
    inputs = [node.inputs[0], w.tensor(node, "weight"), w.tensor(node, "bias")]
    shape = {"strides": a["stride"], "pads": a["padding"] * 2, "dilations": a["dilation"], "group": a["groups"]}
    w.finish(node, w.emit("Conv", [name for name in inputs if name], w.ends(node), **shape))


def _capture(call: Call) -> str:
    x, weight, flat = call["input"], call["weight"], call.operator == "conv1d"
    if not is_tensor(weight) or len(call.shape) != weight.ndim:
        raise NotCapturedError("a weight that is computed, or an input without a batch")
    if flat:  # one row of pixels
        weight = call.renamed(weight.unsqueeze(2), weight, "row")
        n, channels, length = (s if isinstance(s, int) else -1 for s in call.shape)
        x = call.emit("reshape", [x], shape=[n, channels, 1, length])
    stride, dilation = ([1, *call[key]] if flat else pair(call[key]) for key in ("stride", "dilation"))
    padding = call["padding"]
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
        x = call.emit("pad", [x], widths=[[0, 0], [0, 0], *([t // 2, t - t // 2] for t in total)], value=0.0)
    padding = [0, 0] if isinstance(padding, str) else [0, *padding] if flat else pair(padding)
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "groups": call["groups"]}
    y = call.emit("conv2d", [x], {"weight": weight, "bias": call["bias"]}, **shape, activation=None)
    return call.emit("reshape", [y], shape=call.sizes) if flat else y


CONV2D = Operation(
    inputs=range(1, 3),
    tensors=("weight", "bias?"),
    attributes={
        "stride": pair_of_counts,
        "padding": pair_of_sizes,
        "dilation": pair_of_counts,
        "groups": is_count,
        "activation": check_activation,
    },
    shape=_shape,
    run=conv2d,
    onnx=_onnx,
    captures={"conv2d": _capture, "conv1d": _capture},
    layer=True,
    fuses=True,
)
