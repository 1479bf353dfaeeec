"""From a PyTorch module to the engine's graph, by way of torch.export with the batch dimension left open."""

import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import InputKind

from gossamer.engine.graph import Graph, Node, unused
from gossamer.engine.translate import HANDLERS, NotCapturedError, first_argument, name_of
from gossamer.errors import InputError

__all__ = ["NotCapturedError", "capture"]

_VIEWS = {"slice", "select", "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "chunk", "split"}
_VIEWS |= {"split_with_sizes", "unbind", "narrow", "unsqueeze", "squeeze", "expand", "contiguous", "detach", "alias"}
_VIEWS |= {"dropout", "feature_dropout"}
"""Operators whose result may be the same memory as their input."""


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
        graph = Capture(program).graph
    try:
        graph.shapes(2)
    except InputError as error:
        raise NotCapturedError(str(error)) from error
    return graph


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _writes_through_views(graph: torch.fx.Graph) -> bool:
    """Say whether an operation in place changes a tensor that other views see."""
    for node in graph.nodes:
        if _writes(node):
            target = first_argument(node)
            others = {name_of(user) for user in target.users}
            if (
                target.op == "placeholder"
                or name_of(target) in _VIEWS
                or target.target is operator.getitem
                or others & _VIEWS
            ):
                return True
    return False


class Capture:
    """Walks an exported program; `values` maps its nodes to names of values, constant tensors, or symbolic sizes."""

    def __init__(self, program: torch.export.ExportedProgram):
        self.values: dict[torch.fx.Node, Any] = {}
        self.graph = Graph({}, [], {}, None)
        self.names: dict[int, str] = {}
        self.alive: list[torch.Tensor] = []
        self.symbols: list[Any] = []  # the batch sizes of inputs that never meet are symbols of their own
        kept = {**program.state_dict, **program.constants}
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name], kept)
            elif node.op == "call_function":
                if node.users or _writes(node):
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
            self.symbols.append(batch.node.expr)
            self.values[node] = node.name
            self.graph.inputs[node.name] = tuple(shape)
        else:
            self.values[node] = kept[spec.target].detach()
            self.names[id(self.values[node])] = spec.target

    def _output(self, node: torch.fx.Node, program: torch.export.ExportedProgram) -> None:
        values = [self.values.get(value) for value in pytree.tree_leaves(node.args)]
        if not values or not all(isinstance(value, str) for value in values):
            raise NotCapturedError("an output that is not computed from the inputs")
        assert program.call_spec.out_spec is not None
        if len(values) != program.call_spec.out_spec.num_leaves:
            raise NotCapturedError("a model that changes its inputs or buffers")
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
        handler = HANDLERS.get(name_of(node).rstrip("_"))
        try:
            if handler is None or (isinstance(value, torch.Tensor) and value.dtype != torch.float32):
                raise NotCapturedError(name_of(node))
            result = handler(self, node, _named(node, *arguments))
        except NotCapturedError:
            result = self._torch_call(node)
        self._written(node, result)
        return result

    def _written(self, node: torch.fx.Node, result: Any) -> None:
        """Let whoever reads, from here on, the tensor that the node changed in place see it changed."""
        while _writes(node):
            node = first_argument(node)
            self.values[node] = result

    def _constant_call(self, node: torch.fx.Node, args: tuple, kwargs: dict) -> Any:
        if _writes(node):
            args = (args[0].clone(), *args[1:])
        result = _function(node)(*args, **kwargs)
        self._written(node, result)
        return result

    def _torch_call(self, node: torch.fx.Node) -> str:
        """Keep the call as PyTorch code: `bind(batch)` makes the function from input tensors to the output tensor."""
        target, pick = node, None
        if node.target is operator.getitem:
            target, pick = first_argument(node), node.args[1]
        elif not isinstance(node.meta.get("val"), torch.Tensor):
            return "" if isinstance(node.meta.get("val"), list | tuple) else _fail(node)
        value = node.meta["val"]
        sources = [leaf for leaf in pytree.tree_leaves((target.args, target.kwargs)) if isinstance(leaf, torch.fx.Node)]
        names = list(dict.fromkeys(self.values[s] for s in sources if isinstance(self.values[s], str)))
        if value.dtype != torch.float32 or "" in names:
            raise NotCapturedError(f"{name_of(target)} makes {value.dtype}")
        values, symbols = {source: self.values[source] for source in sources}, self.symbols

        def bind(batch: int) -> Callable[..., torch.Tensor]:
            def size(value: Any) -> int:
                return (
                    int(value.node.expr.subs(dict.fromkeys(symbols, batch)))
                    if isinstance(value, torch.SymInt)
                    else int(value)
                )

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
                result = _function(target)(*args, **kwargs)
                return result if pick is None else result[pick]

            return call

        def shape(batch: int) -> tuple[int, ...]:
            return tuple(
                s if isinstance(s, int) else int(s.node.expr.subs(dict.fromkeys(symbols, batch))) for s in value.shape
            )

        return self.emit(node, "torch", names, {}, bind=bind, shape=shape, call=name_of(target))

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

    def renamed(self, value: torch.Tensor, source: torch.Tensor, how: str) -> torch.Tensor:
        """Give a tensor a name after the one that it was made from, and how."""
        if id(source) in self.names:
            self.names[id(value)] = f"{self.names[id(source)]}.{how}"
        self.alive.append(value)
        return value

    def tensor(self, value: Any, name: str) -> str:
        """Register a constant and return its name."""
        if isinstance(value, int | float):
            value = torch.tensor(float(value))
        if not isinstance(value, torch.Tensor):
            raise NotCapturedError("a tensor that is computed")
        if id(value) not in self.names:
            self.names[id(value)] = unused(name, {*self.names.values(), *self.graph.tensors})
        name = self.names[id(value)]
        array = value.detach().cpu().to(torch.float32).numpy()
        self.graph.tensors[name] = array.copy()  # the engine does not follow the model's later changes
        self.alive.append(value)  # its id is its name
        return name


def _function(node: torch.fx.Node) -> Callable[..., Any]:
    if isinstance(node.target, str):
        raise NotCapturedError(node.target)
    return node.target


def _fail(node: torch.fx.Node) -> str:
    raise NotCapturedError(f"{name_of(node)} makes {type(node.meta.get('val')).__name__}")


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
