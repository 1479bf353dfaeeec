"""The engine: a graph with its layers chosen, run on buffers that are planned once for each batch size."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.engine.choice import LAYERS, Report, choose, weight_of
from gossamer.engine.graph import Graph, Node, fill
from gossamer.engine.plan import most_together, plan
from gossamer.engine.steps import Layer, Step, bind, bind_layer, bind_torch
from gossamer.errors import InputError

KEPT = 4
"""Batch sizes whose buffers an engine keeps."""


@dataclass(frozen=True)
class _Program:
    inputs: list[np.ndarray]
    nodes: list[Node]
    steps: list[Step]
    outputs: dict[str, np.ndarray]


class Engine:
    """A compiled network. Call it with what the model takes: torch tensors give tensors, NumPy arrays give arrays.

    Any batch size goes, in as many parts as it takes for their values to stay in the cache; the other sizes are the
    example's. Calls from several threads wait for each other.
    """

    def __init__(self, graph: Graph, layers: dict[str, Layer], report: Report):
        self._graph, self._layers, self._report = _without_weights(graph), layers, report
        self._most = most_together(graph)
        self._programs: dict[tuple[int, int], _Program] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Any) -> Any:
        """Return the network's output. Raises InputError where the inputs' number or shapes are not the example's."""
        arrays = self._checked(inputs)
        batch, threads = len(arrays[0]), current_threads()
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self._graph.outputs()}
        with self._lock:
            for start in range(0, batch, self._most):
                count = min(self._most, batch - start)
                program = self._programs.get((count, threads)) or self._prepare(count, threads)
                for target, array in zip(program.inputs, arrays, strict=True):
                    np.copyto(target, array[start : start + count])
                for step in program.steps:
                    step()
                for name, value in program.outputs.items():
                    parts[name].append(value.copy())
        outputs = {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}
        if any(hasattr(x, "detach") for x in inputs):
            import torch

            outputs = {name: torch.from_numpy(value) for name, value in outputs.items()}
        return fill(self._graph.output, outputs)

    def report(self) -> Report:
        """Return what every layer became: a list of `Row`, which prints as a table."""
        return self._report

    @property
    def graph(self) -> Graph:
        """The graph with all weights, dense: made anew at each use, for the engine itself keeps them packed."""
        tensors = dict(self._graph.tensors)
        for node in self._graph.nodes:
            if node.name in self._layers:
                name = node.tensors["weight"]
                tensors[name] = weight_of(self._layers[node.name]).reshape(tensors[name].shape)
        return replace(self._graph, tensors=tensors)

    @property
    def bytes(self) -> int:
        """The memory of all weights, in bytes."""
        packed = _weights(self._graph)
        rest = sum(tensor.nbytes for name, tensor in self._graph.tensors.items() if name not in packed)
        return rest + sum(layer.bytes for layer in self._layers.values())

    def save(self, path: str | Path) -> None:
        """Write a JSON graph and the weights, never code, into a file that `gossamer.engine.load` reads without torch.

        Raises InputError where a part of the network stayed PyTorch code.
        """
        from gossamer.engine.storage import save

        save(self.graph, path)

    def _checked(self, inputs: tuple) -> list[np.ndarray]:
        if len(inputs) != len(self._graph.inputs):
            raise InputError(f"the network takes {len(self._graph.inputs)} inputs, not {len(inputs)}")
        arrays = [x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x) for x in inputs]
        for array, (name, shape) in zip(arrays, self._graph.inputs.items(), strict=True):
            if array.shape[1:] != shape or array.shape[:1] != arrays[0].shape[:1] or not len(array):
                wanted = ", ".join(["batch", *map(str, shape)])
                raise InputError(
                    f"input {name!r} has shape {array.shape}, not ({wanted}): compile with an example of its shape"
                )
            if array.dtype != np.float32:
                raise InputError(f"input {name!r} is {array.dtype}, not float32: convert it")
        return arrays

    def _prepare(self, batch: int, threads: int) -> _Program:
        graph = self._graph
        values = plan(graph, batch)
        nodes: list[Node] = []
        steps: list[Step] = []
        for node in graph.nodes:
            if node.operation in LAYERS:
                step = bind_layer(node, graph, self._layers[node.name], values, threads)
            elif node.operation == "torch":
                step = bind_torch(node, values, batch)
            else:
                step = bind(node, graph, values)
            if step is not None:
                nodes.append(node)
                steps.append(step)
        while len(self._programs) >= KEPT:
            self._programs.pop(next(iter(self._programs)))
        outputs = {name: values[name] for name in graph.outputs()}
        program = _Program([values[name] for name in graph.inputs], nodes, steps, outputs)
        self._programs[batch, threads] = program
        return program


def _weights(graph: Graph) -> set[str]:
    """Return the names of the tensors that layers keep packed."""
    elsewhere = {name for node in graph.nodes if node.operation not in LAYERS for name in node.tensors.values()}
    return {node.tensors["weight"] for node in graph.nodes if node.operation in LAYERS} - elsewhere


def _without_weights(graph: Graph) -> Graph:
    """Return the graph with arrays in the place of packed weights that have their shapes but take no memory."""
    empty = {name: np.broadcast_to(np.float32(0), graph.tensors[name].shape) for name in _weights(graph)}
    return replace(graph, tensors=graph.tensors | empty)


class Whole:
    """A model that stays PyTorch code as a whole, behind the face of an engine; `reason` says why."""

    def __init__(self, call: Callable[..., Any], report: Report, reason: str):
        self._call, self._report, self.reason = call, report, reason

    def __call__(self, *inputs: Any) -> Any:
        """Return the model's output."""
        import torch

        with torch.no_grad():
            return self._call(*inputs)

    def report(self) -> Report:
        """Return a list of `Row`, which prints as a table."""
        return self._report

    def save(self, path: str | Path) -> None:
        """Raise InputError: code is never stored."""
        raise InputError(
            f"the model stays PyTorch code ({self.reason}) and cannot be saved: engines are stored without code"
        )


def current_threads() -> int:
    """Return how many threads a call may use: torch's setting where torch is loaded, else this process's processors."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(graph: Graph, batch: int, make_dense: Any = None) -> Engine:
    """Choose the layers of a folded graph by measuring them at this batch size, and return the engine.

    They are measured on no more inputs than the engine takes at a time.
    """
    layers, report = choose(graph, min(batch, most_together(graph)), current_threads(), make_dense)
    return Engine(graph, layers, report)
