"""Open sizes: an engine for each size that comes, whose layers share their packed weights."""

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer import kernels
from gossamer.engine.choice import Report, pack, weight_of
from gossamer.engine.graph import Graph
from gossamer.engine.join import join_sums
from gossamer.engine.node import Node
from gossamer.engine.open_graph import Known, OpenGraph, Size
from gossamer.engine.program import Engine, build
from gossamer.engine.steps import LAYERS, Layer, is_matrix
from gossamer.engine.tokens import move_tokens_last
from gossamer.errors import InputError

KEPT = 8
"""Sizes whose engines are kept."""
Shape = tuple[int, ...]


class Sizes:
    """The engines of a graph by their inputs' shapes, made at a size's first call, a few kept.

    `inputs` are the inputs' shapes without the batch, `ranges` each open size's least and greatest value.
    """

    def __init__(self, inputs: dict[str, tuple[Size, ...]], ranges: list[tuple[int, float]]) -> None:
        self.inputs, self.ranges = inputs, ranges
        self._engines: dict[tuple[Shape, ...], Engine] = {}
        self._lock = threading.Lock()
        self._layers: dict[str, tuple[Layer, Any, np.ndarray | None]] = {}
        self._packed: dict[str, tuple[Layer, Shape]] = {}

    @property
    def bytes(self) -> int:
        """The memory of what is kept, dense, for the graphs of further sizes."""
        raise NotImplementedError

    def make(self, known: Known, weights: Mapping[str, np.ndarray]) -> Graph:
        """Return the folded graph at these sizes, `weights` in the place of what is kept packed."""
        raise NotImplementedError

    def opened(self) -> OpenGraph:
        """Return the graph with its sizes open. Raises InputError where it depends on them in other ways."""
        raise NotImplementedError

    @staticmethod
    def build(graph: OpenGraph, batch: int) -> Engine:
        """Choose the layers at the example's sizes, as `program.build` does, and return the engine of all sizes."""
        example = for_kernels(graph.at(graph.example))
        engine = build(example, batch)
        sizes = engine.sizes = SavedSizes(graph)
        sizes.share(engine._layers, example)
        return engine

    def share(self, layers: Mapping[str, Layer], graph: Graph) -> None:
        """Let the engines of further sizes have these layers of a graph; weights that they hold are not kept dense."""
        elsewhere = {name for node in graph.nodes if node.name not in layers for name in node.tensors.values()}
        for node in graph.nodes:
            if node.name in layers:
                layer, bias = layers[node.name], node.tensors.get("bias")
                kept = None if bias is None else graph.tensors[bias]
                self._layers[_key(node)] = layer, node.attributes["activation"], kept
                name = _weight_name(node)
                if name not in elsewhere:
                    self._share_weight(name, layer)

    def _share_weight(self, name: str, layer: Layer) -> None:
        """Note that a layer has this weight, and drop it."""
        raise NotImplementedError

    def unpacked(self) -> dict[str, np.ndarray]:
        """Return the weights that layers hold, dense."""
        return {name: weight_of(layer).reshape(shape) for name, (layer, shape) in self._packed.items()}

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

    def known(self, shapes: tuple[Shape, ...]) -> Known:
        """Return the open sizes in these shapes."""
        known: dict[int, int] = {}
        for (name, wanted), shape in zip(self.inputs.items(), shapes, strict=True):
            if len(shape) != len(wanted):
                raise InputError(f"input {name!r} has {len(shape) + 1} axes, not {len(wanted) + 1}")
            for axis, (size, given) in enumerate(zip(wanted, shape, strict=True), 1):
                what = f"input {name!r} has {given} at axis {axis}"
                if isinstance(size, int):
                    if size != given:
                        raise InputError(f"{what}, not {size}: name it in dynamic")
                    continue
                (place,) = size.of
                (least, most), value = self.ranges[place], size.size_of(given)
                if value is None or not least <= value <= most:
                    ends = [float(size.factor) * end + float(size.offset) for end in (least, most)]
                    steps = "" if size.factor == 1 else f" in steps of {size.factor}"
                    raise InputError(f"{what}, outside of {ends[0]:.0f} to {ends[1]:.0f}{steps}")
                if known.setdefault(place, value) != value:
                    raise InputError(f"{what}, where others have {size.factor * known[place] + size.offset}")
        return tuple(known[place] for place in range(len(self.ranges)))

    def _built(self, known: Known) -> Engine:
        graph = for_kernels(self.make(known, self.unpacked()))
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
        holds = layer is not None and (_weight_name(node) in self._packed or is_weight(layer, weight))
        if layer is None or not same or not holds:
            return pack(node, weight, weight != 0, bias, matrix, shape)
        return self._reused(layer, node, weight.shape, bias, matrix)

    def _reused(self, layer: Layer, node: Node, shape: Shape, bias: np.ndarray | None, matrix: bool) -> Layer:
        """Return the layer as a matrix product or a convolution, whichever is asked for."""
        if isinstance(layer, kernels.Linear):
            return layer if matrix else layer.convolution
        return kernels.Linear.of(layer) if matrix and isinstance(layer, kernels.Convolution) else layer


class SavedSizes(Sizes):
    """The engines of an open graph, which needs no torch."""

    def __init__(self, graph: OpenGraph) -> None:
        super().__init__(graph.inputs, graph.ranges)
        self._graph = replace(graph, graph=replace(graph.graph, tensors=dict(graph.graph.tensors)))

    @property
    def bytes(self) -> int:
        """The memory of what is kept, dense, for the graphs of further sizes."""
        return sum(x.nbytes for name, x in self._graph.graph.tensors.items() if name not in self._packed)

    def make(self, known: Known, weights: Mapping[str, np.ndarray]) -> Graph:
        """Return the folded graph at these sizes, `weights` in the place of what is kept packed."""
        return self._with(weights).at(known)

    def opened(self) -> OpenGraph:
        """Return the graph with its sizes open."""
        return self._with(self.unpacked())

    def _with(self, weights: Mapping[str, np.ndarray]) -> OpenGraph:
        return replace(self._graph, graph=replace(self._graph.graph, tensors={**self._graph.graph.tensors, **weights}))

    def _share_weight(self, name: str, layer: Layer) -> None:
        tensors = self._graph.graph.tensors
        if name in tensors and is_weight(layer, tensors[name]):
            self._packed[name] = layer, tensors[name].shape
            tensors[name] = np.broadcast_to(np.float32(0), tensors[name].shape)


def for_kernels(graph: Graph) -> Graph:
    """Return a folded graph as the kernels have it, rewritten in place."""
    return join_sums(move_tokens_last(graph))


def is_weight(layer: Layer, weight: Any) -> bool:
    """Say whether a layer holds this weight."""
    packed = weight_of(layer)
    return packed.size == math.prod(weight.shape) and np.array_equal(packed.reshape(weight.shape), np.asarray(weight))


def _weight_name(node: Node) -> str:
    """A layer's weight's name, whether its sequence is an image or not."""
    return node.tensors["weight"].removesuffix(".1x1")


def _key(node: Node) -> str:
    """A layer's name, whether its sequence is an image at this size or not."""
    return node.name.removesuffix(".image")
