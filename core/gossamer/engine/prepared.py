"""A graph bound to buffers for one batch size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer import kernels
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.plan import plan
from gossamer.engine.steps import LAYERS, Layer, Step, bind, bind_layer, bind_torch

try:
    from gossamer.kernels.tasks import Program
except ImportError:  # no Numba: all steps are Python's
    Program: Any = None


@dataclass(frozen=True)
class Prepared:
    """A graph's steps, in order, on its values' memory; neighbouring steps that are compiled are one."""

    inputs: list[np.ndarray]
    nodes: list[Node]
    steps: list[Step]
    outputs: dict[str, np.ndarray]

    def run(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return copies of the outputs for these inputs."""
        for target, array in zip(self.inputs, arrays, strict=True):
            np.copyto(target, array)
        for step in self.steps:
            step()
        return {name: value.copy() for name, value in self.outputs.items()}


def prepare(graph: Graph, layers: dict[str, Layer], batch: int, threads: int) -> Prepared:
    """Plan the memory for a batch size and bind every node to it."""
    values, scratch = plan(graph, batch), kernels.Scratch()
    nodes: list[Node] = []
    steps: list[Step] = []
    for node in graph.nodes:
        if node.operation in LAYERS:
            step = bind_layer(node, graph, layers[node.name], values, threads, scratch)
        elif node.operation == "torch":
            step = bind_torch(node, values, batch)
        else:
            step = bind(node, graph, values)
        if step is not None:
            nodes.append(node)
            steps.append(step)
    outputs = {name: values[name] for name in graph.outputs()}
    return Prepared([values[name] for name in graph.inputs], nodes, _joined(steps, threads), outputs)


def is_compiled(step: Step) -> bool:
    """Say whether a step is a program of the kernels."""
    return Program is not None and isinstance(step, Program)


def _joined(steps: list[Step], threads: int) -> list[Step]:
    """Return the steps with every run of programs as one program, so that threads hand over but once."""
    joined: list[Step] = []
    tasks: list[Any] = []
    beside_torch = not all(map(is_compiled, steps))
    for step in [*steps, None]:
        if step is not None and is_compiled(step):
            tasks += step.tasks  # pyright: ignore[reportFunctionMemberAccess]
            continue
        if tasks:
            joined.append(Program(tasks, threads, beside_torch))
            tasks = []
        if step is not None:
            joined.append(step)
    return joined
