"""Export to ONNX: the engine's folded graph, written node by node with the `onnx` package."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.engine.graph import Graph, Node
from gossamer.engine.pooling import adaptive_weights
from gossamer.errors import InputError
from gossamer.results import write_atomically

if TYPE_CHECKING:
    import torch

    from gossamer.engine import Engine

OPSET = 18
"""The version of the operators, one that older runtimes read too; 20 where a GELU is among them."""


def export_onnx(
    model: "torch.nn.Module | Engine", path: str | Path, example: Any = None, *, sparse: bool = False
) -> int:
    """Write a model in evaluation mode, or an engine, as an ONNX file with an open batch size; return its bytes.

    `example` is an input of the model (float32, the batch first), or a tuple of them; an engine needs none. Batch
    norms are folded. With `sparse`, weights of which at most a quarter is not zero become sparse initializers, a value
    and a 64-bit index for each non-zero: a smaller file, which ONNX Runtime unpacks into dense memory when it loads it.

    Raises InputError where the `onnx` package is missing, an example is needed, or the model does more than the
    engine's operations.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError('export_onnx needs the onnx package: pip install "gossamer[onnx]"') from error
    graph = _graph(model, example)
    for node in graph.nodes:
        if node.operation == "torch":
            raise InputError(f"{node.layer or node.name} ({node.attributes['call']}) cannot be exported to ONNX")
    content = _Writer(graph, sparse).model().SerializeToString()
    if len(content) >= 2**31:
        raise InputError(f"the file would have {len(content)} bytes, more than ONNX's 2 GiB: export a smaller model")
    onnx.checker.check_model(content)
    write_atomically(Path(path), content)
    return len(content)


def _graph(model: Any, example: Any) -> Graph:
    from gossamer.engine import Engine, trace
    from gossamer.engine.translate import NotCapturedError

    if isinstance(model, Engine):
        return model.graph
    if example is None:
        raise InputError("export_onnx of a module needs an example input: export_onnx(model, path, example)")
    try:
        return trace(model, example)
    except NotCapturedError as reason:
        raise InputError(f"the model stays PyTorch code ({reason}) and cannot be exported to ONNX") from reason


class _Writer:
    """Collects the ONNX nodes and initializers of a graph."""

    def __init__(self, graph: Graph, sparse: bool):
        self.graph, self.sparse = graph, sparse
        self.shapes = graph.shapes(2)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def model(self) -> Any:
        """Return the ModelProto."""
        from onnx import TensorProto, helper, numpy_helper

        for node in self.graph.nodes:
            _WRITERS[node.operation](self, node)
        names = self.graph.outputs()
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in self.graph.inputs.items()
        ]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *self.shapes[name][1:]]) for name in names
        ]
        thin = {name for name, value in self.constants.items() if self.sparse and _is_thin(value)}
        graph = helper.make_graph(
            self.nodes,
            "gossamer",
            inputs,
            outputs,
            [numpy_helper.from_array(value, name) for name, value in self.constants.items() if name not in thin],
            sparse_initializer=[_sparse(self.constants[name], name) for name in sorted(thin)],
        )
        opset = helper.make_opsetid("", 20 if any(node.op_type == "Gelu" for node in self.nodes) else OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9, producer_name="gossamer")

    def emit(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append an ONNX node and return its output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output + ":" + operator, **attributes))
        return output

    def constant(self, value: Any, name: str, dtype: Any = np.float32) -> str:
        """Add an initializer and return its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def tensor(self, node: Node, role: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        """Add one of the node's tensors, changed if asked, and return its name; "" where it has none of this role."""
        if role not in node.tensors:
            return ""
        value = self.graph.tensors[node.tensors[role]]
        return self.constant(
            change(value) if change else value, f"{node.name}.{role}" if change else node.tensors[role]
        )

    def finish(self, node: Node, value: str) -> None:
        """Add the residual and apply the activation."""
        activation = node.attributes["activation"]
        if len(node.inputs) > 1 and node.operation != "binary":
            value = self.emit("Add", [value, node.inputs[1]], node.name + ".sum" if activation else node.name)
        if activation:
            _write_activation(self, activation, value, node.name)


def _is_thin(value: np.ndarray) -> bool:
    return value.ndim > 1 and value.dtype == np.float32 and 4 * int(np.count_nonzero(value)) <= value.size


def _sparse(value: np.ndarray, name: str) -> Any:
    from onnx import helper, numpy_helper

    places = np.flatnonzero(value)
    values = numpy_helper.from_array(value.reshape(-1)[places], name)
    return helper.make_sparse_tensor(
        values, numpy_helper.from_array(places.astype(np.int64), name + ".indices"), value.shape
    )


def _ends(node: Node) -> str:
    """Return the name for a result that `finish` continues, or ends with."""
    more = node.attributes["activation"] or len(node.inputs) > 1
    return node.name + ".raw" if more else node.name


def _write_activation(w: _Writer, activation: dict, x: str, y: str) -> None:
    match activation["name"]:
        case "none":
            w.emit("Identity", [x], y)
        case "clamp":
            low, high = activation.get("low", -math.inf), activation.get("high", math.inf)
            w.emit("Clip", [x, w.constant(low, y + ".low"), w.constant(high, y + ".high")], y)
        case "leaky_relu":
            w.emit("LeakyRelu", [x], y, alpha=activation.get("slope", 0.01))
        case "hardsigmoid":
            w.emit("HardSigmoid", [x], y, alpha=1 / 6, beta=0.5)
        case "silu":
            w.emit("Mul", [x, w.emit("Sigmoid", [x], y + ".gate")], y)
        case "gelu":
            w.emit("Gelu", [x], y)
        case "gelu_tanh":
            w.emit("Gelu", [x], y, approximate="tanh")
        case name:
            w.emit({"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid"}[name], [x], y)


def _conv2d(w: _Writer, node: Node) -> None:
    a = node.attributes
    inputs = [node.inputs[0], w.tensor(node, "weight"), w.tensor(node, "bias")]
    shape = {"strides": a["stride"], "pads": a["padding"] * 2, "dilations": a["dilation"], "group": a["groups"]}
    w.finish(node, w.emit("Conv", [name for name in inputs if name], _ends(node), **shape))


def _linear(w: _Writer, node: Node) -> None:
    if len(w.shapes[node.inputs[0]]) == 2:
        inputs = [node.inputs[0], w.tensor(node, "weight"), w.tensor(node, "bias")]
        w.finish(node, w.emit("Gemm", [name for name in inputs if name], _ends(node), transB=1))
        return
    weight, bias = w.tensor(node, "weight", np.transpose), w.tensor(node, "bias")
    product = w.emit("MatMul", [node.inputs[0], weight], node.name + ".product" if bias else _ends(node))
    w.finish(node, w.emit("Add", [product, bias], _ends(node)) if bias else product)


def _scale_shift(w: _Writer, node: Node) -> None:
    over = (-1, *[1] * (len(w.shapes[node.name]) - 2))
    scale, shift = (w.tensor(node, role, lambda value: value.reshape(over)) for role in ("scale", "shift"))
    scaled = w.emit("Mul", [node.inputs[0], scale], node.name + ".scaled")
    w.finish(node, w.emit("Add", [scaled, shift], _ends(node)))


def _binary(w: _Writer, node: Node) -> None:
    operator = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}[node.attributes["function"]]
    operands = [*node.inputs, *([w.tensor(node, "other")] if node.tensors else [])]
    w.finish(node, w.emit(operator, operands, node.name + ".raw" if node.attributes["activation"] else node.name))


def _activation(w: _Writer, node: Node) -> None:
    _write_activation(w, node.attributes["activation"] or {"name": "none"}, node.inputs[0], node.name)


def _softmax(w: _Writer, node: Node) -> None:
    w.emit("Softmax", node.inputs, node.name, axis=node.attributes["axis"])


def _layer_norm(w: _Writer, node: Node) -> None:
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


def _pool(w: _Writer, node: Node) -> None:
    a = node.attributes
    window = {
        "kernel_shape": a["kernel"],
        "strides": a["stride"],
        "pads": a["padding"] * 2,
        "ceil_mode": int(a["ceil"]),
    }
    if node.operation == "max_pool2d":
        w.emit("MaxPool", node.inputs, node.name, dilations=a["dilation"], **window)
    else:
        w.emit("AveragePool", node.inputs, node.name, count_include_pad=int(a["count_padding"]), **window)


def _adaptive_avg_pool2d(w: _Writer, node: Node) -> None:
    down, right = (
        adaptive_weights(n, m) for n, m in zip(w.shapes[node.inputs[0]][2:], node.attributes["size"], strict=True)
    )
    rows = w.emit("MatMul", [w.constant(down, node.name + ".rows"), node.inputs[0]], node.name + ".down")
    w.emit("MatMul", [rows, w.constant(right.T, node.name + ".columns")], node.name)


def _mean(w: _Writer, node: Node) -> None:
    axes = w.constant(node.attributes["axes"], node.name + ".axes", np.int64)
    w.emit("ReduceMean", [node.inputs[0], axes], node.name, keepdims=int(node.attributes["keep"]))


def _reshape(w: _Writer, node: Node) -> None:
    w.emit("Reshape", [node.inputs[0], w.constant(node.attributes["shape"], node.name + ".shape", np.int64)], node.name)


def _permute(w: _Writer, node: Node) -> None:
    w.emit("Transpose", node.inputs, node.name, perm=node.attributes["axes"])


def _slice(w: _Writer, node: Node) -> None:
    names = ("start", "stop", "axis", "step")
    section = [w.constant([node.attributes[name]], f"{node.name}.{name}", np.int64) for name in names]
    w.emit("Slice", [node.inputs[0], *section], node.name)


def _concat(w: _Writer, node: Node) -> None:
    w.emit("Concat", node.inputs, node.name, axis=node.attributes["axis"])


def _pad(w: _Writer, node: Node) -> None:
    widths = w.constant(np.transpose(node.attributes["widths"]).reshape(-1), node.name + ".widths", np.int64)
    w.emit("Pad", [node.inputs[0], widths, w.constant(node.attributes["value"], node.name + ".value")], node.name)


def _channel_shuffle(w: _Writer, node: Node) -> None:
    _, channels, *size = w.shapes[node.name]
    groups = node.attributes["groups"]
    split = w.constant([-1, groups, channels // groups, *size], node.name + ".split", np.int64)
    joined = w.constant([-1, channels, *size], node.name + ".joined", np.int64)
    x = w.emit("Reshape", [node.inputs[0], split], node.name + ".groups")
    x = w.emit("Transpose", [x], node.name + ".swapped", perm=[0, 2, 1, 3, 4])
    w.emit("Reshape", [x, joined], node.name)


_WRITERS: dict[str, Callable[[_Writer, Node], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "scale_shift": _scale_shift,
    "binary": _binary,
    "activation": _activation,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "channel_shuffle": _channel_shuffle,
}
