"""LSTM and GRU: the recurrence alone, for what the inputs add to the gates is a linear map of all steps at once."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    is_flag,
    is_tensor,
    require,
)
from gossamer.kernels import Activation

_sigmoid = Activation("sigmoid")


def _shape(gates: int) -> Any:
    def shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
        wide, size = tensors["weight"]
        require(
            len(inputs[0]) == 3 and inputs[0][2] == wide == gates * size, f"{inputs[0]}, weight {tensors['weight']}"
        )
        require(tensors.get("bias", (wide,)) == (wide,), f"bias {tensors.get('bias')}")
        return (*inputs[0][:2], size)

    return shape


def _steps(x: np.ndarray, reverse: bool) -> range:
    return range(x.shape[1] - 1, -1, -1) if reverse else range(x.shape[1])


def lstm(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """h of every step: i, f, g, o = x[t] + W h;  c = σ(f) c + σ(i) tanh(g);  h = σ(o) tanh(c)."""
    x, weight = inputs[0], tensors["weight"]
    h = c = np.zeros((len(x), weight.shape[1]), np.float32)
    y = np.empty((*x.shape[:2], weight.shape[1]), np.float32)
    for step in _steps(x, attributes["reverse"]):
        i, f, g, o = np.split(x[:, step] + h @ weight.T, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        y[:, step] = h = _sigmoid(o) * np.tanh(c)
    return y


def gru(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """h of every step: r, z = σ(x[t] + W h + b);  n = tanh(x[t] + r (W h + b));  h = (1 − z) n + z h."""
    x, weight = inputs[0], tensors["weight"]
    h = np.zeros((len(x), weight.shape[1]), np.float32)
    y = np.empty((*x.shape[:2], weight.shape[1]), np.float32)
    for step in _steps(x, attributes["reverse"]):
        given = np.split(x[:, step], 3, axis=1)
        r, z, n = np.split(h @ weight.T + tensors.get("bias", np.float32(0)), 3, axis=1)
        r, z = _sigmoid(given[0] + r), _sigmoid(given[1] + z)
        y[:, step] = h = (1 - z) * np.tanh(given[2] + r * n) + z * h
    return y


def _onnx(operator: str, order: tuple[int, ...]) -> Any:
    def write(w: Writer, node: Node) -> None:
        name, size = node.name, w.shapes[node.name][2]
        places = np.concatenate([np.arange(size) + gate * size for gate in order])
        x = w.emit("Transpose", node.inputs, name + ".steps", perm=[1, 0, 2])
        given = w.constant(np.eye(len(places))[places][None], name + ".given")
        inputs = [x, given, w.tensor(node, "weight", lambda value: value[places][None])]
        more: dict[str, Any] = {"direction": "reverse" if node.attributes["reverse"] else "forward"}
        if operator == "GRU":
            more["linear_before_reset"] = 1
        if "bias" in node.tensors:
            inputs.append(w.tensor(node, "bias", lambda value: np.append(np.zeros(len(places)), value[places])[None]))
        y = w.emit(operator, inputs, name + ".all", hidden_size=size, **more)
        y = w.emit("Squeeze", [y, w.constant([1], name + ".axis", np.int64)], name + ".one")
        w.emit("Transpose", [y], name, perm=[1, 0, 2])

    return write


def _capture(call: Call) -> list[Any]:
    """Each layer and direction as a linear map of its inputs and a recurrence."""
    x, given, parameters = call["input"], call["hx"], list(call["params"])
    starts = list(given) if isinstance(given, list | tuple) else [given]
    if not all(is_tensor(start) and not bool(start.any()) for start in starts) or call.uses(2):
        raise NotCapturedError("a recurrence with a state of its own")
    directions, each = 2 if call["bidirectional"] else 1, 4 if call["has_biases"] else 2
    if len(parameters) != call["num_layers"] * directions * each:
        raise NotCapturedError("a recurrence with projections")
    if not call["batch_first"]:
        x = call.emit("permute", [x], axes=[1, 0, 2])
    length = call.shape[1 if call["batch_first"] else 0]
    last = []
    for layer in range(call["num_layers"]):
        parts = []
        for direction in range(directions):
            at = (layer * directions + direction) * each
            weights = parameters[at : at + each]
            parts.append(_layer(call, x, weights, direction == 1))
            end = 0 if direction else length - 1
            last.append(call.emit("slice", parts[-1:], axis=1, start=end, stop=end + 1, step=1))
        x = parts[0] if directions == 1 else call.emit("concat", parts, axis=2)
    together = last[0] if len(last) == 1 else call.emit("concat", last, axis=1)
    y = x if call["batch_first"] else call.emit("permute", [x], axes=[1, 0, 2])
    return [y, call.emit("permute", [together], axes=[1, 0, 2]), None]


def _layer(call: Call, x: str, weights: list[Any], reverse: bool) -> str:
    into, recurrent, *biases = weights
    if call.operator == "lstm":
        bias = call.renamed(biases[0] + biases[1], biases[0], "sum") if biases else None
        gates = call.emit("linear", [x], {"weight": into, "bias": bias}, activation=None)
        return call.emit("lstm", [gates], {"weight": recurrent}, reverse=reverse)
    gates = call.emit("linear", [x], {"weight": into, "bias": biases[0] if biases else None}, activation=None)
    tensors = {"weight": recurrent, "bias": biases[1] if biases else None}
    return call.emit("gru", [gates], tensors, reverse=reverse)


LSTM = Operation(
    tensors=("weight",),
    attributes={"reverse": is_flag},
    shape=_shape(4),
    run=lstm,
    onnx=_onnx("LSTM", (0, 3, 1, 2)),
    captures={"lstm": _capture},
)
GRU = Operation(
    tensors=("weight", "bias?"),
    attributes={"reverse": is_flag},
    shape=_shape(3),
    run=gru,
    onnx=_onnx("GRU", (1, 0, 2)),
    captures={"gru": _capture},
)
