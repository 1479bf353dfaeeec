"""Open sizes: one exported program, and an engine for each size that comes, whose layers share their packed weights."""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind

from gossamer import kernels
from gossamer.engine import exported
from gossamer.engine.capture import graph_of
from gossamer.engine.channels import move_channels_first
from gossamer.engine.choice import Report, pack, weight_of
from gossamer.engine.dense import DenseLayer
from gossamer.engine.exported import PREFIX, Signature
from gossamer.engine.fold import fold
from gossamer.engine.graph import Graph, Structure
from gossamer.engine.join import join_sums
from gossamer.engine.node import Node
from gossamer.engine.program import Engine
from gossamer.engine.steps import LAYERS, Layer, is_matrix
from gossamer.engine.tokens import move_tokens_last
from gossamer.errors import InputError

KEPT = 8
"""Sizes whose engines are kept."""
Shape = tuple[int, ...]


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
) -> "tuple[Graph, Sizes]":
    """Return the model's graph at the example's sizes, and what makes the engines of others.

    Raises InputError where `dynamic` does not fit the arguments, NotCapturedError where the model cannot be written as
    a graph, or has not the open sizes.
    """
    signature = Signature(model, args, kwargs)
    program = exported.export(model, signature, open_axes(signature, dynamic))
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    shapes = {
        name: tuple(size.node.expr if isinstance(size, torch.SymInt) else size for size in value.shape[1:])
        for name, value in zip(signature.tensors, values, strict=True)
    }
    ranges = {symbol: (int(r.lower), float(r.upper)) for symbol, r in program.range_constraints.items()}

    def make(known: Mapping[Any, int], state: Mapping[str, torch.Tensor] | None) -> Graph:
        return fold(move_channels_first(graph_of(program, signature, known, state)))

    state = {name: x for name, x in {**program.state_dict, **program.constants}.items() if isinstance(x, torch.Tensor)}
    sizes = Sizes(make, shapes, ranges, state)
    return make(sizes.known(tuple(tuple(x.shape[1:]) for x in signature.tensors.values())), None), sizes


class Sizes:
    """The engines of a program by their inputs' shapes, made at a size's first call, a few kept.

    `make(known, state)` returns the folded graph at sizes `known` (symbol -> int) with the tensors of `state`; `shapes`
    are the inputs' with symbols for what is open, `ranges` the symbols' least and greatest values.
    """

    def __init__(
        self,
        make: Callable[[Mapping[Any, int], Mapping[str, torch.Tensor] | None], Graph],
        shapes: dict[str, tuple[Any, ...]],
        ranges: Mapping[Any, tuple[int, float]],
        state: dict[str, torch.Tensor],
    ) -> None:
        self._make, self._shapes, self._ranges, self._state = make, shapes, ranges, state
        self._engines: dict[tuple[Shape, ...], Engine] = {}
        self._lock = threading.Lock()
        self._layers: dict[str, tuple[Layer, Any, np.ndarray | None]] = {}
        self._packed: dict[str, tuple[Layer, torch.Size]] = {}

    def share(self, layers: Mapping[str, Layer], graph: Graph) -> None:
        """Let the engines of further sizes have these layers of a graph.

        Weights that they hold are not kept dense; of the other tensors the graph's memory is shared, or a copy kept.
        """
        for node in graph.nodes:
            if node.name not in layers:
                continue
            layer, name = layers[node.name], PREFIX + node.tensors["weight"].removesuffix(".1x1")
            bias = graph.tensors[node.tensors["bias"]] if "bias" in node.tensors else None
            self._layers[_key(node)] = layer, node.attributes["activation"], bias
            given = self._state.get(name)
            if given is not None and _is(weight_of(layer), given):
                self._packed[name] = layer, given.shape
                del self._state[name]
        for name, x in self._state.items():
            known = graph.tensors.get(name.removeprefix(PREFIX))
            shared = known is not None and x.dtype == torch.float32 and known.shape == x.shape and _is(known, x)
            self._state[name] = torch.from_numpy(known) if shared else x.detach().clone()

    @property
    def bytes(self) -> int:
        """The memory of what is kept, dense, for the graphs of further sizes."""
        return sum(x.nbytes for x in self._state.values())

    def another(self, graph: Graph) -> Graph:
        """Return the graph at other sizes than this one's, wherever they are open."""
        known = self.known(tuple(graph.inputs.values()))
        return self._make({s: _another(size, *self._ranges.get(s, (0, math.inf))) for s, size in known.items()}, None)

    def engine(self, shapes: tuple[Shape, ...]) -> Engine:
        """Return the engine for inputs of these shapes, the batch left out.

        Raises InputError where a size is not open, or out of its range.
        """
        with self._lock:
            found = self._engines.pop(shapes, None) or self._built(self.known(shapes))
            while len(self._engines) >= KEPT:
                self._engines.pop(next(iter(self._engines)))
            self._engines[shapes] = found
        return found

    def known(self, shapes: tuple[Shape, ...]) -> dict[Any, int]:
        """Return what stands for each symbol in these shapes."""
        known: dict[Any, int] = {}
        for (name, wanted), shape in zip(self._shapes.items(), shapes, strict=True):
            if len(shape) != len(wanted):
                raise InputError(f"input {name!r} has {len(shape) + 1} axes, not {len(wanted) + 1}")
            for axis, (size, given) in enumerate(zip(wanted, shape, strict=True), 1):
                if isinstance(size, int) or not size.is_symbol:
                    continue
                least, most = self._ranges.get(size, (0, math.inf))
                if known.setdefault(size, given) != given:
                    raise InputError(f"input {name!r} has {given} at axis {axis}, where others have {known[size]}")
                if not least <= given <= most:
                    raise InputError(f"input {name!r} has {given} at axis {axis}, outside of {least} to {most:.0f}")
        for (name, wanted), shape in zip(self._shapes.items(), shapes, strict=True):
            for axis, (size, given) in enumerate(zip(wanted, shape, strict=True), 1):
                size = size if isinstance(size, int) else int(size.subs(known))
                if size != given:
                    raise InputError(f"input {name!r} has {given} at axis {axis}, not {size}: name it in dynamic")
        return known

    def _built(self, known: dict[Any, int]) -> Engine:
        unpacked = {
            name: torch.from_numpy(np.ascontiguousarray(weight_of(layer)).reshape(shape))
            for name, (layer, shape) in self._packed.items()
        }
        graph = join_sums(move_tokens_last(self._make(known, self._state | unpacked)))
        shapes = graph.shapes(2)
        layers = {
            node.name: self._layer(node, graph, shapes[node.inputs[0]])
            for node in graph.nodes
            if node.operation in LAYERS
        }
        return Engine(graph, layers, Report())

    def _layer(self, node: Node, graph: Graph, shape: Shape) -> Layer:
        """Return the layer that is there, in the form that this graph asks for, or a new one."""
        weight, matrix = graph.tensors[node.tensors["weight"]], is_matrix(node, graph, shape)
        bias = graph.tensors[node.tensors["bias"]] if "bias" in node.tensors else None
        layer, activation, before = self._layers.get(_key(node), (None, None, None))
        same = bias is before if bias is None or before is None else np.array_equal(bias, before)
        same = same and activation == node.attributes["activation"]
        if layer is None or not same or not _is(weight_of(layer), weight):
            return pack(node, weight, weight != 0, bias, matrix, shape)
        if isinstance(layer, kernels.Linear):
            return layer if matrix else layer.convolution
        if isinstance(layer, DenseLayer):
            return DenseLayer(node, layer.dense().reshape(weight.shape), bias, matrix)
        return kernels.Linear.of(layer) if matrix and isinstance(layer, kernels.Convolution) else layer


def _another(size: int, least: int, most: float) -> int:
    return next(int(other) for other in (2 * size + 1, most, least) if least <= other <= most and other != size)


def _key(node: Node) -> str:
    """A layer's name, whether its sequence is an image at this size or not."""
    return node.name.removesuffix(".image")


def _is(packed: np.ndarray, weight: Any) -> bool:
    return packed.size == np.prod(weight.shape) and np.array_equal(packed.reshape(weight.shape), np.asarray(weight))
