"""From one PyTorch call to the engine's operations: a handler for each operator of ATen that the engine knows."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from gossamer.engine.capture import Capture


class NotCapturedError(Exception):
    """This part of the model cannot be written in the engine's operations."""


def name_of(node: torch.fx.Node) -> str:
    """Return the operator's name without its overload."""
    return (
        node.target._schema.name.split("::")[1] if isinstance(node.target, torch._ops.OpOverload) else str(node.target)
    )


def _sizes(node: torch.fx.Node) -> list[int]:
    """Return the result's shape with -1 in place of the batch."""
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if sizes.count(-1) > 1:
        raise NotCapturedError(f"shape {node.meta['val'].shape}")
    return sizes


def first_argument(node: torch.fx.Node) -> torch.fx.Node:
    """Return the node that makes the first argument."""
    source = node.args[0]
    if not isinstance(source, torch.fx.Node):
        raise NotCapturedError(f"{name_of(node)} of {type(source).__name__}")
    return source


def _shape(node: torch.fx.Node) -> tuple:
    """Return the shape of the first argument, the batch's size a SymInt."""
    return tuple(first_argument(node).meta["val"].shape)


def _rank(node: torch.fx.Node) -> int:
    return len(_shape(node))


def _pair(value: Any) -> list[int]:
    value = [value] if isinstance(value, int) else list(value)
    return [int(v) for v in (value * 2 if len(value) == 1 else value)]


HANDLERS: dict[str, Callable[["Capture", torch.fx.Node, dict[str, Any]], Any]] = {}


def _handles(*names: str) -> Callable:
    def register(handler: Callable) -> Callable:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


@_handles("conv1d", "conv2d")
def _convolution(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    x, weight, flat = a["input"], a["weight"], name_of(node) == "conv1d"
    if not isinstance(weight, torch.Tensor) or _rank(node) != weight.ndim:
        raise NotCapturedError("a weight that is computed, or an input without a batch")
    if flat:  # one row of pixels
        weight = c.renamed(weight.unsqueeze(2), weight, "row")
        n, channels, length = (s if isinstance(s, int) else -1 for s in _shape(node))
        x = c.emit(node, "reshape", [x], shape=[n, channels, 1, length])
    stride, dilation = ([1, *a[key]] if flat else _pair(a[key]) for key in ("stride", "dilation"))
    if a["padding"] == "same":
        total = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
        x = c.emit(node, "pad", [x], widths=[[0, 0], [0, 0], *([t // 2, t - t // 2] for t in total)], value=0.0)
    padding = [0, 0] if isinstance(a["padding"], str) else [0, *a["padding"]] if flat else _pair(a["padding"])
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "groups": a["groups"]}
    y = c.emit(node, "conv2d", [x], {"weight": weight, "bias": a["bias"]}, **shape, activation=None)
    return c.emit(node, "reshape", [y], shape=_sizes(node)) if flat else y


@_handles("linear")
def _linear(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "linear", [a["input"]], {"weight": a["weight"], "bias": a["bias"]}, activation=None)


@_handles("addmm")
def _addmm(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    if (
        a["alpha"] != 1
        or a["beta"] != 1
        or not isinstance(a["mat2"], torch.Tensor)
        or getattr(a["self"], "ndim", 0) != 1
    ):
        raise NotCapturedError("addmm")
    return c.emit(
        node,
        "linear",
        [a["mat1"]],
        {"weight": c.renamed(a["mat2"].t(), a["mat2"], "transposed"), "bias": a["self"]},
        activation=None,
    )


@_handles("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> Any:
    mean, variance = a["running_mean"], a["running_var"]
    if a.get("training") or not isinstance(mean, torch.Tensor):
        raise NotCapturedError("batch norm by the batch's own statistics")
    scale = torch.rsqrt(variance.double() + a["eps"])
    scale = scale if a["weight"] is None else scale * a["weight"].double()
    shift = -mean.double() * scale
    shift = shift if a["bias"] is None else shift + a["bias"].double()
    y = c.emit(node, "scale_shift", [a["input"]], {"scale": scale.float(), "shift": shift.float()}, activation=None)
    return [y, None, None] if name_of(node).startswith("_native") else y


@_handles("layer_norm")
def _layer_norm(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    rank = _rank(node)
    axes = list(range(rank - len(a["normalized_shape"]), rank))
    return c.emit(
        node, "layer_norm", [a["input"]], {"weight": a["weight"], "bias": a["bias"]}, axes=axes, epsilon=a["eps"]
    )


@_handles("add", "sub", "mul", "div", "rsub")
def _binary(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    x, other, name = a["self"], a["other"], name_of(node).rstrip("_")
    if a.get("alpha", 1) != 1 or a.get("rounding_mode") is not None:
        raise NotCapturedError(f"{name} with alpha or rounding")
    if name == "rsub":
        x, other, name = other, x, "sub"
    if not isinstance(x, str):
        if name in ("add", "mul"):
            x, other = other, x
        elif name == "sub":
            other, x, name = (
                x,
                c.emit(node, "binary", [other], {"other": -1.0}, function="multiply", activation=None),
                "add",
            )
        else:
            raise NotCapturedError("division of a constant")
    function = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide"}[name]
    if isinstance(other, str):
        return c.emit(node, "binary", [x, other], function=function, activation=None)
    if isinstance(other, torch.Tensor) and not other.is_floating_point():
        raise NotCapturedError("integer constants")
    return c.emit(node, "binary", [x], {"other": other}, function=function, activation=None)


@_handles(
    "relu",
    "relu6",
    "hardtanh",
    "clamp",
    "clamp_min",
    "clamp_max",
    "leaky_relu",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "silu",
    "gelu",
)
def _activation(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    name = name_of(node).rstrip("_")
    match name:
        case "relu6":
            activation = {"name": "clamp", "low": 0.0, "high": 6.0}
        case "hardtanh":
            activation = {"name": "clamp", "low": float(a["min_val"]), "high": float(a["max_val"])}
        case "clamp" | "clamp_min" | "clamp_max":
            bounds = {"low": a.get("min"), "high": a.get("max")}
            if any(isinstance(bound, str | torch.Tensor) for bound in bounds.values()):
                raise NotCapturedError("clamp by tensors")
            activation = {"name": "clamp"} | {key: float(bound) for key, bound in bounds.items() if bound is not None}
        case "leaky_relu":
            activation = {"name": "leaky_relu", "slope": float(a["negative_slope"])}
        case "gelu":
            activation = {"name": "gelu" if a["approximate"] == "none" else "gelu_tanh"}
        case _:
            activation = {"name": name}
    return c.emit(node, "activation", [a["self"]], activation=activation)


@_handles("softmax", "_softmax")
def _softmax(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "softmax", [a["self"]], axis=a["dim"] % _rank(node))


@_handles("max_pool2d", "avg_pool2d")
def _pool(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    if _rank(node) != 4 or a.get("divisor_override") is not None:
        raise NotCapturedError("pooling of a single image, or with its own divisor")
    window: dict[str, Any] = {"kernel": _pair(a["kernel_size"]), "stride": _pair(a["stride"] or a["kernel_size"])}
    window |= {"padding": _pair(a["padding"]), "ceil": bool(a["ceil_mode"])}
    if name_of(node) == "max_pool2d":
        return c.emit(node, "max_pool2d", [a["self"]], **window, dilation=_pair(a["dilation"]))
    return c.emit(node, "avg_pool2d", [a["self"]], **window, count_padding=bool(a["count_include_pad"]))


@_handles("adaptive_avg_pool2d")
def _adaptive(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "adaptive_avg_pool2d", [a["self"]], size=_sizes(node)[2:])


@_handles("mean")
def _mean(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    rank = _rank(node)
    axes = sorted(axis % rank for axis in (a.get("dim") or range(rank)))
    return c.emit(node, "mean", [a["self"]], axes=axes, keep=bool(a.get("keepdim", False)))


@_handles("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze")
def _reshape(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "reshape", [a["self"]], shape=_sizes(node))


@_handles("permute", "transpose", "t")
def _permute(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    axes = list(range(_rank(node)))
    if "dims" in a:
        axes = [axis % len(axes) for axis in a["dims"]]
    else:
        i, j = a.get("dim0", 0), a.get("dim1", len(axes) - 1)
        axes[i], axes[j] = axes[j], axes[i]
    return c.emit(node, "permute", [a["self"]], axes=axes)


@_handles("slice", "narrow")
def _slice(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    axis = a["dim"] % _rank(node)
    size = _shape(node)[axis]
    start, step = a["start"] or 0, a.get("step", 1)
    stop = start + a["length"] if "length" in a else a["end"]
    if start == 0 and step == 1 and (stop is None or stop is size or (isinstance(stop, int) and stop >= 2**62)):
        return a["self"]
    if not all(isinstance(value, int) for value in (size, start)) or not isinstance(stop, int | None):
        raise NotCapturedError("a slice of the batch")
    section = range(*slice(start, stop, step).indices(size))
    stop = max(section.start, section.stop)
    return c.emit(node, "slice", [a["self"]], axis=axis, start=section.start, stop=stop, step=step)


@_handles("select")
def _select(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    axis = a["dim"] % _rank(node)
    size = _shape(node)[axis]
    if not isinstance(size, int) or not isinstance(a["index"], int):
        raise NotCapturedError("an element of the batch")
    index = a["index"] % size
    y = c.emit(node, "slice", [a["self"]], axis=axis, start=index, stop=index + 1, step=1)
    return c.emit(node, "reshape", [y], shape=_sizes(node))


@_handles("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split")
def _split(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> list[str]:
    axis = a["dim"] % _rank(node)
    size = _shape(node)[axis]
    if not isinstance(size, int):
        raise NotCapturedError("parts of the batch")
    lengths = a.get("split_sizes", a.get("split_size"))
    if not isinstance(lengths, list):
        step = math.ceil(size / a["chunks"]) if "chunks" in a else a["split_size"]
        lengths = [min(step, size - start) for start in range(0, size, step)]
    starts = np.cumsum([0, *lengths]).tolist()
    return [
        c.emit(node, "slice", [a.get("self", a.get("input"))], axis=axis, start=start, stop=start + length, step=1)
        for start, length in zip(starts, lengths, strict=False)
    ]


@_handles("cat", "concat")
def _concat(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "concat", list(a["tensors"]), axis=a["dim"] % node.meta["val"].ndim)


@_handles("pad", "constant_pad_nd")
def _pad(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    widths = [list(pair) for pair in zip(a["pad"][::2], a["pad"][1::2], strict=True)][::-1]
    if a.get("mode", "constant") != "constant" or any(not isinstance(w, int) or w < 0 for pair in widths for w in pair):
        raise NotCapturedError("padding other than by a constant")
    rank = _rank(node)
    return c.emit(
        node, "pad", [a["self"]], widths=[[0, 0]] * (rank - len(widths)) + widths, value=float(a.get("value") or 0.0)
    )


@_handles("dropout", "clone", "contiguous", "detach", "alias", "feature_dropout", "lift_fresh_copy")
def _nothing(c: "Capture", node: torch.fx.Node, a: dict[str, Any]) -> str:
    if a.get("train"):
        raise NotCapturedError("dropout in training")
    return a["input"] if "input" in a else a["self"]
