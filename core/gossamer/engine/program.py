"""The engine: a graph with its layers chosen, run on buffers that are planned once for each batch size."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gossamer.engine import saved
from gossamer.engine.choice import Report, choose, measure, weight_of
from gossamer.engine.graph import Graph, fill, match
from gossamer.engine.open_graph import OpenGraph
from gossamer.engine.operations import Shape
from gossamer.engine.plan import most_together
from gossamer.engine.prepared import Prepared, is_compiled, prepare
from gossamer.engine.steps import LAYERS, Layer
from gossamer.errors import InputError
from gossamer.threads import current_threads, using_threads

if TYPE_CHECKING:
    from gossamer.engine.parts import Parts

KEPT = 4
"""Batch sizes whose buffers an engine keeps."""


class Sizes(Protocol):
    """What `sizes.Sizes` is to an engine: it gives those of other sizes."""

    @property
    def bytes(self) -> int:
        """The memory of what is kept for them."""
        ...

    def engine(self, shapes: tuple[Shape, ...]) -> "Engine":
        """The engine for inputs of these shapes, the batch left out."""
        ...

    def opened(self) -> OpenGraph:
        """The graph with these sizes open."""
        ...

    @staticmethod
    def build(graph: OpenGraph, batch: int) -> "Engine":
        """The engine of such a graph."""
        ...


class Engine:
    """A compiled network. Call it with what the model takes: torch tensors give tensors, NumPy arrays give arrays.

    Any batch size goes, in as many parts as it takes for their values to stay in the cache; the other sizes are the
    example's, but for those that `dynamic` left open. Calls from several threads wait for each other.
    """

    sizes: Sizes | None = None
    """What answers at other sizes than the example's."""

    def __init__(self, graph: Graph, layers: dict[str, Layer], report: Report) -> None:
        self._graph, self._layers, self._report = _without_weights(graph), layers, report
        self._eager: Callable[..., Any] | None = None
        self._batch = 1
        self._most = most_together(graph)
        self._prepared: dict[tuple[int, int], Prepared] = {}
        self._parts: dict[int, Parts | None] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's output, made as the model makes it.

        Raises InputError where the inputs are not arranged as the example's, or have other shapes or dtypes.
        """
        given = self._given(inputs, named)
        arrays = self._arrays(given)
        if self.sizes is not None:
            shapes = tuple(array.shape[1:] for array in arrays)
            if shapes != tuple(self._graph.inputs.values()):
                other = self.sizes.engine(shapes)
                other._eager = self._eager
                return other(*inputs, **named)
        self._check(arrays)
        batch, threads = len(arrays[0]), current_threads()
        if not batch:
            return self._returned(self._empty(), given)
        if self._eager is not None and all(hasattr(x, "detach") for x in given):
            return self._eager(*inputs, **named)
        with self._lock:
            start, pieces = self._run_parts(arrays, threads)
            while start < batch:
                count = min(self._most, batch - start)
                prepared = self._prepared.get((count, threads)) or self._prepare(count, threads)
                pieces.append(prepared.run([array[start : start + count] for array in arrays]))
                start += count
        parts = {name: [piece[name] for piece in pieces] for name in self._graph.outputs()}
        outputs = {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}
        return self._returned(outputs, given)

    def _given(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        """Return the inputs in the graph's order."""
        if self._graph.arguments is None:
            if len(inputs) != len(self._graph.inputs) or named:
                raise InputError(f"the network takes {len(self._graph.inputs)} inputs, not {len(inputs) + len(named)}")
            return list(inputs)
        positional, keywords = self._graph.arguments
        found = match(list(positional), list(inputs)) | match(keywords, named)
        return [found[name] for name in self._graph.inputs]

    def _returned(self, outputs: dict[str, np.ndarray], given: list[Any]) -> Any:
        """Return the outputs as the model arranges them: tensors for tensors, arrays for arrays."""
        if any(hasattr(x, "detach") for x in given):
            import torch

            return fill(self._graph.output, {name: torch.from_numpy(value) for name, value in outputs.items()})
        return fill(self._graph.output, outputs)

    def _empty(self) -> dict[str, np.ndarray]:
        """Return the outputs of no inputs."""
        one, two, kinds = self._graph.shapes(1), self._graph.shapes(2), self._graph.value_kinds()
        names = self._graph.outputs()
        none = {name: [2 * a - b for a, b in zip(one[name], two[name], strict=True)] for name in names}
        return {name: np.zeros(none[name], kinds[name]) for name in names}

    def report(self) -> Report:
        """Return what every layer became: a list of `LayerRow`, which prints as a table."""
        return self._report

    def compare(self, eager: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Measure a whole call beside the model's in PyTorch, and say whether the engine is not slower by a tenth."""
        report = self._report
        with using_threads(1):
            report.call_us = measure(lambda: self(*args, **kwargs))
            report.eager_us = measure(lambda: eager(*args, **kwargs))
        return report.eager_us > 0.9 * report.call_us

    def keep(self, eager: Callable[..., Any]) -> None:
        """Answer tensors by the model in PyTorch from here on; what is saved or exported is the engine's graph."""
        self._eager, self._report.kept = eager, "eager"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Engine":
        twin = Engine(self._graph, self._layers, self._report)
        twin._eager, twin.sizes = self._eager, self.sizes
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return (build if self.sizes is None else self.sizes.build), (self._stored(), self._batch)

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
        return rest + sum(layer.bytes for layer in self._layers.values()) + (self.sizes.bytes if self.sizes else 0)

    def save(self, path: str | Path) -> None:
        """Write a JSON graph and the weights, never code, into a file that `gossamer.engine.load` reads without torch.

        Sizes that are open stay open: numbers that are products of them are stored as such, and tensors that grow with
        them, such as the places of a sequence, at the greatest size.
        Raises InputError where a part of the network stayed PyTorch code, or depends on open sizes in another way.
        """
        saved.write(self._stored(), path)

    def _stored(self) -> Graph | OpenGraph:
        """Return the graph as it is stored. Raises InputError where a part of it is PyTorch code."""
        for node in self._graph.nodes:
            if node.operation == "torch":
                name = f"{node.layer or node.name} stays PyTorch code ({node.attributes['operator']})"
                raise InputError(f"{name} and cannot be saved: engines are stored without code. Keep the model")
        return self.graph if self.sizes is None else self.sizes.opened()

    def _arrays(self, inputs: list[Any]) -> list[np.ndarray]:
        return [_array(name, x) for name, x in zip(self._graph.inputs, inputs, strict=True)]

    def _check(self, arrays: list[np.ndarray]) -> None:
        for array, (name, shape) in zip(arrays, self._graph.inputs.items(), strict=True):
            if not array.ndim or array.shape[1:] != shape or array.shape[:1] != arrays[0].shape[:1]:
                wanted = ", ".join(["batch", *map(str, shape)])
                raise InputError(
                    f"input {name!r} has shape {array.shape}, not ({wanted}): compile with an example of its shape"
                )
            kind = self._graph.kinds.get(name, "float32")
            if array.dtype != kind:
                raise InputError(f"input {name!r} is {array.dtype}, not {kind}: convert it")

    def _run_parts(self, arrays: list[np.ndarray], threads: int) -> tuple[int, list[dict[str, np.ndarray]]]:
        """Run as many whole parts of a batch as keep all threads busy, each part in one thread: how many inputs those
        were, and what came out.
        """
        count = len(arrays[0]) // self._most // threads * threads
        if count < 2:
            return 0, []
        if threads not in self._parts:
            workers = [prepare(self._graph, self._layers, self._most, 1) for _ in range(threads)]
            compiled = all(len(worker.steps) == 1 and is_compiled(worker.steps[0]) for worker in workers)
            self._parts = {threads: _parts(workers) if compiled else None}
        parts = self._parts[threads]
        return (0, []) if parts is None else (count * self._most, [parts.run(arrays, count)])

    def _prepare(self, batch: int, threads: int) -> Prepared:
        while len(self._prepared) >= KEPT:
            self._prepared.pop(next(iter(self._prepared)))
        prepared = self._prepared[batch, threads] = prepare(self._graph, self._layers, batch, threads)
        return prepared


def _parts(workers: list[Prepared]) -> "Parts":
    from gossamer.engine.parts import Parts  # needs Numba, which compiled the workers

    return Parts(workers)


def _array(name: str, x: Any) -> np.ndarray:
    if not hasattr(x, "detach"):
        return np.asarray(x)
    try:
        return x.detach().cpu().numpy()
    except TypeError as error:  # NumPy has no bfloat16
        raise InputError(f"input {name!r} is {x.dtype}, which the engine does not take: convert it") from error


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

    def __init__(self, call: Callable[..., Any], report: Report, reason: str) -> None:
        self._call, self._report, self.reason = call, report, reason

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the model's output."""
        import torch

        with torch.no_grad():
            return self._call(*inputs, **named)

    def report(self) -> Report:
        """Return a list of `LayerRow`, which prints as a table."""
        return self._report

    def save(self, path: str | Path) -> None:
        """Raise InputError: code is never stored."""
        raise InputError(
            f"the model stays PyTorch code ({self.reason}) and cannot be saved: engines are stored without code"
        )


def build(graph: Graph, batch: int, make_dense: Any = None) -> Engine:
    """Choose the layers of a folded graph by measuring them at this batch size, and return the engine.

    They are measured on no more inputs than the engine takes at a time.
    """
    layers, report = choose(graph, min(batch, most_together(graph)), make_dense)
    engine = Engine(graph, layers, report)
    engine._batch = batch
    return engine
