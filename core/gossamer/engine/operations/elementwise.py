"""Element by element: scalings of channels, sums and products, activations."""

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
    activate,
    check_activation,
    check_residual,
    finish,
    is_tensor,
    require,
    same_shape,
)
from gossamer.kernels import ACTIVATIONS

# Scalings -----------------------------------------------------------------------------------------------------------


def _scale_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(tensors["scale"] == tensors["shift"] == (inputs[0][1],), f"scale {tensors['scale']} for {inputs[0]}")
    return check_residual(inputs, inputs[0])


def scale_shift(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y[n, c] = activation(scale[c] * x[n, c] + shift[c] + residual)`: a batch norm that follows no convolution."""
    x = inputs[0]
    scale, shift = (tensors[role].reshape(-1, *[1] * (x.ndim - 2)) for role in ("scale", "shift"))
    return finish(x * scale + shift, inputs, attributes)


def _scale_onnx(w: Writer, node: Node) -> None:
    over = (-1, *[1] * (len(w.shapes[node.name]) - 2))
    scale, shift = (w.tensor(node, role, lambda value: value.reshape(over)) for role in ("scale", "shift"))
    scaled = w.emit("Mul", [node.inputs[0], scale], node.name + ".scaled")
    w.finish(node, w.emit("Add", [scaled, shift], w.ends(node)))


def _capture_batch_norm(call: Call) -> Any:
    mean, variance, weight, bias = (call[name] for name in ("running_mean", "running_var", "weight", "bias"))
    if call.get("training") or not is_tensor(mean):
        raise NotCapturedError("batch norm by the batch's own statistics")
    scale = (variance.double() + call["eps"]).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -mean.double() * scale
    shift = shift if bias is None else shift + bias.double()
    tensors = {"scale": scale.float(), "shift": shift.float()}
    y = call.emit("scale_shift", [call["input"]], tensors, activation=None)
    return [y, None, None] if call.operator.startswith("_native") else y


def _bind_scale(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    residual = inputs[1] if len(inputs) > 1 else None
    return compiled.scaling(
        inputs[0], residual, out, tensors["scale"][None], tensors["shift"], attributes["activation"]
    )


SCALE_SHIFT = Operation(
    inputs=range(1, 3),
    tensors=("scale", "shift"),
    attributes={"activation": check_activation},
    shape=_scale_shape,
    run=scale_shift,
    onnx=_scale_onnx,
    captures={"batch_norm": _capture_batch_norm, "_native_batch_norm_legit_no_training": _capture_batch_norm},
    fuses=True,
    bind=_bind_scale,
)

# Sums, differences, products and quotients --------------------------------------------------------------------------

FUNCTIONS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}
IN_ONNX = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}


def _binary_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs) + len(tensors) == 2, "two operands")
    return np.broadcast_shapes(*inputs, *tensors.values())


def binary(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = activation(x add|subtract|multiply|divide other)` with broadcasting; `other` is an input or a constant."""
    x, other = [*inputs, *tensors.values()]
    return activate(attributes["activation"], FUNCTIONS[attributes["function"]](x, other))


def _binary_onnx(w: Writer, node: Node) -> None:
    operands = [*node.inputs, *([w.tensor(node, "other")] if node.tensors else [])]
    operator = IN_ONNX[node.attributes["function"]]
    w.finish(node, w.emit(operator, operands, w.ends(node, residual=False)), residual=False)


def _capture_binary(call: Call) -> str:
    x, other, name = call["self"], call["other"], call.operator
    if call.get("alpha", 1) != 1 or call.get("rounding_mode") is not None:
        raise NotCapturedError(f"{name} with alpha or rounding")
    if name == "rsub":
        x, other, name = other, x, "sub"
    if not isinstance(x, str):
        if name in ("add", "mul"):
            x, other = other, x
        elif name == "sub":
            negative = call.emit("binary", [other], {"other": -1.0}, function="multiply", activation=None)
            x, other, name = negative, x, "add"
        else:
            raise NotCapturedError("division of a constant")
    function = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide"}[name]
    if isinstance(other, str):
        return call.emit("binary", [x, other], function=function, activation=None)
    if is_tensor(other) and not other.is_floating_point():
        raise NotCapturedError("integer constants")
    return call.emit("binary", [x], {"other": other}, function=function, activation=None)


def _bind_binary(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    if len(inputs) < 2 or compiled.images is None:
        return NotImplemented
    x, other = inputs
    if attributes["function"] == "multiply" and x.shape != other.shape:
        x, other = (x, other) if x.shape == out.shape else (other, x)
        if x.ndim == 4 and other.shape == (*x.shape[:2], 1, 1):  # a gate on every channel
            gate, zero = other.reshape(x.shape[:2]), np.zeros(x.shape[1], np.float32)
            return compiled.scaling(x, None, out, gate, zero, attributes["activation"])
    if not x.shape == other.shape == out.shape:
        return NotImplemented
    x, other, out = (compiled.as_rows(array) for array in (x, other, out))
    if not compiled.fit(x, other, out):
        return NotImplemented
    activation = compiled.function(attributes["activation"])
    return compiled.Program([compiled.images.combine(attributes["function"], x, other, out, activation)])


BINARY = Operation(
    inputs=range(1, 3),
    tensors=("other?",),
    attributes={"function": FUNCTIONS.__contains__, "activation": check_activation},
    shape=_binary_shape,
    run=binary,
    onnx=_binary_onnx,
    captures=dict.fromkeys(("add", "sub", "mul", "div", "rsub"), _capture_binary),
    bind=_bind_binary,
)

# Activations --------------------------------------------------------------------------------------------------------


def activation(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = activation(x)`, one of `gossamer.kernels.ACTIVATIONS`."""
    return activate(attributes["activation"], inputs[0])


def _activation_onnx(w: Writer, node: Node) -> None:
    w.apply(node.attributes["activation"], node.inputs[0], node.name)


def _capture_activation(call: Call) -> str:
    for name, function in ACTIVATIONS.items():
        constants = function.operators[call.operator](call) if call.operator in function.operators else None
        if constants is not None:
            return call.emit("activation", [call["self"]], activation={"name": name, **constants})
    raise NotCapturedError(f"{call.operator} of this kind")


def _bind_activation(
    inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any], out: np.ndarray
) -> Any:
    x, out = compiled.as_rows(inputs[0]), compiled.as_rows(out)
    one, zero = np.ones((1, x.shape[1]), np.float32), np.zeros(x.shape[1], np.float32)
    return compiled.scaling(x, None, out, one, zero, attributes["activation"])


ACTIVATION = Operation(
    attributes={"activation": check_activation},
    shape=same_shape,
    run=activation,
    onnx=_activation_onnx,
    captures=dict.fromkeys(
        (operator for function in ACTIVATIONS.values() for operator in function.operators), _capture_activation
    ),
    bind=_bind_activation,
)

# Functions of one value ---------------------------------------------------------------------------------------------


def _root_of(x: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(x)


UNARY_FUNCTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "neg": (np.negative, ("Neg",)),
    "sqrt": (np.sqrt, ("Sqrt",)),
    "rsqrt": (_root_of, ("Sqrt", "Reciprocal")),
    "exp": (np.exp, ("Exp",)),
    "ceil": (np.ceil, ("Ceil",)),
    "sin": (np.sin, ("Sin",)),
    "cos": (np.cos, ("Cos",)),
}
"""Each with its reference and the operators of ONNX that make it, one after the other."""


def unary(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = function(x)`."""
    return UNARY_FUNCTIONS[attributes["function"]][0](inputs[0])


def _unary_onnx(w: Writer, node: "Node") -> None:
    value, operators = node.inputs[0], UNARY_FUNCTIONS[node.attributes["function"]][1]
    for place, operator in enumerate(operators):
        last = place == len(operators) - 1
        value = w.emit(operator, [value], node.name if last else f"{node.name}.{place}")


def _capture_unary(call: Call) -> str:
    return call.emit("unary", [call["self"]], function=call.operator)


def _capture_power(call: Call) -> str:
    x, exponent = call["self"], call["exponent"]
    if exponent in (0.5, -0.5):
        return call.emit("unary", [x], function="sqrt" if exponent > 0 else "rsqrt")
    if exponent not in (2, 3):
        raise NotCapturedError(f"the power {exponent}")
    square = call.emit("binary", [x, x], function="multiply", activation=None)
    return square if exponent == 2 else call.emit("binary", [square, x], function="multiply", activation=None)


UNARY = Operation(
    attributes={"function": UNARY_FUNCTIONS.__contains__},
    shape=same_shape,
    run=unary,
    onnx=_unary_onnx,
    captures={**dict.fromkeys(UNARY_FUNCTIONS, _capture_unary), "pow": _capture_power},
)
