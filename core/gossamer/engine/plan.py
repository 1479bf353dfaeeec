"""Where every value of a graph lies in memory: planned once for a batch size, then used again at each call.

Images lie in buffers with a halo of zeros, as wide as any convolution at that resolution wants, so that no padding is
ever copied. A channel slice is a view of its source; what a concatenation joins is written into its place at once, so
that neither copies; buffers whose values are never needed at the same time share memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gossamer.engine.fold import FUSING
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import LARGEST, OPERATIONS, Shape
from gossamer.kernels.geometry import Axis
from gossamer.kernels.layout import LINE, Layout, aligned

CACHE = 1 << 19
"""The floats of all values that should stay near the processor."""


@dataclass(frozen=True)
class _Place:
    """A value that lies within another: its channels from `start` on, or (start is None) all of it in another shape."""

    root: str
    start: int | None


def plan(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    """Return an array for every value.

    Values that were joined, sliced or only seen in another shape are views of one buffer.
    """
    shapes = graph.shapes(batch)
    resolution = _resolution_halos(graph, shapes)
    places = _places(graph, shapes, resolution)
    offsets, size = _offsets(graph, shapes, resolution, places)
    memory = aligned(size)
    values = {name: np.zeros(shapes[name], kind) for name, kind in graph.value_kinds().items() if kind != "float32"}
    inside = {name: offset for name, offset in offsets.items() if name not in values}
    buffers = {name: _layout(shapes[name], resolution)[1](memory[offset:]) for name, offset in inside.items()}
    for name in shapes:
        values[name] = _locate(values, buffers, shapes, places, name)
    return values


def most_together(graph: Graph) -> int:
    """Return how many inputs of a batch should go through the graph at a time, so that their values stay in the cache.

    Where the graph mixes what belongs to different inputs, or may do so, they all go together.
    """
    few, more = graph.shapes(2), graph.shapes(3)
    mixed = any(_mixes(node, few) for node in graph.nodes)
    if mixed or any(few[name][:1] != (2,) or more[name][:1] != (3,) for name in few):
        return LARGEST
    shapes = graph.shapes(1)
    resolution = _resolution_halos(graph, shapes)
    _, size = _offsets(graph, shapes, resolution, _places(graph, shapes, resolution))
    return max(1, CACHE // size)


def _mixes(node: Node, shapes: dict[str, Shape]) -> bool:
    if node.operation == "torch":
        return True
    return OPERATIONS[node.operation].mixes(node.attributes, len(shapes[node.inputs[0]]))


def _resolution_halos(graph: Graph, shapes: dict[str, Shape]) -> dict[Shape, Shape]:
    """Return the halo of each (rows, columns): the widest that a convolution wants there.

    Around its input it wants the zeros that it pads with; around its output, if it takes strides, rows as far apart as
    those of the phases that its input is split into.
    """
    found: dict[Shape, Shape] = {}

    def want(size: Shape, rows: int, columns: int) -> None:
        known = found.get(size, (0, 0))
        found[size] = (max(known[0], rows), max(known[1], columns))

    for node in graph.nodes:
        if node.operation == "conv2d":
            size, out = shapes[node.inputs[0]][2:], shapes[node.name][2:]
            kernel = graph.tensors[node.tensors["weight"]].shape[2:]
            ways = zip(size, kernel, *(node.attributes[key] for key in ("stride", "padding", "dilation")), strict=True)
            rows, columns = (Axis(*way) for way in ways)
            want(size, *(max(a.padding, (a.kernel - 1) * a.dilation - a.padding) for a in (rows, columns)))
            if rows.stride > 1 or columns.stride > 1:
                want(out, 0, columns.split + max(columns.before, columns.after) - columns.output)
    return found


def _is_image(shape: Shape) -> bool:
    return len(shape) == 4 and shape[2:] != (1, 1)


def _places(graph: Graph, shapes: dict[str, Shape], resolution: dict[Shape, Shape]) -> dict[str, _Place]:
    """Return the values that lie within another one."""
    places: dict[str, _Place] = {}
    kinds = graph.value_kinds()
    for node in graph.nodes:
        if not node.inputs or kinds[node.name] != "float32":
            continue
        source = node.inputs[0]
        if (
            node.operation == "slice"
            and node.attributes["axis"] == 1
            and node.attributes["step"] == 1
            and _is_image(shapes[source])
        ):
            places[node.name] = _Place(source, node.attributes["start"])
        elif node.operation == "reshape" and not _is_image(shapes[source]) and not _is_image(shapes[node.name]):
            places[node.name] = _Place(source, None)
    for node in reversed(graph.nodes):
        if node.operation == "concat" and node.attributes["axis"] == 1 and _is_image(shapes[node.name]):
            _place_parts(graph, shapes, places, node)
    return places


def _place_parts(graph: Graph, shapes: dict[str, Shape], places: dict[str, _Place], node: Node) -> None:
    """Place what this concatenation joins; a concatenation that begins like a placed one shares its place."""
    starts = np.cumsum([0, *(shapes[name][1] for name in node.inputs)]).tolist()
    placed = [places.get(name) for name in node.inputs]
    first = placed[0]
    if first and first.start is not None and node.name not in places:
        there = [_Place(first.root, first.start + start) for start in starts[:-1]]
        if placed == there and first.root != node.name:
            places[node.name] = first
            return
    for name, place, start in zip(node.inputs, placed, starts, strict=False):
        if place is None and name not in graph.inputs and node.inputs.count(name) == 1:
            places[name] = _Place(node.name, start)


def _root(places: dict[str, _Place], name: str) -> str:
    while name in places:
        name = places[name].root
    return name


def _locate(values: dict, buffers: dict, shapes: dict, places: dict[str, _Place], name: str) -> np.ndarray:
    if name in values:
        return values[name]
    if name not in places:
        return buffers[name]
    place = places[name]
    inside = _locate(values, buffers, shapes, places, place.root)
    if place.start is None:
        return inside.reshape(shapes[name])
    return inside[:, place.start : place.start + shapes[name][1]]


def _offsets(
    graph: Graph, shapes: dict[str, Shape], resolution: dict[Shape, Shape], places: dict[str, _Place]
) -> tuple[dict[str, int], int]:
    """Return where in one memory each buffer begins, and the memory's size, in floats.

    Buffers that are never needed together share memory if their layouts are equal, since then their halos are. A sum
    takes the memory of what is added to a layer's result, where that is needed no more.
    """
    others = {name for name, kind in graph.value_kinds().items() if kind != "float32"}
    shapes = {name: () if name in others else shape for name, shape in shapes.items()}  # they lie elsewhere
    roots = {name: _root(places, name) for name in shapes}
    first: dict[str, int] = dict.fromkeys(graph.inputs, -1)
    last: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        first.setdefault(roots[node.name], step)
        for name in [node.name, *node.inputs]:
            last[roots[name]] = step
    for name in [*graph.outputs(), *graph.inputs]:  # an input's halo is written by no one, its inside at each call
        last[roots[name]] = len(graph.nodes)
    layouts = {name: _layout(shapes[name], resolution)[0] for name in first}
    before: dict[str, str] = {}  # whose memory a buffer takes over
    for step, node in enumerate(graph.nodes):
        if node.operation in FUSING and len(node.inputs) == 2 and node.name in layouts:
            x, other = (roots[name] for name in node.inputs)
            if x != other and last[other] == step and layouts[other] == layouts[node.name]:
                before[node.name] = other
    starting: dict[int, list[str]] = {}
    ending: dict[int, list[str]] = {}
    for name, step in first.items():
        starting.setdefault(step, []).append(name)
        ending.setdefault(last.get(name, step), []).append(name)
    free: dict[Layout | int, list[int]] = {}
    offsets: dict[str, int] = {}
    total = 0
    for step in range(-1, len(graph.nodes)):
        for name in starting.get(step, []):
            key = layouts[name]
            if name in before:
                offsets[name] = offsets[before[name]]
            elif free.get(key):
                offsets[name] = free[key].pop()
            else:
                offsets[name] = total
                total += -(-(key if isinstance(key, int) else key.size) // LINE) * LINE
        for name in ending.get(step, []):
            if name not in before.values():
                free.setdefault(layouts[name], []).append(offsets[name])
    return offsets, total


def _layout(shape: Shape, resolution: dict[Shape, Shape]) -> tuple[Layout | int, Callable[[np.ndarray], np.ndarray]]:
    """Return what tells the buffers of this shape apart, and the function from its memory to the value's array."""
    if _is_image(shape):
        layout = Layout((shape[0], shape[1], shape[2], shape[3]), resolution.get(shape[2:], (0, 0)))  # type: ignore[arg-type]
        return layout, layout.view
    size = math.prod(shape)
    return size, lambda flat: flat[:size].reshape(shape)
