"""The engine's graph: a list of nodes from a fixed list of operations, and the tensors that they read."""

from collections.abc import Container
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np

from gossamer.engine.operations import OPERATIONS
from gossamer.errors import InputError

Shape = tuple[int, ...]


@dataclass
class Node:
    """One operation: it reads the values `inputs` and the constant `tensors` (role -> name) and makes the value `name`.

    `layer` is the module that it came from, for the report. An operation "torch" holds a callable in `attributes`.
    """

    operation: str
    name: str
    inputs: list[str]
    tensors: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: str = ""


@dataclass
class Graph:
    """A program in topological order.

    `inputs` maps each input's name to its shape without the batch dimension, which comes first and stays open.
    `output` is the name of a value, or a list, tuple or dict of such templates.
    """

    inputs: dict[str, Shape]
    nodes: list[Node]
    tensors: dict[str, np.ndarray]
    output: Any

    def outputs(self) -> list[str]:
        """Return the names of the values that are returned, in order, each once."""
        return list(dict.fromkeys(_leaves(self.output)))

    def readers(self) -> dict[str, list[Node]]:
        """Return, for every value, the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in self.inputs}
        for node in self.nodes:
            found[node.name] = []
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def shapes(self, batch: int) -> dict[str, Shape]:
        """Return the shape of every value at this batch size, checking that all of them fit.

        Raises InputError naming the node whose inputs, tensors or attributes do not fit.
        """
        shapes: dict[str, Shape] = {name: (batch, *shape) for name, shape in self.inputs.items()}
        for node in self.nodes:
            if node.operation == "torch":
                shapes[node.name] = node.attributes["shape"](batch)
                continue
            operation = OPERATIONS.get(node.operation)
            if operation is None:
                raise InputError(
                    f"operation {node.operation!r} of node {node.name!r} is unknown; known: {', '.join(OPERATIONS)}"
                )
            try:
                inputs = [shapes[name] for name in node.inputs]
                tensors = {role: self.tensors[name].shape for role, name in node.tensors.items()}
                shapes[node.name] = operation.infer(inputs, tensors, node.attributes)
            except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                raise InputError(f"node {node.name!r} ({node.operation}) does not fit its inputs: {error!r}") from error
        for name in self.outputs():
            if name not in shapes:
                raise InputError(f"the output {name!r} is not among the graph's values")
        return shapes

    def prune(self) -> None:
        """Drop the nodes and tensors that no output needs."""
        needed = set(self.outputs())
        kept = []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        used = {name for node in self.nodes for name in node.tensors.values()}
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}


def unused(name: str, taken: Container[str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    return next(new for new in chain([name], (f"{name}.{n}" for n in count(2))) if new not in taken)


def _leaves(template: Any) -> list[str]:
    if isinstance(template, str):
        return [template]
    parts = template.values() if isinstance(template, dict) else template
    return [leaf for part in parts for leaf in _leaves(part)]


def fill(template: Any, values: dict[str, Any]) -> Any:
    """Return the output template with each name replaced by its value."""
    if isinstance(template, str):
        return values[template]
    if isinstance(template, dict):
        return {key: fill(part, values) for key, part in template.items()}
    return type(template)(fill(part, values) for part in template)


def interpret(graph: Graph, *inputs: np.ndarray) -> Any:
    """Run the graph with the plain NumPy references: the oracle of the engine."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        if node.operation == "torch":
            values[node.name] = node.attributes["call"](*arrays)
        else:
            tensors = {role: graph.tensors[name] for role, name in node.tensors.items()}
            values[node.name] = OPERATIONS[node.operation].run(arrays, tensors, node.attributes)
    return fill(graph.output, values)
