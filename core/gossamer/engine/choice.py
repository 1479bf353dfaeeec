"""Choosing for every layer between sparse kernel, dense kernel and torch, by measuring them where they will run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gossamer import kernels
from gossamer.engine.graph import Graph, Node
from gossamer.engine.plan import plan
from gossamer.engine.steps import Layer, Step, bind_layer, bind_torch, is_matrix

try:
    from gossamer.engine import depthwise
except ImportError:  # no Numba
    depthwise = None

MakeDense = Callable[[Node, np.ndarray, np.ndarray | None, bool], Layer]
LAYERS = ("conv2d", "linear")


@dataclass(frozen=True)
class Row:
    """What became of one layer: times are those of one call at the example's batch size, in microseconds.

    `kind` is "sparse" or "dense", or "torch" for what stayed PyTorch code; `dense_us` is the fastest dense way's time.
    """

    name: str
    kind: str
    pattern: str
    density: float
    dense_us: float
    chosen_us: float


class Report(list[Row]):
    """The rows of an engine's report; as a string, a table."""

    def __str__(self) -> str:
        head = ("layer", "kind", "pattern", "density", "dense µs", "chosen µs", "ratio")
        body = [
            (
                r.name,
                r.kind,
                r.pattern,
                f"{r.density:.3f}",
                f"{r.dense_us:.1f}",
                f"{r.chosen_us:.1f}",
                f"{r.dense_us / r.chosen_us:.1f}×",
            )
            for r in self
        ]
        total, chosen = (sum(times) for times in ([r.dense_us for r in self], [r.chosen_us for r in self]))
        body.append(("all layers", "", "", "", f"{total:.1f}", f"{chosen:.1f}", f"{total / max(chosen, 1e-9):.1f}×"))
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(
                f"{cell:<{w}}" if i < 3 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in (head, *body)
        ]
        return "\n".join(line.rstrip() for line in lines)


def choose(graph: Graph, batch: int, threads: int, make_dense: MakeDense | None) -> tuple[dict[str, Layer], Report]:
    """Return the layers of all convolution and linear nodes and the report. `make_dense` offers torch's dense layer."""
    values = plan(graph, batch)
    random = np.random.default_rng(0)
    for value in values.values():  # zeros and denormal numbers take other times than a real image
        value[...] = random.standard_normal(value.shape, np.float32)
    layers: dict[str, Layer] = {}
    report = Report()
    for node in graph.nodes:
        if node.operation in LAYERS:
            layers[node.name], row = _choose_layer(node, graph, values, threads, make_dense)
            report.append(row)
        elif node.operation == "torch":
            report.append(torch_row(node.layer or node.name, bind_torch(node, values, batch), threads))
    return layers, report


def torch_row(name: str, step: Step, threads: int = 0) -> Row:
    """Return the row of what stays PyTorch code."""
    time = measure(step, threads)
    return Row(name, "torch", "", 1.0, time, time)


def _choose_layer(
    node: Node, graph: Graph, values: dict[str, np.ndarray], threads: int, make_dense: MakeDense | None
) -> tuple[Layer, Row]:
    weight = graph.tensors[node.tensors["weight"]]
    bias = graph.tensors[node.tensors["bias"]] if "bias" in node.tensors else None
    matrix = is_matrix(node, graph, values[node.inputs[0]].shape)
    mask = weight != 0
    density = np.count_nonzero(mask) / max(weight.size, 1)

    def timed(layer: Layer) -> tuple[float, Layer]:
        return measure(bind_layer(node, graph, layer, values, threads), threads), layer

    dense = [timed(_pack(node, weight, None, bias, matrix))]
    if make_dense is not None:
        dense.append(timed(make_dense(node, weight, bias, matrix)))
    sparse = [timed(_pack(node, weight, mask, bias, matrix))] if density < 0.9 else []
    if (
        depthwise is not None
        and not matrix
        and depthwise.is_depthwise(node, graph)
        and _has_halo(values[node.inputs[0]])
    ):
        (sparse if density < 0.9 else dense).append(timed(depthwise.Depthwise(node, weight, bias)))
    dense_us = min(us for us, _ in dense)
    chosen_us, chosen = min(dense + sparse, key=lambda pair: pair[0])
    kind = "dense" if any(chosen is layer for _, layer in dense) else "sparse"
    return chosen, Row(node.layer or node.name, kind, chosen.pattern, density, dense_us, chosen_us)


def _has_halo(x: np.ndarray) -> bool:
    return x.ndim == 4 and x.shape[2:] != (1, 1)


def _pack(node: Node, weight: np.ndarray, mask: np.ndarray | None, bias: np.ndarray | None, matrix: bool) -> Layer:
    activation = kernels.Activation(**node.attributes["activation"]) if node.attributes["activation"] else None
    if matrix:
        mask = None if mask is None else mask.reshape(mask.shape[:2])
        return kernels.linear(weight.reshape(weight.shape[:2]), mask, bias=bias, activation=activation)
    geometry = {name: tuple(node.attributes[name]) for name in ("stride", "padding", "dilation")}
    return kernels.conv2d(weight, mask, bias=bias, groups=node.attributes["groups"], activation=activation, **geometry)  # type: ignore[arg-type]


def weight_of(layer: Layer) -> np.ndarray:
    """Return a layer's weight, dense, in any shape of so many elements."""
    packed = layer.convolution if isinstance(layer, kernels.Linear) else layer
    return packed.weights.dense() if isinstance(packed, kernels.Convolution) else packed.dense()  # type: ignore[union-attr]


def measure(step: Step, threads: int, seconds: float = 0.004) -> float:
    """Return the shortest of at least five calls in microseconds, after one to warm up.

    With one thread it is that thread's own time, which other processes disturb less.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    step()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = clock()
        step()
        times.append(clock() - before)
    return min(times) * 1e6
