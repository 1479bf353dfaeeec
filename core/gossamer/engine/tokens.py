"""Rewriting sequences of tokens, (batch, tokens, features), to images one row high, (batch, features, 1, tokens).

The sparse kernels have tokens in their vectors: a linear map of a sequence is a 1×1 convolution there. From one linear
map to the next, over norms, activations and sums, values stay as images, and none is transposed on its way.
"""

from collections.abc import Iterable

import numpy as np

from gossamer.engine.choice import SPARSE
from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.engine.operations import Shape

LEAST = 64
"""Tokens, some whole vectors of the widest processors, from which on a sequence is an image of its own."""
_HEADS = [0, 2, 1, 3]
_PIXEL = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}


def move_tokens_last(graph: Graph) -> Graph:
    """Rewrite the graph in place and return it."""
    return _Tokens(graph).graph


class _Tokens:
    """`images` maps values to the same as images, `heads` those of attentions, `made` all values to their nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, list[Node]()
        self.shapes, self.others = graph.shapes(2), graph.shapes(3)
        self.images: dict[str, str] = {}
        self.heads: dict[str, str] = {}  # of an attention, (batch, heads, tokens, size), to the image that has them
        self.masks: dict[tuple[str, int], str] = {}
        self.made: dict[str, Node] = {node.name: node for node in graph.nodes}
        for node in graph.nodes:
            self._take(node)
        graph.nodes = self.nodes
        graph.prune()

    def _take(self, node: Node) -> None:
        """Append the node as it is, or what it becomes."""
        heads = self._split(node) or self._attend(node)
        moved = None if heads else self._moved(node)
        if moved:
            _, tokens, features = self.shapes[node.name]
            self.images[node.name] = moved.name
            rows = self._emit("reshape", moved.name, f"{node.name}.rows", node.layer, shape=[-1, features, tokens])
            self._emit("permute", rows, node.name, node.layer, axes=[0, 2, 1])
        elif not heads:
            self.nodes.append(node)
            self._join(node)

    def _emit(self, operation: str, x: str, name: str, layer: str, **attributes: object) -> str:
        self.nodes.append(Node(operation, name, [x], {}, attributes, layer))
        return name

    def _is_sequence(self, name: str) -> bool:
        shape, other = self.shapes[name], self.others[name]
        return len(shape) == 3 and shape[1] >= LEAST and (shape[0], other[0]) == (2, 3) and shape[1:] == other[1:]

    def _image(self, name: str, layer: str) -> str:
        """Return a sequence as an image, made from it where none is known."""
        if name not in self.images:
            _, tokens, features = self.shapes[name]
            columns = self._emit("permute", name, f"{name}.columns", layer, axes=[0, 2, 1])
            shape = [-1, features, 1, tokens]
            self.images[name] = self._emit("reshape", columns, f"{name}.image", layer, shape=shape)
        return self.images[name]

    def _moved(self, node: Node) -> Node | None:
        """Append and return the node's equivalent on images, or None."""
        if node.operation not in ("linear", "layer_norm", "rms_norm", "activation", "binary") or not self._is_sequence(
            node.name
        ):
            return None
        attributes, tensors, operation = dict(node.attributes), dict(node.tensors), node.operation
        if operation == "linear":
            weight = self.graph.tensors[tensors["weight"]]
            if np.count_nonzero(weight) >= SPARSE * weight.size or not all(map(self._is_sequence, node.inputs)):
                return None
            tensors["weight"] += ".1x1"
            self.graph.tensors[tensors["weight"]] = weight[:, :, None, None]
            operation, attributes = "conv2d", attributes | _PIXEL
        elif not self._are_images(node.inputs, self.shapes[node.name]) or "other" in tensors:
            return None
        elif operation in ("layer_norm", "rms_norm"):
            if attributes["axes"] != [2]:
                return None
            attributes["axes"] = [1]
        inputs = [self._image(name, node.layer) for name in node.inputs]
        self.nodes.append(Node(operation, f"{node.name}.image", inputs, tensors, attributes, node.layer))
        return self.nodes[-1]

    def _are_images(self, names: Iterable[str], shape: Shape) -> bool:
        return all(name in self.images and self.shapes[name] == shape for name in names)

    def _split(self, node: Node) -> bool:
        """Take the heads of an attention, (batch, heads, tokens, size), from an image."""
        before = self.made.get(node.inputs[0]) if node.operation == "permute" else None
        if not before or before.operation != "reshape" or before.inputs[0] not in self.images:
            return False
        shape, whole = self.shapes[before.name], self.shapes[before.inputs[0]]
        if node.attributes["axes"] != _HEADS or len(shape) != 4 or shape[1] != whole[1]:
            return False
        self._heads(node, self.images[before.inputs[0]])
        return True

    def _heads(self, node: Node, image: str) -> None:
        """Take a node's value from the image that has its heads."""
        _, heads, tokens, size = self.shapes[node.name]
        self.heads[node.name] = image
        apart = self._emit("reshape", image, f"{node.name}.heads", node.layer, shape=[-1, heads, size, tokens])
        self._emit("permute", apart, node.name, node.layer, axes=[0, 1, 3, 2])

    def _attend(self, node: Node) -> bool:
        """Let an attention whose heads are in images make one."""
        if node.operation != "attention" or not all(name in self.heads for name in node.inputs[:3]):
            return False
        queries, keys, values = (self.shapes[name] for name in node.inputs[:3])
        if keys != values or len(node.inputs) + len(node.tensors) > 4:
            return False
        masks, tensors = [self._turned(name, queries[2], node.layer) for name in node.inputs[3:]], dict(node.tensors)
        if "mask" in tensors:
            mask = self.graph.tensors[tensors["mask"]]
            shape = (*([1] * (4 - mask.ndim)), *mask.shape)
            mask = np.broadcast_to(mask.reshape(shape), (*shape[:2], queries[2], keys[2]))
            tensors["mask"] += ".turned"
            self.graph.tensors[tensors["mask"]] = np.ascontiguousarray(mask.swapaxes(2, 3))
        inputs = [*(self.heads[name] for name in node.inputs[:3]), *masks]
        attributes = node.attributes | {"heads": queries[1], "groups": keys[1]}
        self.nodes.append(Node("attend", f"{node.name}.image", inputs, tensors, attributes, node.layer))
        self._heads(node, f"{node.name}.image")
        return True

    def _turned(self, mask: str, queries: int, layer: str) -> str:
        """Return a mask as an attention of images adds it."""
        if (mask, queries) not in self.masks:
            name = f"{mask}.turned{queries}"
            self.masks[mask, queries] = self._emit("turned_mask", mask, name, layer, queries=queries)
        return self.masks[mask, queries]

    def _join(self, node: Node) -> None:
        """Make an image of the heads that a node joins to a sequence again."""
        before = self.made.get(node.inputs[0]) if node.operation == "reshape" and node.inputs else None
        if not before or before.operation != "permute" or before.attributes["axes"] != _HEADS:
            return
        if not self._is_sequence(node.name) or self.shapes[before.name][1] != self.shapes[node.name][1]:
            return
        _, tokens, features = self.shapes[node.name]
        if before.inputs[0] in self.heads:
            self.images[node.name] = self.heads[before.inputs[0]]
            return
        turned = self._emit("permute", before.inputs[0], f"{node.name}.turned", node.layer, axes=[0, 1, 3, 2])
        shape = [-1, features, 1, tokens]
        self.images[node.name] = self._emit("reshape", turned, f"{node.name}.image", node.layer, shape=shape)
