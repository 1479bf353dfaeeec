"""Open sizes of an exported program: its graph at any of them."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind

from gossamer.engine import exported, open_graph
from gossamer.engine.capture import NotCapturedError, graph_of
from gossamer.engine.channels import move_channels_first
from gossamer.engine.dense import DenseLayer
from gossamer.engine.exported import PREFIX, Signature
from gossamer.engine.fold import fold
from gossamer.engine.graph import Graph, Structure
from gossamer.engine.node import Node
from gossamer.engine.open_graph import Known, OpenGraph, OpenSize, Size
from gossamer.engine.sizes import Shape, Sizes, is_weight
from gossamer.engine.steps import Layer
from gossamer.errors import InputError


def open_axes(signature: Signature, dynamic: Any) -> dict[str, dict[int, Any]]:
    """Return the open axes of each input but the batch's, from `dynamic_shapes` as torch.export takes it.

    Raises InputError where it is not arranged as the arguments are, or names an axis that an input has not.
    """
    positional, keywords = signature.arguments
    named = dict(zip(signature.parameters, positional, strict=True)) | keywords
    if isinstance(dynamic, tuple | list):
        dynamic = dict(zip(named, dynamic, strict=False))
    if not isinstance(dynamic, Mapping) or set(dynamic) - set(named):
        raise InputError(f"dynamic is {dynamic!r:.60}; give a dict from {', '.join(named)} to what torch.export takes")
    return {name: axes for key, spec in dynamic.items() for name, axes in _axes(named[key], spec, key, signature)}


def _axes(template: Any, spec: Any, path: str, signature: Signature) -> list[tuple[str, dict[int, Any]]]:
    if spec is None:
        return []
    if isinstance(template, str) and isinstance(spec, Mapping | list | tuple):
        rank = signature.tensors[template].ndim
        pairs = dict(spec if isinstance(spec, Mapping) else enumerate(spec))
        wrong = [axis for axis in pairs if not isinstance(axis, int) or not 0 <= axis < rank]
        if wrong:
            raise InputError(f"dynamic opens axis {wrong[0]!r} of {path}, which has the axes 0 to {rank - 1}")
        return [(template, {axis: size for axis, size in pairs.items() if axis and not isinstance(size, int | None)})]
    parts = template.parts if isinstance(template, Structure) else template
    if isinstance(parts, list | tuple):
        parts, spec = dict(enumerate(parts)), dict(enumerate(spec)) if isinstance(spec, list | tuple) else spec
    if not isinstance(parts, dict) or not isinstance(spec, Mapping) or set(spec) - set(parts):
        raise InputError(f"dynamic has {spec!r:.60} for {path}, which is not made so")
    return [pair for key, one in spec.items() for pair in _axes(parts[key], one, f"{path}.{key}", signature)]


def trace_sizes(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
) -> "tuple[Graph, TracedSizes]":
    """Return the model's graph at the example's sizes, and what makes the engines of others.

    Raises InputError where `dynamic` does not fit the arguments, NotCapturedError where the model cannot be written as
    a graph, or has not the open sizes.
    """
    signature = Signature(model, args, kwargs)
    program = exported.export(model, signature, open_axes(signature, dynamic))
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    named = dict(zip(signature.tensors, values, strict=True))
    sizes = TracedSizes(program, signature, named)
    return sizes.traced(sizes.example), sizes


class TracedSizes(Sizes):
    """The engines of an exported program, `inputs` its inputs' values by name."""

    def __init__(
        self, program: torch.export.ExportedProgram, signature: Signature, inputs: Mapping[str, torch.Tensor]
    ) -> None:
        open_ones = [size.node.expr for x in inputs.values() for size in x.shape[1:] if isinstance(size, torch.SymInt)]
        self._symbols = list(dict.fromkeys(symbol for size in open_ones for symbol in size.free_symbols))
        ranges = [program.range_constraints[symbol] for symbol in self._symbols]
        shapes = {name: tuple(map(self._size, x.shape[1:])) for name, x in inputs.items()}
        super().__init__(shapes, [(max(1, int(one.lower)), float(one.upper)) for one in ranges])
        self.example = self.known(tuple(tuple(x.shape[1:]) for x in signature.tensors.values()))
        self._program, self._signature = program, signature
        tensors = {**program.state_dict, **program.constants}
        self._state = {name: x for name, x in tensors.items() if isinstance(x, torch.Tensor)}

    def _size(self, size: int | torch.SymInt) -> Size:
        """Return an input's size. Raises NotCapturedError where it is no multiple of an open one and a number."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression.is_number:
            return int(expression)
        (symbol, *others) = expression.free_symbols
        zero, one, more = (expression.subs(symbol, value) for value in (0, 1, 7))
        if others or not zero.is_rational or more != zero + 7 * (one - zero):
            raise NotCapturedError(f"an input of size {expression}")
        factor, offset = (Fraction(int(x.p), int(x.q)) for x in (one - zero, zero))
        return OpenSize(factor, offset, (self._symbols.index(symbol),))

    def traced(self, known: Known, state: Mapping[str, torch.Tensor] | None = None) -> Graph:
        """Return the folded graph at these sizes, with the memory of `state`, or of copies."""
        sizes = dict(zip(self._symbols, known, strict=True))
        return fold(move_channels_first(graph_of(self._program, self._signature, sizes, state)))

    def make(self, known: Known, weights: Mapping[str, np.ndarray]) -> Graph:
        """Return the folded graph at these sizes, `weights` in the place of what is kept packed."""
        given = {PREFIX + name: torch.from_numpy(np.ascontiguousarray(weight)) for name, weight in weights.items()}
        return self.traced(known, self._state | given)

    def opened(self) -> OpenGraph:
        """Return the graph with its sizes open. Raises InputError where it depends on them in other ways."""
        weights = self.unpacked()
        return open_graph.opened(lambda known: self.make(known, weights), self.inputs, self.ranges, self.example)

    def share(self, layers: Mapping[str, Layer], graph: Graph) -> None:
        """Let the engines of further sizes have these layers of a graph; weights that they hold are not kept dense.

        Of the other tensors the graph's memory is shared, or a copy kept.
        """
        super().share(layers, graph)
        for name, x in self._state.items():
            known = graph.tensors.get(name.removeprefix(PREFIX))
            shared = known is not None and x.dtype == torch.float32 and np.array_equal(known, x)
            self._state[name] = torch.from_numpy(known) if shared else x.detach().clone()

    def _share_weight(self, name: str, layer: Layer) -> None:
        given = self._state.get(PREFIX + name)
        if given is not None and is_weight(layer, given):
            self._packed[name] = layer, tuple(given.shape)
            del self._state[PREFIX + name]

    @property
    def bytes(self) -> int:
        """The memory of what is kept, dense, for the graphs of further sizes."""
        return sum(x.nbytes for x in self._state.values())

    def another(self) -> Graph:
        """Return the graph at other sizes than the example's, wherever they are open."""
        return self.traced(tuple(_another(size, *ends) for size, ends in zip(self.example, self.ranges, strict=True)))

    def _reused(self, layer: Layer, node: Node, shape: Shape, bias: np.ndarray | None, matrix: bool) -> Layer:
        if isinstance(layer, DenseLayer):
            return DenseLayer(node, layer.dense().reshape(shape), bias, matrix)
        return super()._reused(layer, node, shape, bias, matrix)


def _another(size: int, least: int, most: float) -> int:
    return next(int(other) for other in (2 * size + 1, most, least) if least <= other <= most and other != size)
