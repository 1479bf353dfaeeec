"""Rewriting what works on (batch, rows, columns, channels) to channels first, where the kernels are at home.

ConvNeXt permutes its images for a layer norm and two linear maps over the last axis, and back. Between the two
permutations, the norm becomes one over axis 1 and each linear map a 1×1 convolution.
"""

import numpy as np

from gossamer.engine.fold import rename
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import Shape

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def move_channels_first(graph: Graph) -> Graph:
    """Rewrite the graph in place and return it."""
    shapes = graph.shapes(2)
    first: dict[str, str] = {}  # channels-last value -> the same with channels first
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        known = all(name in first for name in node.inputs)
        moved = None
        if node.operation == "permute" and node.attributes["axes"] == _LAST:
            first[node.name] = node.inputs[0]
        elif node.operation == "permute" and node.attributes["axes"] == _FIRST and known:
            renamed[node.name] = first[node.inputs[0]]
        elif known:
            moved = _moved(graph, shapes, node, [first[name] for name in node.inputs])
        if moved is None:
            nodes.append(node)
        else:
            first[node.name] = moved.name
            nodes += [moved, Node("permute", node.name, [moved.name], {}, {"axes": _LAST}, node.layer)]
    graph.nodes = nodes
    rename(graph, renamed)
    graph.prune()
    return graph


def _moved(graph: Graph, shapes: dict[str, Shape], node: Node, inputs: list[str]) -> Node | None:
    """Return the node's equivalent on channels-first inputs, or None."""
    attributes, tensors = dict(node.attributes), dict(node.tensors)
    match node.operation:
        case "linear":
            name = tensors["weight"] + ".1x1"
            graph.tensors[name] = graph.tensors[tensors["weight"]][:, :, None, None]
            tensors["weight"] = name
            attributes |= {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
            return Node("conv2d", node.name + ".first", inputs, tensors, attributes, node.layer)
        case "layer_norm" if attributes["axes"] == [3]:
            return Node("layer_norm", node.name + ".first", inputs, tensors, attributes | {"axes": [1]}, node.layer)
        case "activation":
            return Node("activation", node.name + ".first", inputs, tensors, attributes, node.layer)
        case "binary" if all(shapes[name] == shapes[node.inputs[0]] for name in node.inputs):
            if "other" in tensors:
                other = graph.tensors[tensors["other"]]
                if other.size > 1 and other.shape != (shapes[node.inputs[0]][-1],):
                    return None
                tensors["other"] += ".first"
                graph.tensors[tensors["other"]] = np.reshape(other, (-1, 1, 1))
            return Node("binary", node.name + ".first", inputs, tensors, attributes, node.layer)
    return None
