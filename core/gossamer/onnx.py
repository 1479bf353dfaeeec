"""Export to ONNX: the engine's folded graph, written node by node with the `onnx` package."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS
from gossamer.engine.operations.logic import TYPES
from gossamer.errors import InputError, a_path, of_type
from gossamer.kernels import Activation
from gossamer.paths import write_atomically

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
    a_path(path=path)
    of_type(bool, "True or False", sparse=sparse)
    graph = _graph(model, example)
    for node in graph.nodes:
        if node.operation == "torch":
            raise InputError(f"{node.layer or node.name} ({node.attributes['operator']}) cannot be exported to ONNX")
    content = _Writer(graph, sparse).model().SerializeToString()
    if len(content) >= 2**31:
        raise InputError(f"the file would have {len(content)} bytes, more than ONNX's 2 GiB: export a smaller model")
    onnx.checker.check_model(content)
    write_atomically(Path(path), content)
    return len(content)


def _graph(model: Any, example: Any) -> Graph:
    from gossamer.engine import Engine, trace
    from gossamer.engine.operations import NotCapturedError

    if isinstance(model, Engine):
        return model.graph
    import torch

    of_type(torch.nn.Module, "a torch.nn.Module, or an engine", model=model)
    if example is None:
        raise InputError("export_onnx of a module needs an example input: export_onnx(model, path, example)")
    try:
        return trace(model, example)
    except NotCapturedError as reason:
        raise InputError(f"the model stays PyTorch code ({reason}) and cannot be exported to ONNX") from reason


class _Writer:
    """Collects the ONNX nodes and initializers of a graph."""

    def __init__(self, graph: Graph, sparse: bool) -> None:
        self.graph, self.sparse = graph, sparse
        self.shapes, self.kinds = graph.shapes(2), graph.value_kinds()
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def model(self) -> Any:
        """The ModelProto that was built."""
        from onnx import helper, numpy_helper

        for node in self.graph.nodes:
            OPERATIONS[node.operation].onnx(self, node)
        names = self.graph.outputs()
        inputs, outputs = (
            [helper.make_tensor_value_info(n, TYPES[self.kinds[n]], ["batch", *self.shapes[n][1:]]) for n in values]
            for values in (self.graph.inputs, names)
        )
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

    def emit(self, operator: str, inputs: list[str], output: str, *more: str, **attributes: Any) -> str:
        """Append an ONNX node and return its output's name; `more` are the names of further outputs."""
        from onnx import helper

        name = output + ":" + operator
        self.nodes.append(helper.make_node(operator, inputs, [output, *more], name=name, **attributes))
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

    def apply(self, activation: dict[str, Any] | None, x: str, y: str) -> None:
        """Write an activation in JSON form from one value to another."""
        one = Activation(**activation or {})
        one.function.onnx(self, x, y, *one.constants)

    def ends(self, node: Node, residual: bool = True) -> str:
        """The name for a result that `finish` goes on with, or ends with."""
        more = node.attributes["activation"] or (residual and len(node.inputs) > 1)
        return node.name + ".raw" if more else node.name

    def finish(self, node: Node, value: str, residual: bool = True) -> None:
        """Add the node's second input, where that is a residual, and apply its activation."""
        activation = node.attributes["activation"]
        if residual and len(node.inputs) > 1:
            value = self.emit("Add", [value, node.inputs[1]], node.name + ".sum" if activation else node.name)
        if activation:
            self.apply(activation, value, node.name)


def _is_thin(value: np.ndarray) -> bool:
    return value.ndim > 1 and value.dtype == np.float32 and 4 * int(np.count_nonzero(value)) <= value.size


def _sparse(value: np.ndarray, name: str) -> Any:
    from onnx import helper, numpy_helper

    places = np.flatnonzero(value)
    values = numpy_helper.from_array(value.reshape(-1)[places], name)
    return helper.make_sparse_tensor(
        values, numpy_helper.from_array(places.astype(np.int64), name + ".indices"), value.shape
    )
