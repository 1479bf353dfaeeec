"""From a PyTorch module to the engine's graph, by way of torch.export with the batch dimension left open."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.export.graph_signature import InputKind

from gossamer.engine import exported
from gossamer.engine.eager import binder
from gossamer.engine.exported import KINDS, PREFIX, Batched, Signature
from gossamer.engine.graph import Graph, renamed, unused
from gossamer.engine.node import Node
from gossamer.engine.operations import OF_ANY_KIND, OPERATIONS, RULES, NotCapturedError
from gossamer.errors import InputError

__all__ = ["NotCapturedError", "capture"]


def capture(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Graph:
    """Return the model as a graph; a call outside the engine's list becomes a node of the operation "torch".

    Raises NotCapturedError where the whole model has to stay PyTorch code.
    """
    signature = Signature(model, args, kwargs or {})
    return graph_of(exported.export(model, signature), signature)


def graph_of(
    program: torch.export.ExportedProgram,
    signature: Signature,
    sizes: Mapping[Any, int] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Graph:
    """Return an exported program as a graph: at these sizes (symbol -> int) of what is open beside the batch, and with
    the tensors of `state`, whose memory it then shares, in the place of the program's own.

    Raises NotCapturedError where the whole model has to stay PyTorch code.
    """
    graph = Capture(program, signature, sizes or {}, state).graph
    try:
        graph.shapes(2)
        graph.value_kinds()
    except InputError as error:
        raise NotCapturedError(str(error)) from error
    return graph


class Capture:
    """Walks an exported program; `values` maps its nodes to names of values, constant tensors, or symbolic sizes."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        signature: Signature,
        sizes: Mapping[Any, int],
        state: Mapping[str, torch.Tensor] | None,
    ) -> None:
        self.sizes, self.shares = sizes, state is not None
        self.values: dict[torch.fx.Node, Any] = {}
        self.graph = Graph({}, [], {}, None)
        self.kinds: dict[str, str] = {}
        self.names: dict[int, str] = {}
        self.alive: list[torch.Tensor] = []
        self.symbols: list[Any] = []  # the batch sizes of inputs that never meet are symbols of their own
        self.inputs = iter(signature.tensors)
        self.kept = {**program.state_dict, **program.constants, **(state or {})}
        self.specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        outputs = self._walk(program.graph, program.graph_module)
        self._output(outputs, signature)
        self.graph.arguments = signature.arguments
        self.graph.kinds = {name: self.kinds[name] for name in self.graph.inputs if self.kinds[name] != "float32"}
        self.graph.prune()

    def _walk(self, graph: torch.fx.Graph, module: torch.nn.Module) -> Any:
        """Take in the nodes of a graph and return what stands for its outputs."""
        for node in graph.nodes:
            if node.op == "placeholder" and node not in self.values:
                self._placeholder(node)
            elif node.op == "get_attr":
                self.values[node] = module.get_submodule(str(node.target))
            elif node.op == "call_function" and (node.users or exported.writes(node)):
                self.values[node] = self._call(node)
            elif node.op == "output":
                return pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, node.args[0])
        raise NotCapturedError("a graph without an output")

    def size(self, size: Any) -> Any:
        """A size as it is known: a number, or a symbol of the batch's."""
        if not self.sizes or not isinstance(size, torch.SymInt):
            return size
        known = size.node.expr.subs(self.sizes)
        return int(known) if known.is_number else size.node.shape_env.create_symintnode(known, hint=None)

    def shape(self, node: torch.fx.Node) -> tuple[Any, ...]:
        """The shape of a node's value."""
        return tuple(map(self.size, node.meta["val"].shape))

    def _placeholder(self, node: torch.fx.Node) -> None:
        spec = self.specs[node.name]
        if spec.kind is not InputKind.USER_INPUT:
            name = str(spec.target)
            self.values[node] = self.kept[name].detach()
            self.names[id(self.values[node])] = name.removeprefix(PREFIX)
            return
        batch, *shape = self.shape(node)
        if not isinstance(batch, torch.SymInt) or not all(isinstance(size, int) for size in shape):
            raise NotCapturedError(f"input {node.name} of shape {self.shape(node)}")
        self.symbols.append(batch.node.expr)
        self.values[node] = name = next(self.inputs)
        self.graph.inputs[name] = tuple(shape)
        self.kinds[name] = KINDS[node.meta["val"].dtype]

    def _output(self, outputs: Any, signature: Signature) -> None:
        values = pytree.tree_leaves(outputs)
        if not values or not all(isinstance(value, str) and value for value in values):
            raise NotCapturedError("an output that is not computed from the inputs")
        if len(values) != signature.count:
            raise NotCapturedError("a model that changes its inputs or buffers")
        names = {str(place): name for place, name in enumerate(values)}
        self.graph.output = renamed(signature.output, names.__getitem__)

    def _call(self, node: torch.fx.Node) -> Any:
        args, kwargs = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, (node.args, node.kwargs))
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._inline(node, args)
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt):
            return self.size(value)
        if isinstance(value, torch.SymBool) or value is None:  # a check of a size
            return value
        sources = pytree.tree_leaves([self.values[source] for source in node.all_input_nodes])
        if exported.name_of(node) in exported.NEW:  # the first argument gives its dtype alone
            kind = exported.first_argument(node).meta["val"].dtype
            args, sources = (torch.empty(0, dtype=kind), *args[1:]), []
        if not any(isinstance(source, str) for source in sources):
            result = exported.evaluate(node, args, kwargs, self.symbols)
        elif node.target is operator.getitem and isinstance(args[0], list):
            return args[0][args[1]]
        else:
            result = self._rule(node, args, kwargs)
        self._written(node, result)
        return result

    def _rule(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Turn a call into nodes by its operator's rule, or keep it as PyTorch code."""
        name, value = exported.name_of(node), node.meta["val"]
        rule, kept = RULES.get(name), len(self.graph.nodes)
        other = isinstance(value, torch.Tensor) and value.dtype != torch.float32
        try:
            if rule is None or (other and name not in OF_ANY_KIND):
                raise NotCapturedError(name)
            return rule(_Call(self, node, exported.named_arguments(node, args, kwargs)))
        except NotCapturedError:
            del self.graph.nodes[kept:]
            return self._torch_call(node)

    def _inline(self, node: torch.fx.Node, args: tuple[Any, ...]) -> Any:
        """Take in the graph that is called under a context, such as one without gradients."""
        place = next((p for p, value in enumerate(args) if isinstance(value, torch.fx.GraphModule)), None)
        if place is None:
            raise NotCapturedError(exported.name_of(node))
        module = args[place]
        inner = [n for n in module.graph.nodes if n.op == "placeholder"]
        self.values |= dict(zip(inner, args[place + 1 :], strict=True))
        result = self._walk(module.graph, module)
        return list(result) if isinstance(result, list | tuple) else result

    def _written(self, node: torch.fx.Node, result: Any) -> None:
        """Let whoever reads, from here on, the tensor that the node changed in place see it changed."""
        while exported.writes(node):
            node = exported.first_argument(node)
            self.values[node] = result

    def _torch_call(self, node: torch.fx.Node) -> str:
        """Keep the call as PyTorch code: `bind(batch)` makes the function from input tensors to the output tensor."""
        target, pick = node, None
        if node.target is operator.getitem:
            target, pick = exported.first_argument(node), node.args[1]
        value = node.meta["val"]
        if isinstance(value, list | tuple):
            return ""  # its parts are taken one by one
        sources = [leaf for leaf in pytree.tree_leaves((target.args, target.kwargs)) if isinstance(leaf, torch.fx.Node)]
        values, symbols = {source: self.values[source] for source in sources}, self.symbols
        leaves = pytree.tree_leaves(list(values.values()))
        names = list(dict.fromkeys(leaf for leaf in leaves if isinstance(leaf, str)))
        if value.dtype not in KINDS or "" in names or any(isinstance(leaf, Batched) for leaf in leaves):
            raise NotCapturedError(f"{exported.name_of(target)} makes {value.dtype}")

        def shape(batch: int) -> tuple[int, ...]:
            return tuple(map(exported.size_at(symbols, batch), shape_of))

        kind, name, shape_of = KINDS[value.dtype], exported.name_of(target), self.shape(node)
        bind = binder(target, pick, values, names, symbols)
        return self.emit(node, "torch", names, {}, bind=bind, shape=shape, kind=kind, operator=name)

    def emit(
        self,
        node: torch.fx.Node,
        operation: str,
        inputs: list[Any],
        tensors: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        """Append a node that stands for this call, or a part of it, and return its value's name."""
        for value in inputs:
            if not isinstance(value, str):
                raise NotCapturedError(f"{operation} of a constant")
        if operation == "torch":
            kind = attributes["kind"]
        else:
            kind = OPERATIONS[operation].kind([self.kinds[name] for name in inputs], attributes)
        if kind is None:
            raise NotCapturedError(f"{operation} of {', '.join(self.kinds[name] for name in inputs)}")
        roles = {
            role: self.tensor(value, f"{node.name}.{role}")
            for role, value in (tensors or {}).items()
            if value is not None
        }
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        layer = (stack[-1][0] if stack else "").removeprefix(PREFIX)
        taken = self.kinds  # every value's name
        name = node.name if node.name not in taken else f"{node.name}.{len(self.graph.nodes)}"
        self.kinds[name] = kind
        self.graph.nodes.append(Node(operation, name, inputs, roles, attributes, layer if layer != "model" else name))
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
        self.graph.tensors[name] = array if self.shares else array.copy()  # or else it would follow the model's changes
        self.alive.append(value)  # its id is its name
        return name


class _Call:
    """A call as the rules of `operations` see it; what is known for all inputs of a batch alike counts as constant."""

    def __init__(self, capture: Capture, node: torch.fx.Node, arguments: dict[str, Any]) -> None:
        self.capture, self.node = capture, node
        self.arguments = pytree.tree_map_only(Batched, self._settled, arguments)
        self.operator = exported.name_of(node)

    def _settled(self, value: Batched) -> Any:
        one = value.one()
        if one is None:
            return value
        self.capture.alive.append(one)
        return one

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or the default where the operator has none of this name."""
        return self.arguments.get(name, default)

    def kind(self, value: str) -> str:
        """The dtype of a value."""
        return self.capture.kinds[value]

    @property
    def result_kind(self) -> str:
        """The dtype of the result."""
        return KINDS.get(self.node.meta["val"].dtype, "unknown")

    @property
    def shape(self) -> tuple[Any, ...]:
        """The first argument's shape."""
        return self.capture.shape(exported.first_argument(self.node))

    @property
    def sizes(self) -> list[int]:
        """The result's shape with -1 in the place of the batch."""
        sizes = [size if isinstance(size, int) else -1 for size in self.capture.shape(self.node)]
        if sizes.count(-1) > 1:
            raise NotCapturedError(f"shape {self.node.meta['val'].shape}")
        return sizes

    def uses(self, place: int) -> bool:
        """Whether this one of several results is used."""
        return any(user.target is operator.getitem and user.args[1] == place and user.users for user in self.node.users)

    def everywhere(self, value: Any) -> str:
        """A constant as a value, the same for every input of the batch."""
        if isinstance(value, str):
            return value
        first = next(name for name in self.capture.graph.inputs)
        return self.emit("broadcast", [first], {"value": value})

    def emit(
        self, operation: str, inputs: list[Any], tensors: Mapping[str, Any] | None = None, **attributes: Any
    ) -> str:
        """Append a node and return its value's name."""
        return self.capture.emit(self.node, operation, inputs, tensors, **attributes)

    def renamed(self, value: torch.Tensor, source: torch.Tensor, how: str) -> torch.Tensor:
        """Give a tensor a name after the one that it was made from, and how."""
        return self.capture.renamed(value, source, how)
