"""Export to ONNX: the engine's folded graph, written node by node with the `onnx` package."""

from collections.abc import Callable
from dataclasses import replace
from itertools import starmap, zip_longest
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
LAST = 2**63 - 1
"""The end of a slice that goes to its axis's."""


def export_onnx(
    model: "torch.nn.Module | Engine",
    path: str | Path,
    example: Any = None,
    *,
    dynamic: Any = None,
    sparse: bool = False,
) -> int:
    """Write a model in evaluation mode, or an engine, as an ONNX file with an open batch size; return its bytes.

    `example` is an input of the model (float32, the batch first), or a tuple of them; an engine needs none, and keeps
    its example's sizes. `dynamic` opens further sizes of a module, as in `gossamer.compile`. Batch norms are folded.
    With `sparse`, weights of which at most a quarter is not zero become sparse initializers, a value
    and a 64-bit index for each non-zero: a smaller file, which ONNX Runtime unpacks into dense memory when it loads it.

    Raises InputError where the `onnx` package is missing, an example is needed, the model does more than the engine's
    operations, or what is written would depend on a size that `dynamic` opens.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError('export_onnx needs the onnx package: pip install "gossamer[onnx]"') from error
    a_path(path=path)
    of_type(bool, "True or False", sparse=sparse)
    graph, other = _graphs(model, example, dynamic)
    for node in graph.nodes:
        if node.operation == "torch":
            raise InputError(f"{node.layer or node.name} ({node.attributes['operator']}) cannot be exported to ONNX")
    writer = _Writer(graph, other, sparse)
    if other is not graph:
        _refuse_sizes(writer, _Writer(other, graph, sparse))
    content = writer.model().SerializeToString()
    if len(content) >= 2**31:
        raise InputError(f"the file would have {len(content)} bytes, more than ONNX's 2 GiB: export a smaller model")
    onnx.checker.check_model(content)
    write_atomically(Path(path), content)
    return len(content)


def _graphs(model: Any, example: Any, dynamic: Any) -> tuple[Graph, Graph]:
    """Return the graph, and that at other sizes; the same one twice where no size is open."""
    from gossamer.engine import Engine, trace, trace_open
    from gossamer.engine.operations import NotCapturedError

    if isinstance(model, Engine):
        if dynamic is not None:
            raise InputError("dynamic opens sizes of a module, and an engine is given: export the module")
        graph = model.graph
        return graph, graph
    import torch

    of_type(torch.nn.Module, "a torch.nn.Module, or an engine", model=model)
    if example is None:
        raise InputError("export_onnx of a module needs an example input: export_onnx(model, path, example)")
    try:
        if dynamic is None:
            graph = trace(model, example)
            return graph, graph
        graph, sizes = trace_open(model, example, dynamic)
        return graph, sizes.another()
    except NotCapturedError as reason:
        raise InputError(f"the model stays PyTorch code ({reason}) and cannot be exported to ONNX") from reason


class _Writer:
    """Collects the ONNX nodes and initializers of a graph; sizes that are not those of the `other` graph are open."""

    def __init__(self, graph: Graph, other: Graph, sparse: bool) -> None:
        self.graph, self.sparse = graph, sparse
        self.shapes, self.others, self.kinds = graph.shapes(2), other.shapes(2), graph.value_kinds()
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        twins = {node.name: node for node in other.nodes} if other is not graph else {}
        for node in graph.nodes:
            written = self._of_any_size(node, twins[node.name]) if node.name in twins else node
            OPERATIONS[node.operation].onnx(self, written)

    def model(self) -> Any:
        """The ModelProto that was built."""
        from onnx import helper, numpy_helper

        inputs, outputs = (
            [helper.make_tensor_value_info(name, TYPES[self.kinds[name]], self._sizes(name)) for name in values]
            for values in (self.graph.inputs, self.graph.outputs())
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

    def _sizes(self, name: str) -> list[int | str]:
        """A value's sizes, names for those that are open."""
        pairs = enumerate(zip(self.shapes[name], self.others[name], strict=True))
        return ["batch" if not axis else a if a == b else f"{name}_{axis}" for axis, (a, b) in pairs]

    def _of_any_size(self, node: Node, twin: Node) -> Node:
        """Return a reshape or a slice as ONNX has it at any size; `twin` is the same node of the other graph.

        A reshape keeps a size of its input by 0 and leaves one open by -1; a slice counts from the end.
        """
        if node.operation not in ("reshape", "slice"):
            return node
        names, attributes = (node.inputs[0], node.name), node.attributes
        before, after = (list(zip(self.shapes[name], self.others[name], strict=True)) for name in names)
        if node.operation == "reshape":
            sizes = [a if a == b else -1 for a, b in zip(attributes["shape"], twin.attributes["shape"], strict=True)]
            sizes = [0 if [pair] == before[i : i + 1] else sizes[i] for i, pair in enumerate(after)]
            return replace(node, attributes={"shape": sizes}) if sizes.count(-1) < 2 else node
        size, other = before[attributes["axis"]]
        start, stop = (_end(attributes[end], twin.attributes[end], size, other) for end in ("start", "stop"))
        return replace(node, attributes=attributes | {"start": start, "stop": stop or LAST})

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


def _end(place: int, twin: int, size: int, other: int) -> int:
    """A place along an axis, counted from its end where the twin's is as far from that, and not from the start."""
    return place - size if place != twin and place - size == twin - other else place


def _refuse_sizes(writer: _Writer, again: _Writer) -> None:
    """Raise InputError where what is written depends on the open sizes, which differ in the two writers' graphs."""
    for node, twin in zip_longest(writer.nodes, again.nodes):
        constants = [[w.constants.get(name) for name in one.input] for w, one in ((writer, node), (again, twin)) if one]
        if node != twin or not all(starmap(np.array_equal, zip(*constants, strict=True))):
            name = (node or twin).name.split(":")[0]
            raise InputError(f"{name} depends on a size that dynamic opens, which ONNX cannot write: leave it closed")


def _is_thin(value: np.ndarray) -> bool:
    return value.ndim > 1 and value.dtype == np.float32 and 4 * int(np.count_nonzero(value)) <= value.size


def _sparse(value: np.ndarray, name: str) -> Any:
    from onnx import helper, numpy_helper

    places = np.flatnonzero(value)
    values = numpy_helper.from_array(value.reshape(-1)[places], name)
    return helper.make_sparse_tensor(
        values, numpy_helper.from_array(places.astype(np.int64), name + ".indices"), value.shape
    )
