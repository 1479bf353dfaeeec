"""Graphs of open sizes: one graph, and what of it is another number or a larger tensor at other sizes."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import LARGEST, NotCapturedError, Shape
from gossamer.errors import InputError

SAMPLES = 8
"""Sizes at which a graph is looked at to find how it depends on them."""
LEAST = 4
"""Fewer than these are too few to tell."""
GROWN = 2**28
"""The elements that tensors may have together which grow with the sizes."""
TOGETHER = 3
"""Sizes of which a number may be the product, such as rows, columns and what is left of the batch."""
Known = tuple[int, ...]
"""The open sizes, in order, as numbers."""


@dataclass(frozen=True)
class OpenSize:
    """A number that depends on open ones: `factor` times the product of some of them, and `offset`."""

    factor: Fraction
    offset: Fraction
    of: tuple[int, ...]

    def at(self, sizes: Sequence[int]) -> int:
        """Return the number at these sizes. Raises InputError where it is none, or negative."""
        value = self.factor * math.prod(sizes[place] for place in self.of) + self.offset
        if value.denominator != 1 or not 0 <= value < LARGEST:
            raise InputError(f"the sizes {tuple(sizes)} give {float(value):g}, where a whole number belongs")
        return int(value)

    def size_of(self, value: int) -> int | None:
        """Return what the one size it depends on is where the number is this one; None where there is no such size."""
        size = (value - self.offset) / self.factor
        return int(size) if size.denominator == 1 else None


Size = int | OpenSize


def at(size: Size, sizes: Sequence[int]) -> int:
    """Return the number that a size, open or not, is at these sizes."""
    return size if isinstance(size, int) else size.at(sizes)


@dataclass(frozen=True)
class OpenGraph:
    """A graph at one choice of its open sizes, `example`, and what differs at others.

    `ranges` holds each open size's least and greatest value, `inputs` the inputs' shapes without the batch. Of a node
    whose attributes differ, `attributes` has these: an `OpenSize` counts the open sizes first, then those of the node's
    inputs for a batch of one. Of a tensor that grows, `graph` has the largest, and `tensors` the shape of the corner of
    it that is read.
    """

    graph: Graph
    ranges: list[tuple[int, float]]
    example: Known
    inputs: dict[str, tuple[Size, ...]]
    attributes: dict[str, dict[str, Any]]
    tensors: dict[str, tuple[Size, ...]]

    def at(self, known: Known) -> Graph:
        """Return the graph at these sizes. Raises InputError where it does not fit them."""
        graph = self.shaped(known)
        graph.tensors = {name: np.ascontiguousarray(tensor) for name, tensor in graph.tensors.items()}
        return graph

    def shaped(self, known: Known) -> Graph:
        """Return the graph at these sizes, its tensors as parts of this one's."""
        graph = replace(self.graph, nodes=[])
        graph.inputs = {name: tuple(at(size, known) for size in shape) for name, shape in self.inputs.items()}
        corners = {name: tuple(slice(at(size, known)) for size in shape) for name, shape in self.tensors.items()}
        graph.tensors = {name: tensor[corners.get(name, ...)] for name, tensor in self.graph.tensors.items()}
        for name, corner in corners.items():
            if graph.tensors[name].shape != tuple(part.stop for part in corner):
                raise InputError(f"tensor {name!r} has no such corner: {[part.stop for part in corner]}")
        shapes: dict[str, Shape] = {name: (1, *shape) for name, shape in graph.inputs.items()}
        for node in self.graph.nodes:
            changed = self.attributes.get(node.name, {})
            filled = {key: _filled(value, _sizes(node, known, shapes)) for key, value in changed.items()}
            attributes = node.attributes | filled
            node = replace(node, inputs=list(node.inputs), tensors=dict(node.tensors), attributes=attributes)
            graph.nodes.append(node)
            shapes[node.name] = graph.shape(node, shapes)
        return graph


def _sizes(node: Node, known: Known, shapes: Mapping[str, Shape]) -> list[int]:
    """Return what a node's numbers may depend on."""
    return [*known, *(size for name in node.inputs for size in shapes[name])]


def _filled(value: Any, sizes: Sequence[int]) -> Any:
    if isinstance(value, OpenSize):
        return value.at(sizes)
    return [_filled(part, sizes) for part in value] if isinstance(value, list | tuple) else value


def opened(
    make: Callable[[Known], Graph], inputs: dict[str, tuple[Size, ...]], ranges: list[tuple[int, float]], example: Known
) -> OpenGraph:
    """Return the open graph whose graph at any sizes is that of `make`, from a few of these.

    Raises InputError where one differs from another by more than sizes that are products of the open ones, and tensors
    that are corners of the largest.
    """
    graphs: dict[Known, Graph] = {}
    groups: dict[str, list[Known]] = {}
    for known in _samples(ranges, example):
        graph = _made(make, known) if len(graphs) < SAMPLES else None
        if graph is not None:
            first = next(iter(graphs.values()), graph)
            graph.tensors = {name: _kept(tensor, first.tensors.get(name)) for name, tensor in graph.tensors.items()}
            groups.setdefault(_structure(graph), []).append(known)
            graphs[known] = graph
    same = max(groups.values(), key=len)  # where a size is 1, say, a slice may be all there is, and left out
    if len(same) < min(LEAST, math.prod(most - least + 1 for least, most in ranges)):
        raise InputError("the model is the same at too few of its open sizes to be saved: say their least and greatest")
    alike = {known: graphs[known] for known in same}
    graph = replace(alike[same[0]], inputs=graphs[example].inputs)
    found = OpenGraph(graph, ranges, example, inputs, _attributes(alike), _tensors(alike))
    if found.tensors:
        largest = _made(make, _largest(found))
        if largest is None or not found.tensors.keys() <= largest.tensors.keys():
            raise InputError("the model does not work at the greatest of its open sizes: open them less far")
        grown = {name: largest.tensors[name] for name in found.tensors}
        found = replace(found, graph=replace(graph, tensors=graph.tensors | grown))
    for known, graph in graphs.items():
        _check(found.shaped(known), graph, known in alike)
    return found


def _samples(ranges: list[tuple[int, float]], example: Known) -> Iterator[Known]:
    """Give the example's sizes, the least of all, moderate ones of all, and random ones in between, each once.

    Half of the random ones are multiples of as great a power of two as the example, where only such work.
    """
    random = np.random.default_rng(0)
    most = [int(min(most, max(4 * size, least + 64))) for (least, most), size in zip(ranges, example, strict=True)]
    least, steps = [least for least, _ in ranges], [size & -size for size in example]
    drawn = [example, tuple(least), tuple(most)]
    for turn in range(8 * SAMPLES):  # of which those are taken that the model works at
        known = random.integers(least, most, endpoint=True)
        drawn.append(tuple(map(int, np.maximum(known // steps * steps, least) if turn % 2 else known)))
    yield from dict.fromkeys(drawn)


def _made(make: Callable[[Known], Graph], known: Known) -> Graph | None:
    """Return the graph, None where the model does not work at these sizes."""
    try:
        return make(known)
    except (InputError, NotCapturedError):
        return None


def _kept(tensor: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Return the first of two tensors where they are equal, so that one of them takes memory."""
    return first if first is not None and np.array_equal(tensor, first) else tensor


def _structure(graph: Graph) -> str:
    """Return what graphs of the same operations on the same values have in common."""
    nodes = [(one.operation, one.name, one.inputs, one.tensors, list(one.attributes)) for one in graph.nodes]
    return repr((nodes, sorted(graph.tensors), graph.output))


def _named(node: Node) -> str:
    return f"{node.layer or node.name} ({node.operation})"


def _attributes(graphs: Mapping[Known, Graph]) -> dict[str, dict[str, Any]]:
    """Return the attributes that differ, by node."""
    found: dict[str, dict[str, Any]] = {}
    shapes = [graph.shapes(1) for graph in graphs.values()]
    for nodes in zip(*(graph.nodes for graph in graphs.values()), strict=True):
        rows = [_sizes(*parts) for parts in zip(nodes, graphs, shapes, strict=True)]
        for key, value in nodes[0].attributes.items():
            values = [node.attributes[key] for node in nodes]
            if any(one != value for one in values):
                found.setdefault(nodes[0].name, {})[key] = _fitted(values, rows, f"{key} of {_named(nodes[0])}")
    return found


def _tensors(graphs: Mapping[Known, Graph]) -> dict[str, tuple[Size, ...]]:
    """Return the shapes of the tensors that differ."""
    found: dict[str, tuple[Size, ...]] = {}
    first, *others = graphs.values()
    for name, tensor in first.tensors.items():
        if any(graph.tensors[name] is not tensor for graph in others):
            shapes = [list(graph.tensors[name].shape) for graph in graphs.values()]
            found[name] = tuple(_fitted(shapes, [list(known) for known in graphs], f"tensor {name}"))
    return found


def _fitted(values: list[Any], rows: list[list[int]], what: str) -> Any:
    """Return what is the value of each row of sizes: itself, an `OpenSize`, or a list of such."""
    if all(one == values[0] for one in values):
        return values[0]
    if all(isinstance(one, list | tuple) and len(one) == len(values[0]) for one in values):
        return [_fitted(list(parts), rows, what) for parts in zip(*values, strict=True)]
    if all(type(one) is int for one in values):
        columns = list(zip(*rows, strict=True))
        open_ones = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        for count in range(1, TOGETHER + 1):
            for places in itertools.combinations_with_replacement(open_ones, count):
                size = _through(values, [math.prod(row[place] for place in places) for row in rows], places)
                if size is not None:
                    return size
    raise InputError(f"{what} depends on the open sizes in a way that cannot be saved: compile without dynamic")


def _through(values: list[int], products: list[int], places: tuple[int, ...]) -> OpenSize | None:
    """Return the line through all points, None where there is none."""
    other = next((j for j, product in enumerate(products) if product != products[0]), None)
    if other is None:
        return None
    factor = Fraction(values[other] - values[0], products[other] - products[0])
    size = OpenSize(factor, values[0] - factor * products[0], places)
    fits = all(factor * product + size.offset == value for value, product in zip(values, products, strict=True))
    return size if factor and fits else None


def _largest(graph: OpenGraph) -> Known:
    """Return the greatest sizes. Raises InputError where tensors grow with them and they have no end."""
    elements = 0
    for name, shape in graph.tensors.items():
        open_ones = {place for size in shape if isinstance(size, OpenSize) for place in size.of}
        if any(graph.ranges[place][1] >= LARGEST for place in open_ones):
            raise InputError(f"tensor {name} grows with a size that has no end: give Dim(…, max=…) in dynamic")
        greatest = [int(min(most, LARGEST - 1)) for _, most in graph.ranges]
        elements += math.prod(at(size, greatest) for size in shape)
    if elements > GROWN:
        raise InputError(f"tensors that grow have {elements} elements at the greatest sizes: open them less far")
    return tuple(
        int(most) if most < LARGEST else size for (_, most), size in zip(graph.ranges, graph.example, strict=True)
    )


def _check(found: Graph, graph: Graph, alike: bool) -> None:
    """Raise InputError where tensors are not corners of the largest, or outputs have other shapes."""
    for name, tensor in graph.tensors.items() if alike else ():
        if not np.array_equal(found.tensors[name], tensor):
            raise InputError(f"tensor {name} depends on the open sizes in a way that cannot be saved")
    shapes, wanted = found.shapes(1), graph.shapes(1)
    if any(shapes[name] != wanted[name] for name in graph.outputs()):
        raise InputError("the outputs depend on the open sizes in a way that cannot be saved: compile without dynamic")
