"""Masks: numbers as true and false, compared, joined, and choosing between values."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    is_number,
    is_tensor,
    require,
    same_shape,
)

TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9}
"""The dtypes, and ONNX's numbers of them."""

# Another dtype ------------------------------------------------------------------------------------------------------


def cast(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """The same values in another dtype; what is not zero is true."""
    return inputs[0].astype(attributes["to"])


def _cast_onnx(w: Writer, node: Node) -> None:
    w.emit("Cast", node.inputs, node.name, to=TYPES[node.attributes["to"]])


def _capture_cast(call: Call) -> str:
    x = call.get("self", call.get("input"))
    if not isinstance(x, str) or call.result_kind not in TYPES:
        raise NotCapturedError(f"a conversion to {call.result_kind}")
    return x if call.kind(x) == call.result_kind else call.emit("cast", [x], to=call.result_kind)


CAST = Operation(
    attributes={"to": TYPES.__contains__},
    shape=same_shape,
    run=cast,
    onnx=_cast_onnx,
    captures={"to": _capture_cast, "_to_copy": _capture_cast},
    kind=lambda kinds, attributes: attributes["to"],
)

# Comparisons with a number ------------------------------------------------------------------------------------------

COMPARISONS = {
    "eq": (np.equal, "Equal"),
    "lt": (np.less, "Less"),
    "le": (np.less_equal, "LessOrEqual"),
    "gt": (np.greater, "Greater"),
    "ge": (np.greater_equal, "GreaterOrEqual"),
    "ne": (np.not_equal, ""),
}


def compare(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = x function number`, true or false."""
    return COMPARISONS[attributes["function"]][0](inputs[0], attributes["number"])


def _compare_onnx(w: Writer, node: Node) -> None:
    number = w.constant(node.attributes["number"], node.name + ".number")
    x = w.emit("Cast", node.inputs, node.name + ".float", to=TYPES["float32"])
    operator = COMPARISONS[node.attributes["function"]][1]
    if operator:
        w.emit(operator, [x, number], node.name)
    else:
        w.emit("Not", [w.emit("Equal", [x, number], node.name + ".equal")], node.name)


def _capture_compare(call: Call) -> str:
    if not isinstance(call["other"], int | float):
        raise NotCapturedError("a comparison of two values")
    return call.emit("compare", [call["self"]], function=call.operator, number=call["other"])


COMPARE = Operation(
    attributes={"function": COMPARISONS.__contains__, "number": is_number},
    shape=same_shape,
    run=compare,
    onnx=_compare_onnx,
    captures=dict.fromkeys(COMPARISONS, _capture_compare),
    kind=lambda kinds, attributes: "bool",
)

# Joined masks -------------------------------------------------------------------------------------------------------

LOGIC = {"and": (np.logical_and, "And"), "or": (np.logical_or, "Or"), "xor": (np.logical_xor, "Xor")}


def _booleans(kinds: list[str], attributes: dict[str, Any]) -> str | None:
    return "bool" if set(kinds) == {"bool"} else None


def _logical_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(len(inputs) + len(tensors) == 2, "two operands")
    return np.broadcast_shapes(*inputs, *tensors.values())


def logical(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = x and|or|xor other` of two masks; a constant is true where it is not zero."""
    x, other = [*inputs, *tensors.values()]
    return LOGIC[attributes["function"]][0](x, other != 0)


def _logical_onnx(w: Writer, node: Node) -> None:
    operands = list(node.inputs)
    if node.tensors:
        other = w.tensor(node, "other")
        operands.append(w.emit("Cast", [other], node.name + ".mask", to=TYPES["bool"]))
    w.emit(LOGIC[node.attributes["function"]][1], operands, node.name)


def _capture_logical(call: Call) -> str:
    x, other = call["self"], call["other"]
    function = call.operator.strip("_").removeprefix("bitwise_").removeprefix("logical_")
    if not isinstance(x, str):
        x, other = other, x
    if isinstance(other, str):
        return call.emit("logical", [x, other], function=function)
    return call.emit("logical", [x], {"other": other}, function=function)


LOGICAL = Operation(
    inputs=range(1, 3),
    tensors=("other?",),
    attributes={"function": LOGIC.__contains__},
    shape=_logical_shape,
    run=logical,
    onnx=_logical_onnx,
    captures={name: _capture_logical for one in LOGIC for name in (f"__{one}__", f"bitwise_{one}", f"logical_{one}")},
    kind=_booleans,
)


def invert(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = not x`."""
    return ~inputs[0]


def _invert_onnx(w: Writer, node: Node) -> None:
    w.emit("Not", node.inputs, node.name)


def _capture_invert(call: Call) -> str:
    return call.emit("invert", [call["self"]])


INVERT = Operation(
    shape=same_shape,
    run=invert,
    onnx=_invert_onnx,
    captures={"bitwise_not": _capture_invert, "logical_not": _capture_invert},
    kind=_booleans,
)

# A number where a mask is true --------------------------------------------------------------------------------------


def _fill_shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    require(np.broadcast_shapes(*inputs) == inputs[0], f"a mask {inputs[1]} of {inputs[0]}")
    return inputs[0]


def masked_fill(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = number where mask else x`."""
    return np.where(inputs[1], np.float32(attributes["number"]), inputs[0])


def _fill_onnx(w: Writer, node: Node) -> None:
    number = w.constant(node.attributes["number"], node.name + ".number")
    w.emit("Where", [node.inputs[1], number, node.inputs[0]], node.name)


def _capture_fill(call: Call) -> str:
    value = call["value"]
    value = float(value) if is_tensor(value) and value.ndim == 0 else value
    if not isinstance(value, int | float):
        raise NotCapturedError("a value that is computed")
    return call.emit("masked_fill", [call["self"], call["mask"]], number=float(value))


MASKED_FILL = Operation(
    inputs=range(2, 3),
    attributes={"number": is_number},
    shape=_fill_shape,
    run=masked_fill,
    onnx=_fill_onnx,
    captures={"masked_fill": _capture_fill},
    kind=lambda kinds, attributes: "float32" if kinds == ["float32", "bool"] else None,
)
