"""Choosing for every layer between sparse kernel, dense kernel and torch, by measuring them where they will run."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gossamer import kernels
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import Shape
from gossamer.engine.plan import plan
from gossamer.engine.steps import LAYERS, Layer, Step, bind, bind_layer, bind_torch, is_matrix
from gossamer.threads import using_threads

try:
    from gossamer.engine import depthwise
except ImportError:  # no Numba
    depthwise = None

SPARSE = 0.9
"""The density from which on no sparse kernel is tried; `core/benchmarks/tuning.py --densities` finds where one wins."""
MakeDense = Callable[[Node, np.ndarray, np.ndarray | None, bool], Layer]


@dataclass(frozen=True)
class LayerRow:
    """What became of one layer: times are one thread's for one call at the example's batch size, in microseconds.

    `kind` is "sparse" or "dense", or "torch" for what stayed PyTorch code; `dense_us` is the fastest dense way's time.
    """

    name: str
    kind: str
    pattern: str
    density: float
    dense_us: float
    chosen_us: float


class Report(list[LayerRow]):
    """The rows of an engine's report, one a layer; as a string, a table that accounts for the time of a whole call.

    `rest` is the time of the other operations by name, `call_us` that of a whole call on the example and `eager_us`
    that of the model in PyTorch, in microseconds; 0 where it was not measured. `kept` says which of the two answers.
    """

    def __init__(self, rows: Iterable[LayerRow] = ()) -> None:
        super().__init__(rows)
        self.rest: dict[str, float] = {}
        self.call_us = self.eager_us = 0.0
        self.kept: Literal["engine", "eager"] = "engine"

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
        body += [(name, "", "", "", "", f"{us:.1f}", "") for name, us in self.rest.items()]
        if self.call_us:
            between = self.call_us - chosen - sum(self.rest.values())
            body.append(("between operations", "", "", "", "", f"{max(between, 0.0):.1f}", ""))
            ratio = f"{self.eager_us / self.call_us:.1f}×" if self.eager_us else ""
            eager = f"{self.eager_us:.1f}" if self.eager_us else ""
            body.append(("whole call", self.kept, "", "", eager, f"{self.call_us:.1f}", ratio))
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(
                f"{cell:<{w}}" if i < 3 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in (head, *body)
        ]
        return "\n".join(line.rstrip() for line in lines)


def choose(graph: Graph, batch: int, make_dense: MakeDense | None) -> tuple[dict[str, Layer], Report]:
    """Return the layers of all convolution and linear nodes and the report. `make_dense` offers torch's dense layer.

    They are measured on one thread, whose own time other processes disturb least.
    """
    values = random_values(graph, batch)
    layers: dict[str, Layer] = {}
    report = Report()
    with using_threads(1):
        for node in graph.nodes:
            if node.operation in LAYERS:
                layers[node.name], row = _choose_layer(node, graph, values, make_dense)
                report.append(row)
            elif node.operation == "torch":
                report.append(torch_row(node.layer or node.name, bind_torch(node, values, batch)))
            elif step := bind(node, graph, values):
                with np.errstate(all="ignore"):
                    report.rest[node.operation] = report.rest.get(node.operation, 0.0) + measure(step, 0.0)
    return layers, report


def random_values(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    """Return memory for all values; zeros and denormal numbers would take other times than a real image."""
    values, random = plan(graph, batch), np.random.default_rng(0)
    for value in values.values():
        value[...] = (
            random.standard_normal(value.shape, np.float32) if value.dtype == np.float32 else value.dtype == np.bool_
        )
    return values


def sparse_us(node: Node, graph: Graph, values: dict[str, np.ndarray], mask: np.ndarray) -> float:
    """Return the time of a layer by the sparse kernel with the weights that a mask leaves, in microseconds."""
    weight, x = graph.tensors[node.tensors["weight"]], values[node.inputs[0]]
    bias = graph.tensors[node.tensors["bias"]] if "bias" in node.tensors else None
    layer = pack(node, weight, mask, bias, is_matrix(node, graph, x.shape), x.shape)
    return measure(bind_layer(node, graph, layer, values, 1))


def torch_row(name: str, step: Step) -> LayerRow:
    """Return the row of what stays PyTorch code."""
    time = measure(step)
    return LayerRow(name, "torch", "", 1.0, time, time)


def _choose_layer(
    node: Node, graph: Graph, values: dict[str, np.ndarray], make_dense: MakeDense | None
) -> tuple[Layer, LayerRow]:
    weight = graph.tensors[node.tensors["weight"]]
    bias = graph.tensors[node.tensors["bias"]] if "bias" in node.tensors else None
    matrix = is_matrix(node, graph, values[node.inputs[0]].shape)
    mask = weight != 0
    density = np.count_nonzero(mask) / max(weight.size, 1)

    def timed(layer: Layer) -> tuple[float, Layer]:
        return measure(bind_layer(node, graph, layer, values, 1)), layer

    x = values[node.inputs[0]]
    dense = [timed(pack(node, weight, None, bias, matrix, x.shape))]
    if make_dense is not None:
        dense.append(timed(make_dense(node, weight, bias, matrix)))
    sparse = [timed(pack(node, weight, mask, bias, matrix, x.shape))] if density < SPARSE else []
    if depthwise is not None and not matrix and depthwise.is_depthwise(node, graph) and _has_halo(x):
        (sparse if density < SPARSE else dense).append(timed(depthwise.Depthwise(node, weight, bias)))
    dense_us = min(us for us, _ in dense)
    chosen_us, chosen = min(dense + sparse, key=lambda pair: pair[0])
    kind = "dense" if any(chosen is layer for _, layer in dense) else "sparse"
    return chosen, LayerRow(node.layer or node.name, kind, chosen.pattern, density, dense_us, chosen_us)


def _has_halo(x: np.ndarray) -> bool:
    return x.ndim == 4 and x.shape[2:] != (1, 1)


def pack(
    node: Node, weight: np.ndarray, mask: np.ndarray | None, bias: np.ndarray | None, matrix: bool, shape: Shape
) -> Layer:
    """Return a convolution or linear map as a kernel's, for an input of this shape."""
    activation = kernels.Activation(**node.attributes["activation"]) if node.attributes["activation"] else None
    if matrix:
        mask = None if mask is None else mask.reshape(mask.shape[:2])
        weight, rows = weight.reshape(weight.shape[:2]), math.prod(shape) // max(1, weight.shape[1])
        return kernels.linear(weight, mask, bias=bias, activation=activation, rows=rows)
    geometry: dict[str, Any] = {name: tuple(node.attributes[name]) for name in ("stride", "padding", "dilation")}
    geometry |= {"groups": node.attributes["groups"], "size": shape[2:]}
    return kernels.conv2d(weight, mask, bias=bias, activation=activation, **geometry)


def weight_of(layer: Layer) -> np.ndarray:
    """Return a layer's weight, dense, in any shape of so many elements."""
    packed = layer.convolution if isinstance(layer, kernels.Linear) else layer
    return packed.weights.dense() if isinstance(packed, kernels.Convolution) else packed.dense()  # type: ignore[union-attr]


def measure(step: Step, seconds: float = 0.004) -> float:
    """Return the shortest of at least five calls in microseconds of this thread's own time, after one to warm up."""
    step()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.thread_time()
        step()
        times.append(time.thread_time() - before)
    return min(times) * 1e6
