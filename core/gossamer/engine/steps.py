"""From a node and the arrays that it reads and writes to a call without arguments."""

import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from gossamer import kernels
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS, Shape
from gossamer.engine.operations.compiled import Program, copying

LAYERS = {name for name, operation in OPERATIONS.items() if operation.layer}
"""The operations whose weights are prepared, and chosen by measuring."""
Step = Callable[[], Any]
"""A call without arguments: a `kernels.tasks.Program`, whose tasks several threads may do, or anything in Python."""


class Layer(Protocol):
    """A convolution or linear map with its weights prepared, by `gossamer.kernels` or by `engine.dense` (torch)."""

    pattern: str

    @property
    def bytes(self) -> int:
        """The memory of its weights."""
        ...

    def bind(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None, *, threads: int = 1) -> Step:
        """Return the call that sets out to activation(layer(x) + bias + residual)."""
        ...


def is_matrix(node: Node, graph: Graph, shape: Shape) -> bool:
    """Say whether this layer is a matrix product: a linear map, or a 1×1 convolution of single pixels."""
    if node.operation == "linear":
        return True
    a, kernel = node.attributes, graph.tensors[node.tensors["weight"]].shape[2:]
    return a["groups"] == 1 and a["stride"] == [1, 1] and a["padding"] == [0, 0] and kernel == shape[2:] == (1, 1)


def bind_layer(
    node: Node,
    graph: Graph,
    layer: Layer,
    values: dict[str, np.ndarray],
    threads: int,
    scratch: kernels.Scratch | None = None,
) -> Step:
    """Return the call that runs a convolution or linear map, on scratch memory that steps in turn may share."""
    x, out = values[node.inputs[0]], values[node.name]
    residual = values[node.inputs[1]] if len(node.inputs) > 1 else None
    if not is_matrix(node, graph, x.shape):
        return layer.bind(x, out, residual, threads=threads)
    features, outputs = graph.tensors[node.tensors["weight"]].shape[1::-1]
    rows, result = x.reshape(-1, features), out.reshape(-1, outputs)
    added = None if residual is None else residual.reshape(-1, outputs)
    more: dict[str, Any] = {"scratch": scratch} if isinstance(layer, kernels.Linear) else {}
    step = layer.bind(rows, result, added, threads=threads, **more)
    into = [(rows, x)] if residual is None or added is None else [(rows, x), (added, residual)]
    before = copying(*[(part.reshape(whole.shape), whole) for part, whole in into if not _same_memory(part, whole)])
    after = None if _same_memory(result, out) else copying((out, result.reshape(out.shape)))
    return _in_turn([one for one in (before, step, after) if one is not None], threads)


def _same_memory(part: np.ndarray, whole: np.ndarray) -> bool:
    """Say whether an array in another shape is a view: where there are gaps between an image's planes, it is a copy."""
    return np.may_share_memory(part, whole)


def _in_turn(steps: list[Step], threads: int) -> Step:
    """Return the call that does these one after another."""
    if len(steps) == 1:
        return steps[0]
    if Program is not None and all(isinstance(step, Program) for step in steps):
        return Program([task for step in steps for task in step.tasks], threads)  # type: ignore[attr-defined]

    def call() -> None:
        for step in steps:
            step()

    return call


def bind_torch(node: Node, values: dict[str, np.ndarray], batch: int) -> Step:
    """Return the call that runs a node of the operation "torch", which sees the same memory."""
    import torch

    call, target = node.attributes["bind"](batch), torch.from_numpy(values[node.name])
    sources = [torch.from_numpy(values[name]) for name in node.inputs]

    def run() -> None:
        with torch.no_grad():
            target.copy_(call(*sources))

    return run


def bind(node: Node, graph: Graph, values: dict[str, np.ndarray]) -> Step | None:
    """Return the call that runs any other node of the list; None where there is nothing to do."""
    inputs, out = [values[name] for name in node.inputs], values[node.name]
    tensors = {role: graph.tensors[name] for role, name in node.tensors.items()}
    operation, attributes = OPERATIONS[node.operation], node.attributes
    if operation.bind is not None and all(x.dtype == np.float32 for x in (*inputs, out)):
        step = operation.bind(inputs, tensors, attributes, out)
        if step is not NotImplemented:
            return step
    torch = sys.modules.get("torch")
    if operation.torch is not None and torch is not None:
        return _by_torch(torch, operation.torch, inputs, tensors, attributes, out)
    run = operation.run

    def plain() -> None:
        out[...] = run(inputs, tensors, attributes)

    return plain


def _by_torch(
    torch: Any, run: Callable[..., Any], inputs: list[np.ndarray], tensors: dict, attributes: dict, out: np.ndarray
) -> Step:
    """Return the call that runs an operation's form in PyTorch, on the same memory."""
    sources, target = [torch.from_numpy(x) for x in inputs], torch.from_numpy(out)
    constants = {role: torch.from_numpy(tensor) for role, tensor in tensors.items()}

    def call() -> None:
        with torch.no_grad():
            target.copy_(run(torch, sources, constants, attributes))

    return call
