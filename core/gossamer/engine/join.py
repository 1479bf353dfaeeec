"""Sums of two 1×1 convolutions as one convolution of joined inputs: w·x + v·z = [w v]·[x; z].

Residual networks add a block's last convolution to one of its input where the block changes the number of channels.
As one, neither writes a large result for the other to read.
"""

import numpy as np

from gossamer.engine.graph import Graph, unused
from gossamer.engine.node import Node

_PIXEL = {"padding": [0, 0], "dilation": [1, 1], "groups": 1}


def join_sums(graph: Graph) -> Graph:
    """Rewrite the graph in place and return it."""
    made = {node.name: node for node in graph.nodes}
    readers, outputs = graph.readers(), graph.outputs()
    nodes: list[Node] = []
    for node in graph.nodes:
        other = made.get(node.inputs[1]) if node.operation == "conv2d" and len(node.inputs) == 2 else None
        alone = other and len(readers[other.name]) == 1 and other.name not in outputs
        if other and alone and _is_pointwise(graph, node) and _is_pointwise(graph, other) and not _does_more(other):
            nodes += _joined(graph, node, other)
        else:
            nodes.append(node)
    graph.nodes = nodes
    graph.prune()
    return graph


def _is_pointwise(graph: Graph, node: Node) -> bool:
    plain = node.operation == "conv2d" and all(node.attributes[name] == value for name, value in _PIXEL.items())
    return plain and graph.tensors[node.tensors["weight"]].shape[2:] == (1, 1)


def _does_more(node: Node) -> bool:
    return len(node.inputs) > 1 or node.attributes["activation"] is not None


def _joined(graph: Graph, node: Node, other: Node) -> list[Node]:
    """Return the nodes that join the inputs, and the convolution of what they join."""
    name = f"{node.name}.joined"
    nodes, parts = [], []
    for k, part in enumerate((node, other)):
        parts.append(part.inputs[0])
        if part.attributes["stride"] != [1, 1]:  # every so many pixels, as a pool of single pixels takes them
            window = {"kernel": [1, 1], "stride": part.attributes["stride"], "padding": [0, 0], "dilation": [1, 1]}
            nodes.append(Node("max_pool2d", f"{name}.{k}", [parts.pop()], {}, window | {"ceil": False}, part.layer))
            parts.append(nodes[-1].name)
    nodes.append(Node("concat", name, parts, {}, {"axis": 1}, node.layer))
    weights = [graph.tensors[part.tensors["weight"]] for part in (node, other)]
    biases = [graph.tensors[part.tensors["bias"]] for part in (node, other) if "bias" in part.tensors]
    joined = {"weight": np.concatenate(weights, axis=1)} | ({"bias": np.add.reduce(biases)} if biases else {})
    tensors = {role: unused(f"{name}.{role}", graph.tensors) for role in joined}
    graph.tensors |= {tensors[role]: tensor for role, tensor in joined.items()}
    attributes = node.attributes | {"stride": [1, 1]}
    nodes.append(Node("conv2d", node.name, [name], tensors, attributes, f"{node.layer} + {other.layer}"))
    return nodes
