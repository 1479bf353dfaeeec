"""From a PyTorch module to the engine's graph, by way of torch.export with the batch dimension left open."""

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import InputKind

from gossamer.engine.graph import Graph, Node
from gossamer.engine.operations import OPERATIONS

_VIEWS = {"slice", "select", "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "chunk", "split"}
_VIEWS |= {
    "dropout",
    "feature_dropout",
    "unsqueeze",
    "squeeze",
    "expand",
    "contiguous",
    "detach",
    "alias",
    "narrow",
    "unbind",
    "split_with_sizes",
}


class NotCapturedError(Exception):
    """This part of the model cannot be written in the engine's operations."""


def capture(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Graph:
    """Return the model as a graph; a call outside the engine's list becomes a node of the operation "torch".

    Raises NotCapturedError where the whole model has to stay PyTorch code.
    """
    if any(x.dtype != torch.float32 or x.ndim < 2 for x in inputs):
        raise NotCapturedError("inputs other than batches of float32")
    several = tuple(torch.cat([x[:1], x[:1]]) for x in inputs)  # an export at batch 1 would fix it there
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, several, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},) * len(inputs))
            if _writes_through_views(program.graph):
                program = program.run_decompositions({})
        except Exception as error:
            raise NotCapturedError(f"torch.export: {error}") from error
        return _Capture(program).graph


def _name(node: torch.fx.Node) -> str:
    return (
        node.target._schema.name.split("::")[1] if isinstance(node.target, torch._ops.OpOverload) else str(node.target)
    )


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _writes_through_views(graph: torch.fx.Graph) -> bool:
    """Say whether an operation in place changes a tensor that other views see."""
    for node in graph.nodes:
        if _writes(node):
            target = node.args[0]
            others = {_name(user) for user in target.users}
            if (
                target.op == "placeholder"
                or _name(target) in _VIEWS
                or target.target is operator.getitem
                or others & _VIEWS
            ):
                return True
    return False


class _Capture:
    """Walks an exported program; `values` maps its nodes to names of values, constant tensors, or symbolic sizes."""

    def __init__(self, program: torch.export.ExportedProgram):
        self.values: dict[torch.fx.Node, Any] = {}
        self.graph = Graph({}, [], {}, None)
        self.names: dict[int, str] = {}
        self.alive: list[torch.Tensor] = []
        self.symbol: Any = None
        kept = {**program.state_dict, **program.constants}
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name], kept)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._output(node, program)
            else:
                raise NotCapturedError(f"{node.op} {node.target}")
        self.graph.prune()

    def _placeholder(self, node: torch.fx.Node, spec: Any, kept: dict[str, Any]) -> None:
        if spec.kind is InputKind.USER_INPUT:
            batch, *shape = node.meta["val"].shape
            if not isinstance(batch, torch.SymInt) or not all(isinstance(size, int) for size in shape):
                raise NotCapturedError(f"input {node.name} of shape {tuple(node.meta['val'].shape)}")
            self.symbol = self.symbol or batch.node.expr
            self.values[node] = node.name
            self.graph.inputs[node.name] = tuple(shape)
        else:
            self.values[node] = kept[spec.target].detach()
            self.names[id(self.values[node])] = spec.target

    def _output(self, node: torch.fx.Node, program: torch.export.ExportedProgram) -> None:
        values = [self.values.get(value) for value in node.args[0]]
        if not values or not all(isinstance(value, str) for value in values):
            raise NotCapturedError("an output that is not computed from the inputs")
        self.graph.output = pytree.tree_unflatten(values, program.call_spec.out_spec)
        flat = pytree.tree_leaves(self.graph.output)
        if not all(type(leaf) is str for leaf in flat) or not _is_plain(self.graph.output):
            raise NotCapturedError("an output that is not made of tensors, lists, tuples and dicts")

    def _call(self, node: torch.fx.Node) -> Any:
        arguments = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, (node.args, node.kwargs))
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt):
            return value
        if not any(isinstance(leaf, str | torch.SymInt) for leaf in _operands(node, self.values)):
            return self._constant_call(node, *arguments)
        if node.target is operator.getitem and isinstance(arguments[0][0], list):
            return arguments[0][0][arguments[0][1]]
        handler = HANDLERS.get(_name(node).rstrip("_"))
        try:
            if handler is None:
                raise NotCapturedError(_name(node))
            result = handler(self, node, _named(node, *arguments))
        except NotCapturedError:
            result = self._torch_call(node)
        if _writes(node):
            self.values[node.args[0]] = result  # whoever reads the tensor from here on sees it changed
        return result

    def _constant_call(self, node: torch.fx.Node, args: tuple, kwargs: dict) -> Any:
        if _writes(node):
            args = (args[0].clone(), *args[1:])
        result = node.target(*args, **kwargs)
        if _writes(node):
            self.values[node.args[0]] = result
        return result

    def _torch_call(self, node: torch.fx.Node) -> str:
        """Keep the call as PyTorch code: `bind(batch)` makes the function from input tensors to the output tensor."""
        target, pick = node, None
        if node.target is operator.getitem:
            target, pick = node.args[0], node.args[1]
        elif not isinstance(node.meta.get("val"), torch.Tensor):
            return "" if isinstance(node.meta.get("val"), list | tuple) else _fail(node)
        value = node.meta["val"]
        sources = [leaf for leaf in pytree.tree_leaves((target.args, target.kwargs)) if isinstance(leaf, torch.fx.Node)]
        names = list(dict.fromkeys(self.values[s] for s in sources if isinstance(self.values[s], str)))
        if value.dtype != torch.float32 or "" in names:
            raise NotCapturedError(f"{_name(target)} makes {value.dtype}")
        values, symbol = {source: self.values[source] for source in sources}, self.symbol

        def bind(batch: int) -> Callable[..., torch.Tensor]:
            def size(value: Any) -> int:
                return int(value.node.expr.subs({symbol: batch})) if isinstance(value, torch.SymInt) else int(value)

            def call(*tensors: torch.Tensor) -> torch.Tensor:
                given = dict(zip(names, tensors, strict=True))

                def read(source: torch.fx.Node) -> Any:
                    known = values[source]
                    return (
                        size(known)
                        if isinstance(known, torch.SymInt)
                        else given.get(known, known)
                        if isinstance(known, str)
                        else known
                    )

                args, kwargs = pytree.tree_map_only(torch.fx.Node, read, (target.args, target.kwargs))
                if _writes(target):
                    args = (args[0].clone(), *args[1:])
                result = target.target(*args, **kwargs)
                return result if pick is None else result[pick]

            return call

        def shape(batch: int) -> tuple[int, ...]:
            return tuple(s if isinstance(s, int) else int(s.node.expr.subs({symbol: batch})) for s in value.shape)

        return self.emit(node, "torch", names, {}, bind=bind, shape=shape, call=_name(target))

    # What the handlers use --------------------------------------------------------------------------------------

    def emit(
        self, node: torch.fx.Node, operation: str, inputs: list, tensors: dict | None = None, **attributes: Any
    ) -> str:
        """Append a node and return its value's name. A tensor that is None is left out."""
        for value in inputs:
            if not isinstance(value, str):
                raise NotCapturedError(f"{operation} of a constant")
        roles = {
            role: self.tensor(value, f"{node.name}.{role}")
            for role, value in (tensors or {}).items()
            if value is not None
        }
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        layer = stack[-1][0] if stack and stack[-1][0] else node.name
        name = (
            node.name
            if all(other.name != node.name for other in self.graph.nodes[-8:])
            else f"{node.name}.{len(self.graph.nodes)}"
        )
        self.graph.nodes.append(Node(operation, name, inputs, roles, attributes, layer))
        return name

    def renamed(self, value: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Give a tensor the name of the one that it was made from."""
        if id(source) in self.names:
            self.names[id(value)] = self.names[id(source)]
        self.alive.append(value)
        return value

    def tensor(self, value: Any, name: str) -> str:
        """Register a constant and return its name."""
        if isinstance(value, int | float):
            value = torch.tensor(float(value))
        if not isinstance(value, torch.Tensor):
            raise NotCapturedError("a tensor that is computed")
        name = self.names.setdefault(id(value), name)
        self.graph.tensors[name] = np.ascontiguousarray(value.detach().cpu().to(torch.float32).numpy()).reshape(
            value.shape
        )
        self.alive.append(value)  # its id is its name
        return name


def _fail(node: torch.fx.Node) -> str:
    raise NotCapturedError(f"{_name(node)} makes {type(node.meta.get('val')).__name__}")


def _is_plain(template: Any) -> bool:
    if isinstance(template, str):
        return True
    if type(template) is dict:
        return all(type(key) is str and _is_plain(part) for key, part in template.items())
    return type(template) in (list, tuple) and all(map(_is_plain, template))


def _operands(node: torch.fx.Node, values: dict) -> list:
    leaves = []
    for source in node.all_input_nodes:
        value = values[source]
        leaves += value if isinstance(value, list) else [value]
    return leaves


def _named(node: torch.fx.Node, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Return the arguments by their names in the operator's schema, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        raise NotCapturedError(str(node.target))
    schema = node.target._schema.arguments
    named = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    named.update(zip((argument.name for argument in schema), args, strict=False))
    return named | kwargs


def _sizes(node: torch.fx.Node) -> list[int]:
    """Return the result's shape with -1 in place of the batch."""
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if sizes.count(-1) > 1:
        raise NotCapturedError(f"shape {node.meta['val'].shape}")
    return sizes


def _rank(node: torch.fx.Node, argument: int = 0) -> int:
    return node.args[argument].meta["val"].ndim


def _pair(value: Any) -> list[int]:
    value = [value] if isinstance(value, int) else list(value)
    return [int(v) for v in (value * 2 if len(value) == 1 else value)]


HANDLERS: dict[str, Callable[[_Capture, torch.fx.Node, dict[str, Any]], Any]] = {}


def _handles(*names: str) -> Callable:
    def register(handler: Callable) -> Callable:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


@_handles("conv1d", "conv2d")
def _convolution(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    weight, flat = a["weight"], _name(node) == "conv1d"
    if not isinstance(weight, torch.Tensor):
        raise NotCapturedError("a weight that is computed")
    x, kernel = a["input"], [1, *weight.shape[2:]][-2:]
    stride, padding, dilation = a["stride"], a["padding"], a["dilation"]
    if flat:
        weight = c.renamed(weight.unsqueeze(2), weight)
        n, channels, length = (s if isinstance(s, int) else -1 for s in node.args[0].meta["val"].shape)
        x = c.emit(node, "reshape", [x], shape=[n, channels, 1, length])
    ones = [1, *stride][-2:] if flat else _pair(stride)
    spread = [1, *dilation][-2:] if flat else _pair(dilation)
    around = padding if isinstance(padding, str) else [0, *padding][-2:] if flat else _pair(padding)
    if around == "valid":
        around = [0, 0]
    if around == "same":
        total = [d * (k - 1) for k, d in zip(kernel, spread, strict=True)]
        around = [t // 2 for t in total]
        if any(t % 2 for t in total):
            widths = [[0, 0], [0, 0], *([t // 2, t - t // 2] for t in total)]
            x, around = c.emit(node, "pad", [x], widths=widths, value=0.0), [0, 0]
    tensors = {"weight": weight, "bias": a["bias"]}
    y = c.emit(
        node, "conv2d", [x], tensors, stride=ones, padding=around, dilation=spread, groups=a["groups"], activation=None
    )
    return c.emit(node, "reshape", [y], shape=_sizes(node)) if flat else y


@_handles("linear")
def _linear(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "linear", [a["input"]], {"weight": a["weight"], "bias": a["bias"]}, activation=None)


@_handles("addmm")
def _addmm(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    if (
        a["alpha"] != 1
        or a["beta"] != 1
        or not isinstance(a["mat2"], torch.Tensor)
        or getattr(a["self"], "ndim", 0) != 1
    ):
        raise NotCapturedError("addmm")
    return c.emit(
        node, "linear", [a["mat1"]], {"weight": c.renamed(a["mat2"].t(), a["mat2"]), "bias": a["self"]}, activation=None
    )


@_handles("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> Any:
    mean, variance = a["running_mean"], a["running_var"]
    if a.get("training") or not isinstance(mean, torch.Tensor):
        raise NotCapturedError("batch norm by the batch's own statistics")
    scale = torch.rsqrt(variance.double() + a["eps"])
    scale = scale if a["weight"] is None else scale * a["weight"].double()
    shift = -mean.double() * scale
    shift = shift if a["bias"] is None else shift + a["bias"].double()
    y = c.emit(node, "scale_shift", [a["input"]], {"scale": scale.float(), "shift": shift.float()}, activation=None)
    return [y, None, None] if _name(node).startswith("_native") else y


@_handles("layer_norm")
def _layer_norm(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    rank = _rank(node)
    axes = list(range(rank - len(a["normalized_shape"]), rank))
    return c.emit(
        node, "layer_norm", [a["input"]], {"weight": a["weight"], "bias": a["bias"]}, axes=axes, epsilon=a["eps"]
    )


@_handles("add", "sub", "mul", "div", "rsub")
def _binary(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    x, other, name = a["self"], a["other"], _name(node).rstrip("_")
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
def _activation(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    name = _name(node).rstrip("_")
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
def _softmax(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "softmax", [a["self"]], axis=a["dim"] % _rank(node))


@_handles("max_pool2d", "avg_pool2d")
def _pool(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    if _rank(node) != 4 or a.get("divisor_override") is not None:
        raise NotCapturedError("pooling of a single image, or with its own divisor")
    window = {"kernel": _pair(a["kernel_size"]), "stride": _pair(a["stride"] or a["kernel_size"])}
    window |= {"padding": _pair(a["padding"]), "ceil": bool(a["ceil_mode"])}
    if _name(node) == "max_pool2d":
        return c.emit(node, "max_pool2d", [a["self"]], **window, dilation=_pair(a["dilation"]))
    return c.emit(node, "avg_pool2d", [a["self"]], **window, count_padding=bool(a["count_include_pad"]))


@_handles("adaptive_avg_pool2d")
def _adaptive(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "adaptive_avg_pool2d", [a["self"]], size=_sizes(node)[2:])


@_handles("mean")
def _mean(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    rank = _rank(node)
    axes = sorted(axis % rank for axis in (a.get("dim") or range(rank)))
    return c.emit(node, "mean", [a["self"]], axes=axes, keep=bool(a.get("keepdim", False)))


@_handles("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze")
def _reshape(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "reshape", [a["self"]], shape=_sizes(node))


@_handles("permute", "transpose", "t")
def _permute(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    axes = list(range(_rank(node)))
    if "dims" in a:
        axes = [axis % len(axes) for axis in a["dims"]]
    else:
        i, j = a.get("dim0", 0), a.get("dim1", len(axes) - 1)
        axes[i], axes[j] = axes[j], axes[i]
    return c.emit(node, "permute", [a["self"]], axes=axes)


@_handles("slice", "narrow")
def _slice(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    axis = a["dim"] % _rank(node)
    size = node.args[0].meta["val"].shape[axis]
    start, stop, step = (
        (a["start"], a["start"] + a["length"], 1) if "length" in a else (a["start"] or 0, a["end"], a["step"])
    )
    if start == 0 and step == 1 and (stop is None or stop is size or (isinstance(stop, int) and stop >= 2**62)):
        return a["self"]
    if not all(isinstance(value, int) for value in (size, start)) or not isinstance(stop, int | None):
        raise NotCapturedError("a slice of the batch")
    start, stop, step = slice(start, stop, step).indices(size)
    return c.emit(node, "slice", [a["self"]], axis=axis, start=start, stop=max(start, stop), step=step)


@_handles("select")
def _select(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    axis = a["dim"] % _rank(node)
    size = node.args[0].meta["val"].shape[axis]
    if not isinstance(size, int) or not isinstance(a["index"], int):
        raise NotCapturedError("an element of the batch")
    index = a["index"] % size
    y = c.emit(node, "slice", [a["self"]], axis=axis, start=index, stop=index + 1, step=1)
    return c.emit(node, "reshape", [y], shape=_sizes(node))


@_handles("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split")
def _split(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> list[str]:
    axis = a["dim"] % _rank(node)
    size = node.args[0].meta["val"].shape[axis]
    if not isinstance(size, int):
        raise NotCapturedError("parts of the batch")
    parts = a.get("split_sizes", a.get("split_size"))
    step = math.ceil(size / a["chunks"]) if "chunks" in a else parts
    lengths = parts if isinstance(parts, list) else [min(step, size - start) for start in range(0, size, step)]
    starts = np.cumsum([0, *lengths]).tolist()
    return [
        c.emit(node, "slice", [a.get("self", a.get("input"))], axis=axis, start=start, stop=start + length, step=1)
        for start, length in zip(starts, lengths, strict=False)
    ]


@_handles("cat", "concat")
def _concat(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    return c.emit(node, "concat", list(a["tensors"]), axis=a["dim"] % node.meta["val"].ndim)


@_handles("pad", "constant_pad_nd")
def _pad(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    widths = [list(pair) for pair in zip(a["pad"][::2], a["pad"][1::2], strict=True)][::-1]
    if a.get("mode", "constant") != "constant" or any(not isinstance(w, int) or w < 0 for pair in widths for w in pair):
        raise NotCapturedError("padding other than by a constant")
    rank = _rank(node)
    return c.emit(
        node, "pad", [a["self"]], widths=[[0, 0]] * (rank - len(widths)) + widths, value=float(a.get("value") or 0.0)
    )


@_handles("dropout", "clone", "contiguous", "detach", "alias", "feature_dropout", "lift_fresh_copy")
def _nothing(c: _Capture, node: torch.fx.Node, a: dict[str, Any]) -> str:
    if a.get("train"):
        raise NotCapturedError("dropout in training")
    return a["input"] if "input" in a else a["self"]


assert set(OPERATIONS)  # the handlers emit these
