"""Linear maps over the last axis."""

from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations.entry import (
    Call,
    NotCapturedError,
    Operation,
    Shape,
    Writer,
    check_activation,
    check_residual,
    finish,
    is_tensor,
    require,
)
from gossamer.kernels import reference


def _shape(inputs: list[Shape], tensors: dict[str, Shape], attributes: dict[str, Any]) -> Shape:
    out, features = tensors["weight"]
    require(inputs[0][-1] == features, f"{inputs[0][-1]} features, weight {tensors['weight']}")
    require(tensors.get("bias", (out,)) == (out,), f"bias {tensors.get('bias')}")
    return check_residual(inputs, (*inputs[0][:-1], out))


def linear(inputs: list[np.ndarray], tensors: dict[str, np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """`y = activation(x @ w.T + bias + residual)` over the last axis."""
    return finish(reference.linear(inputs[0], tensors["weight"], tensors.get("bias")), inputs, attributes)


def _onnx(w: Writer, node: Node) -> None:
    if len(w.shapes[node.inputs[0]]) == 2:
        inputs = [node.inputs[0], w.tensor(node, "weight"), w.tensor(node, "bias")]
        w.finish(node, w.emit("Gemm", [name for name in inputs if name], w.ends(node), transB=1))
        return
    weight, bias = w.tensor(node, "weight", np.transpose), w.tensor(node, "bias")
    product = w.emit("MatMul", [node.inputs[0], weight], node.name + ".product" if bias else w.ends(node))
    w.finish(node, w.emit("Add", [product, bias], w.ends(node)) if bias else product)


def _capture(call: Call) -> str:
    if not is_tensor(call["weight"]):
        raise NotCapturedError("a weight that is computed")
    return call.emit("linear", [call["input"]], {"weight": call["weight"], "bias": call["bias"]}, activation=None)


def _capture_addmm(call: Call) -> str:
    bias, weight = call["self"], call["mat2"]
    if call["alpha"] != 1 or call["beta"] != 1 or not is_tensor(weight) or getattr(bias, "ndim", 0) != 1:
        raise NotCapturedError("addmm")
    tensors = {"weight": call.renamed(weight.t(), weight, "transposed"), "bias": bias}
    return call.emit("linear", [call["mat1"]], tensors, activation=None)


LINEAR = Operation(
    inputs=range(1, 3),
    tensors=("weight", "bias?"),
    attributes={"activation": check_activation},
    shape=_shape,
    run=linear,
    onnx=_onnx,
    captures={"linear": _capture, "addmm": _capture_addmm},
    layer=True,
    fuses=True,
)
