"""Sequences of tokens: their embeddings, places along a sequence, and what all inputs of a batch have alike."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import compiled
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    each,
    integers,
    is_size,
    is_tensor,
    require,
    same_kind,
)
from gossamer.errors import InputError

# Embeddings ---------------------------------------------------------------------------------------------------------


def _embedding_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(tensors["weight"]) == 2, f"weight {tensors['weight']}")
    return (*inputs[0], tensors["weight"][1])


def embedding(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y[n, t] = weight[x[n, t]]`. Raises InputError for a number that is no row of the weight."""
    ids, weight = inputs[0], tensors["weight"]
    least, most = ids.min(initial=0), ids.max(initial=0)
    if least < 0 or most >= len(weight):
        wrong = least if least < 0 else most
        raise InputError(f"an input holds {wrong}, but the embedding has rows 0 to {len(weight) - 1}")
    return weight[ids]


def _embedding_onnx(w: Writer, node: Node) -> None:
    w.emit("Gather", [w.tensor(node, "weight"), node.inputs[0]], node.name, axis=0)


def _embedding_kind(kinds: list[str], attributes: dict[str, Any]) -> str | None:
    return "float32" if kinds[0] in ("int64", "int32") else None


def _capture_embedding(call: Call) -> str:
    return call.emit("embedding", [call["indices"]], {"weight": call["weight"]})


EMBEDDING = Operation(
    tensors=("weight",),
    shape=_embedding_shape,
    run=embedding,
    onnx=_embedding_onnx,
    captures={"embedding": _capture_embedding},
    kind=_embedding_kind,
)

# Places along an axis -----------------------------------------------------------------------------------------------


def _take_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    axis, places = attributes["axis"], attributes["places"]
    require(axis < len(inputs[0]) and max(places, default=0) < inputs[0][axis], f"places {places} of {inputs[0]}")
    return (*inputs[0][:axis], len(places), *inputs[0][axis + 1 :])


def take(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The values at these places along the axis."""
    return inputs[0].take(attributes["places"], attributes["axis"])


def _take_onnx(w: Writer, node: Node) -> None:
    places = w.constant(node.attributes["places"], node.name + ".places", np.int64)
    w.emit("Gather", [node.inputs[0], places], node.name, axis=node.attributes["axis"])


def _capture_index(call: Call) -> str:
    """x[batch, places] with every input's own number first, or x[:, places]: the same places of every input."""
    x, indices = call["self"], call["indices"]
    first, places = indices[0], indices[1] if len(indices) == 2 else None
    whole = first is None or (hasattr(first, "is_batch_index") and first.is_batch_index())
    if not isinstance(x, str) or not whole or not is_tensor(places) or places.is_floating_point():
        raise NotCapturedError("an index that is computed")
    size = call.shape[1]
    y = _taken(call, x, 1, [int(place) % size for place in places.flatten()])
    return call.emit("reshape", [y], shape=call.sizes)


def _capture_index_select(call: Call) -> str:
    """x.index_select(axis, places): the same places of every input."""
    axis, places = call["dim"] % len(call.shape), call["index"]
    if axis == 0 or not is_tensor(places):
        raise NotCapturedError("places that are computed, or of the batch")
    return _taken(call, call["self"], axis, places.tolist())


def _taken(call: Call, x: Any, axis: int, places: list[int]) -> str:
    """The values at these places, as a slice where each is the next one's neighbour."""
    start, stop = places[0] if places else 0, places[-1] + 1 if places else 0
    if places == list(range(start, stop)):
        return call.emit("slice", [x], axis=axis, start=start, stop=stop, step=1)
    return call.emit("take", [x], axis=axis, places=places)


def _bind_take(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    axis, places = attributes["axis"], attributes["places"]
    if not places:
        return None
    before = (slice(None),) * axis
    parts = [inputs[0][(*before, slice(place, place + 1))] for place in places]
    return compiled.copying(*zip(np.split(out, len(places), axis), parts, strict=True))


TAKE = Operation(
    attributes={"axis": is_size, "places": each(is_size)},
    shape=_take_shape,
    run=take,
    onnx=_take_onnx,
    captures={"index": _capture_index, "index_select": _capture_index_select},
    kind=same_kind,
    bind=_bind_take,
)

# The same for every input -------------------------------------------------------------------------------------------


def _broadcast_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(tensors["value"][:1] == (1,), f"value {tensors['value']}")
    return (inputs[0][0], *tensors["value"][1:])


def broadcast(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """A constant of batch size 1, repeated for every input of the batch."""
    return np.broadcast_to(tensors["value"], (len(inputs[0]), *tensors["value"].shape[1:]))


def _broadcast_onnx(w: Writer, node: Node) -> None:
    batch = w.emit("Shape", [node.inputs[0]], node.name + ".batch", start=0, end=1)
    rest = w.constant(w.shapes[node.name][1:], node.name + ".rest", np.int64)
    shape = w.emit("Concat", [batch, rest], node.name + ".shape", axis=0)
    w.emit("Expand", [w.tensor(node, "value"), shape], node.name)


def _broadcast_kind(kinds: list[str], attributes: dict[str, Any]) -> str | None:
    return "float32"


BROADCAST = Operation(
    tensors=("value",),
    shape=_broadcast_shape,
    run=broadcast,
    onnx=_broadcast_onnx,
    captures={},  # `Call.everywhere` makes it
    kind=_broadcast_kind,
)


def _expand_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    shape = attributes["shape"]
    require(len(shape) >= 1 and shape[0] == -1, f"shape {shape}")
    return np.broadcast_shapes(inputs[0], (inputs[0][0], *shape[1:]))


def expand(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The input repeated along axes of size 1; the first size is -1, the batch."""
    return np.broadcast_to(inputs[0], (len(inputs[0]), *attributes["shape"][1:]))


def _expand_onnx(w: Writer, node: Node) -> None:
    shape = w.constant([1, *w.shapes[node.name][1:]], node.name + ".shape", np.int64)
    w.emit("Expand", [node.inputs[0], shape], node.name)


def _capture_expand(call: Call) -> str:
    sizes = call.sizes
    if sizes[0] != -1 or len(sizes) != len(call.shape) or isinstance(call.shape[0], int):
        raise NotCapturedError("an expansion of the batch")
    return call.emit("expand", [call["self"]], shape=sizes)


EXPAND = Operation(
    attributes={"shape": integers},
    shape=_expand_shape,
    run=expand,
    onnx=_expand_onnx,
    captures={"expand": _capture_expand},
    kind=same_kind,
)
