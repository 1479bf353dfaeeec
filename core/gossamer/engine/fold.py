"""Rewriting the graph: batch norms into weights, activations and residual additions into what makes their input."""

import math
from collections.abc import Callable

import numpy as np

from gossamer.engine.graph import Graph, unused
from gossamer.engine.graph import renamed as renamed_template
from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS, Shape

FUSING = {name for name, operation in OPERATIONS.items() if operation.fuses}
"""Operations that can add a second input and apply an activation to their result."""


def fold(graph: Graph) -> Graph:
    """Rewrite the graph in place into fewer, larger nodes with the same results, and return it."""
    shapes = graph.shapes(2)
    _drop_identities(graph, shapes)
    _find_padding(graph)
    _find_shuffles(graph)
    _find_gelus(graph)
    _find_root_norms(graph, shapes)
    _find_scalings(graph, shapes)
    _merge(graph, shapes, _fold_scaling)
    _merge(graph, shapes, _fuse_addition)
    _merge(graph, shapes, _fuse_activation)
    graph.prune()
    return graph


def rename(graph: Graph, renamed: dict[str, str]) -> None:
    """Let every reader of a value read another one in its place."""

    def final(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in graph.nodes:
        node.inputs = [final(name) for name in node.inputs]
    graph.output = renamed_template(graph.output, final)


def _drop_identities(graph: Graph, shapes: dict[str, Shape]) -> None:
    """Remove operations that change nothing; write global pooling as a mean."""
    for node in graph.nodes:
        if node.operation == "adaptive_avg_pool2d" and node.attributes["size"] == [1, 1]:
            node.operation, node.attributes = "mean", {"axes": [2, 3], "keep": True}
    same = {"adaptive_avg_pool2d", "reshape", "slice", "pad"}
    graph_inputs = set(graph.inputs)
    renamed = {
        node.name: node.inputs[0]
        for node in graph.nodes
        if node.operation in same and shapes[node.name] == shapes[node.inputs[0]] and node.inputs[0] not in graph_inputs
    }
    rename(graph, renamed)
    graph.prune()


def _find_padding(graph: Graph) -> None:
    """Let convolutions add the zeros that a node before them puts around their images evenly."""
    made = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        before = made.get(node.inputs[0]) if node.operation == "conv2d" else None
        if before and before.operation == "pad" and before.attributes["value"] == 0:
            widths = before.attributes["widths"]
            if widths[:2] == [[0, 0], [0, 0]] and all(one == other for one, other in widths[2:]):
                added = [one for one, _ in widths[2:]]
                padding = [p + more for p, more in zip(node.attributes["padding"], added, strict=True)]
                node.inputs[0], node.attributes["padding"] = before.inputs[0], padding
    graph.prune()


def _find_shuffles(graph: Graph) -> None:
    """Write (batch, groups, channels, ...) transposed and flattened again as one channel shuffle."""
    made = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        middle = made.get(node.inputs[0]) if node.operation == "reshape" else None
        first = made.get(middle.inputs[0]) if middle and middle.operation == "permute" else None
        if middle and first and first.operation == "reshape" and middle.attributes["axes"] == [0, 2, 1, 3, 4]:
            batch, groups, channels, *size = first.attributes["shape"]
            if batch == -1 and node.attributes["shape"] == [-1, groups * channels, *size]:
                node.operation, node.inputs, node.attributes = "channel_shuffle", list(first.inputs), {"groups": groups}
    graph.prune()


def _find_gelus(graph: Graph) -> None:
    """Write x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), as GPT-2 does it, as one activation."""
    made = {node.name: node for node in graph.nodes}

    def operand(name: str | None, function: str, number: float) -> str | None:
        """The x of `x function number`."""
        node = made.get(name or "")
        if (
            node is None
            or node.operation != "binary"
            or len(node.inputs) != 1
            or node.attributes["function"] != function
        ):
            return None
        other = graph.tensors[node.tensors["other"]]
        return node.inputs[0] if other.size == 1 and abs(float(other.reshape(-1)[0]) - number) < 1e-6 else None

    def operands(name: str | None, function: str) -> list[str]:
        node = made.get(name or "")
        two = node is not None and node.operation == "binary" and len(node.inputs) == 2
        return node.inputs if node and two and node.attributes["function"] == function else ["", ""]

    for node in graph.nodes:
        half, one = operands(node.name, "multiply")
        x, bent = operand(half, "multiply", 0.5), operand(one, "add", 1.0)
        bend = made.get(bent or "")
        if not x or bend is None or bend.operation != "activation" or bend.attributes["activation"] != {"name": "tanh"}:
            continue
        first, more = operands(operand(bend.inputs[0], "multiply", math.sqrt(2 / math.pi)), "add")
        square, last = operands(operand(more, "multiply", 0.044715), "multiply")
        if first == last == x and operands(square, "multiply") == [x, x]:
            node.operation, node.inputs, node.attributes = "activation", [x], {"activation": {"name": "gelu_tanh"}}
    graph.prune()


def _find_root_norms(graph: Graph, shapes: dict[str, Shape]) -> None:
    """Write x / √(mean of x² + ε) · weight over the last axis, as Llama does it, as one norm."""
    made = {node.name: node for node in graph.nodes}

    def before(name: str, operation: str, function: str | None = None) -> Node | None:
        node = made.get(name)
        fits = node and node.operation == operation and node.attributes.get("activation") is None
        return node if node and fits and function in (None, node.attributes.get("function")) else None

    for node in graph.nodes:
        scaled = before(node.inputs[0], "binary", "multiply") if before(node.name, "binary", "multiply") else None
        if scaled is None or len(scaled.inputs) != 2 or "other" not in node.tensors:
            continue
        x, last = scaled.inputs[0], len(shapes[scaled.inputs[0]]) - 1
        root = before(scaled.inputs[1], "unary", "rsqrt")
        more = before(root.inputs[0], "binary", "add") if root else None
        mean = before(more.inputs[0], "mean") if more and len(more.inputs) == 1 else None
        square = before(mean.inputs[0], "binary", "multiply") if mean else None
        if not more or not mean or not square or square.inputs != [x, x]:
            continue
        epsilon, over = graph.tensors[more.tensors["other"]], mean.attributes["axes"] == [last]
        if over and epsilon.size == 1 and graph.tensors[node.tensors["other"]].shape == shapes[x][-1:]:
            node.operation, node.inputs, node.tensors = "rms_norm", [x], {"weight": node.tensors["other"]}
            node.attributes = {"axes": [last], "epsilon": float(epsilon.reshape(-1)[0])}
    graph.prune()


def _find_scalings(graph: Graph, shapes: dict[str, Shape]) -> None:
    """Write sums and products with one constant per channel as scalings."""
    for node in graph.nodes:
        shape = shapes[node.inputs[0]] if node.inputs else ()
        if (
            node.operation != "binary"
            or len(node.inputs) != 1
            or len(shape) not in (2, 4)
            or shapes[node.name] != shape
        ):
            continue
        other = graph.tensors[node.tensors["other"]]
        channels = list(shape)[1]
        if other.size > 1 and other.shape != (channels,) + (1,) * (len(shape) - 2):
            continue
        other = np.broadcast_to(other.reshape(-1), (channels,))
        function, plain = node.attributes["function"], np.ones(channels, np.float32)
        scale = {"multiply": other, "divide": 1 / other if function == "divide" else plain}.get(function, plain)
        shift = {"add": other, "subtract": -other}.get(function, np.zeros(channels, np.float32))
        node.operation, node.attributes = "scale_shift", {"activation": node.attributes["activation"]}
        node.tensors = {role: unused(f"{node.name}.{role}", graph.tensors) for role in ("scale", "shift")}
        graph.tensors[node.tensors["scale"]] = scale.astype(np.float32)
        graph.tensors[node.tensors["shift"]] = shift.astype(np.float32)


def _merge(graph: Graph, shapes: dict[str, Shape], rewrite: Callable[..., bool]) -> None:
    """Merge nodes into the producer of an input where `rewrite(graph, shapes, producer, node, others)` does so.

    `others` are the node's further inputs; only a producer whose value nobody else reads is offered.
    """
    made = {node.name: node for node in graph.nodes}
    readers = graph.readers()
    outputs = set(graph.outputs())
    renamed: dict[str, str] = {}
    kept: dict[str, Node] = {}
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        places = {name: place for place, name in enumerate(kept)} if len(node.inputs) > 1 else {}
        for name in sorted(set(node.inputs), key=lambda name: -places.get(name, -1)):  # the latest made first
            producer = made.get(name)
            others = [other for other in node.inputs if other != name]
            if producer is None or len(readers[name]) != 1 or name in outputs or len(others) != len(node.inputs) - 1:
                continue
            if rewrite(graph, shapes, producer, node, others):
                kept[name] = kept.pop(name)  # at the end, for it may now read what was made after it
                renamed[node.name] = name
                readers[name] = readers[node.name]
                if node.name in outputs:
                    outputs.add(name)
                break
        else:
            kept[node.name] = node
    graph.nodes = list(kept.values())
    rename(graph, renamed)


def _is_plain(node: Node) -> bool:
    return node.operation in FUSING and node.attributes["activation"] is None and len(node.inputs) == 1


def _fold_scaling(graph: Graph, shapes: dict, producer: Node, node: Node, others: list[str]) -> bool:
    """scale * (w * x + b) + shift = (scale w) * x + (scale b + shift)."""
    if node.operation != "scale_shift" or others or not _is_plain(producer):
        return False
    if producer.operation == "linear" and len(shapes[producer.name]) != 2:
        return False
    weight_role, bias_role = ("scale", "shift") if producer.operation == "scale_shift" else ("weight", "bias")
    scale, shift = (graph.tensors[node.tensors[role]].astype(np.float64) for role in ("scale", "shift"))
    weight = graph.tensors[producer.tensors[weight_role]]
    if bias_role in producer.tensors:
        shift = shift + scale * graph.tensors[producer.tensors[bias_role]]
    replace_tensor(graph, producer, weight_role, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    replace_tensor(graph, producer, bias_role, shift)
    producer.attributes["activation"] = node.attributes["activation"]
    return True


def replace_tensor(graph: Graph, node: Node, role: str, value: np.ndarray) -> None:
    """Give the node a tensor of its own in this role, under the old name if no other node reads that one."""
    name = node.tensors.get(role)
    if name is None or sum(name in other.tensors.values() for other in graph.nodes) > 1:
        name = unused(f"{node.name}.{role}", graph.tensors)
    node.tensors = node.tensors | {role: name}
    graph.tensors[name] = value.astype(np.float32)


def _fuse_addition(graph: Graph, shapes: dict, producer: Node, node: Node, others: list[str]) -> bool:
    if (
        node.operation != "binary"
        or node.attributes["function"] != "add"
        or len(others) != 1
        or not _is_plain(producer)
    ):
        return False
    if shapes[producer.name] != shapes[others[0]]:
        return False
    producer.inputs.append(others[0])
    producer.attributes["activation"] = node.attributes["activation"]
    return True


def _fuse_activation(graph: Graph, shapes: dict, producer: Node, node: Node, others: list[str]) -> bool:
    takes = producer.operation in (*FUSING, "binary") and producer.attributes["activation"] is None
    if node.operation != "activation" or not takes:
        return False
    producer.attributes["activation"] = node.attributes["activation"]
    return True
