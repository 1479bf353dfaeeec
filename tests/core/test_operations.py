"""Every operation of the engine has its shape rule, its reference, its form in ONNX and its rules of capture."""

import ast
import contextlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer import onnx
from gossamer.engine import operations, steps
from gossamer.engine.graph import Graph, interpret
from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS
from gossamer.engine.program import build

RELU, WINDOW = {"activation": {"name": "relu"}}, {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1], "ceil": False}
GEOMETRY = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 1], "groups": 2}
IMAGE = (2, 4, 6, 5)
Example = tuple[list[tuple[int, ...]], dict[str, Any], dict[str, tuple[int, ...]]]
EXAMPLES: dict[str, Example] = {
    "conv2d": ([IMAGE, (2, 6, 3, 4)], {**GEOMETRY, **RELU}, {"weight": (6, 2, 3, 2), "bias": (6,)}),
    "linear": ([(2, 3, 4), (2, 3, 5)], RELU, {"weight": (5, 4), "bias": (5,)}),
    "scale_shift": ([IMAGE, IMAGE], RELU, {"scale": (4,), "shift": (4,)}),
    "binary": ([IMAGE, (2, 4, 1, 1)], {"function": "multiply", **RELU}, {}),
    "activation": ([IMAGE], RELU, {}),
    "softmax": ([IMAGE], {"axis": 2}, {}),
    "mean": ([IMAGE], {"axes": [1, 3], "keep": False}, {}),
    "layer_norm": ([IMAGE], {"axes": [1], "epsilon": 1e-5}, {"weight": (4,), "bias": (4,)}),
    "max_pool2d": ([IMAGE], {**WINDOW, "dilation": [1, 2]}, {}),
    "avg_pool2d": ([IMAGE], {**WINDOW, "count_padding": False}, {}),
    "adaptive_avg_pool2d": ([IMAGE], {"size": [4, 3]}, {}),
    "reshape": ([IMAGE], {"shape": [-1, 8, 15]}, {}),
    "permute": ([IMAGE], {"axes": [0, 2, 3, 1]}, {}),
    "slice": ([IMAGE], {"axis": 2, "start": 1, "stop": 6, "step": 2}, {}),
    "concat": ([IMAGE, (2, 1, 6, 5)], {"axis": 1}, {}),
    "pad": ([IMAGE], {"widths": [[0, 0], [1, 0], [0, 2], [1, 1]], "value": 0.5}, {}),
    "channel_shuffle": ([IMAGE], {"groups": 2}, {}),
    "unary": ([IMAGE], {"function": "cos"}, {}),
    "rms_norm": ([(2, 3, 4)], {"axes": [2], "epsilon": 1e-5}, {"weight": (4,)}),
    "group_norm": ([IMAGE], {"groups": 2, "epsilon": 1e-5}, {"weight": (4,), "bias": (4,)}),
    "conv_transpose2d": ([IMAGE], {**GEOMETRY, "more": [1, 0]}, {"weight": (4, 3, 3, 2), "bias": (6,)}),
    "resize": ([IMAGE], {"size": [9, 4], "linear": True, "corners": False}, {}),
    "lstm": ([(2, 5, 12)], {"reverse": True}, {"weight": (12, 3)}),
    "gru": ([(2, 5, 9)], {"reverse": False}, {"weight": (9, 3), "bias": (9,)}),
    "roll": ([IMAGE], {"axes": [2, 3], "by": [1, -2]}, {}),
    "embedding": ([(2, 7)], {}, {"weight": (9, 4)}),
    "take": ([(2, 7)], {"axis": 1, "places": [3, 0, 6]}, {}),
    "broadcast": ([(2, 7)], {}, {"value": (1, 3, 4)}),
    "expand": ([(2, 1, 4)], {"shape": [-1, 3, 4]}, {}),
    "matmul": ([(2, 3, 4, 5), (2, 3, 5, 2)], {}, {}),
    "attention": ([(2, 4, 9, 8), (2, 2, 10, 8), (2, 2, 10, 8), (2, 1, 1, 10)], {"scale": 0.5, "causal": True}, {}),
    "attend": (
        [(2, 32, 1, 9), (2, 16, 1, 10), (2, 16, 1, 10), (2, 1, 10, 9)],
        {"heads": 4, "groups": 2, "scale": 0.5, "causal": True},
        {},
    ),
    "turned_mask": ([(2, 1, 1, 6)], {"queries": 5}, {}),
    "cast": ([(2, 7)], {"to": "bool"}, {}),
    "compare": ([(2, 7)], {"function": "ne", "number": 3}, {}),
    "logical": ([(2, 7)], {"function": "and"}, {"other": (7,)}),
    "invert": ([(2, 7)], {}, {}),
    "masked_fill": ([(2, 3, 7), (2, 1, 7)], {"number": -1.5}, {}),
    "top_k": ([(2, 3, 7)], {"k": 3}, {}),
}
KINDS = {
    "embedding": ["int64"],
    "take": ["int64"],
    "cast": ["int64"],
    "compare": ["int64"],
    "logical": ["bool"],
    "invert": ["bool"],
    "masked_fill": ["float32", "bool"],
    "attention": ["float32", "float32", "float32", "bool"],
    "turned_mask": ["bool"],
}


def arrays_of(shapes: list[tuple[int, ...]], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, np.float32) for shape in shapes]


def inputs_of(name: str) -> list[np.ndarray]:
    """Inputs of the kinds that the operation takes; the first of a mask's last axis is always true."""
    inputs = arrays_of(EXAMPLES[name][0])
    for place, kind in enumerate(KINDS.get(name, [])):
        x = np.abs(inputs[place] * 4)
        inputs[place] = {"float32": inputs[place], "int64": x.astype(np.int64) % 9, "bool": x > 1}[kind]
        if kind == "bool":
            inputs[place][..., 0] = True
    return inputs


def graph_of(name: str) -> tuple[Graph, list[np.ndarray]]:
    """The graph of one node, and its inputs."""
    shapes, attributes, roles = EXAMPLES[name]
    inputs = {f"x{place}": shape[1:] for place, shape in enumerate(shapes)}
    tensors = dict(zip(roles, arrays_of(list(roles.values()), 1), strict=True))
    node = Node(name, "y", list(inputs), {role: role for role in roles}, attributes)
    kinds = {one: kind for one, kind in zip(inputs, KINDS.get(name, []), strict=False) if kind != "float32"}
    return Graph(inputs, [node], tensors, "y", kinds), inputs_of(name)


def test_every_operation_has_an_example():
    assert EXAMPLES.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_shape_rule_is_that_of_the_reference(name: str):
    graph, inputs = graph_of(name)
    y = interpret(graph, *inputs)
    assert y.dtype == graph.value_kinds()["y"]
    assert graph.shapes(2)["y"] == y.shape


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_engine_runs_it_as_the_reference(name: str):
    graph, inputs = graph_of(name)
    np.testing.assert_allclose(build(graph, 2)(*inputs), interpret(graph, *inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_its_form_in_onnx_is_the_reference(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph, inputs = graph_of(name)
    onnx.export_onnx(build(graph, 2), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    y: Any = session.run(None, dict(zip(graph.inputs, inputs, strict=True)))[0]
    np.testing.assert_allclose(y, interpret(graph, *inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_says_whether_inputs_of_a_batch_see_each_other(name: str):
    """Changing one input changes that input's result alone, unless the operation says that it mixes."""
    graph, inputs = graph_of(name)
    others = [x.copy() for x in inputs]
    for other in others:
        other[1] = ~other[1] if other.dtype == np.bool_ else other[1] + 1 if other.dtype == np.float32 else 0
    one, two = interpret(graph, *inputs), interpret(graph, *others)
    assert not OPERATIONS[name].mixes(EXAMPLES[name][1], len(inputs[0].shape))
    np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("softmax", {"axis": 0}),
        ("mean", {"axes": [0, 1], "keep": True}),
        ("slice", {"axis": 0, "start": 0, "stop": 1, "step": 1}),
        ("concat", {"axis": 0}),
        ("pad", {"widths": [[1, 0], [0, 0]], "value": 0.0}),
        ("layer_norm", {"axes": [0, 1], "epsilon": 1e-5}),
        ("rms_norm", {"axes": [0, 1], "epsilon": 1e-5}),
        ("roll", {"axes": [0], "by": [1]}),
        ("take", {"axis": 0, "places": [0]}),
    ],
)
def test_an_operation_along_the_batch_mixes_it(name: str, attributes: dict[str, Any]):
    assert OPERATIONS[name].mixes(attributes, 2)


@pytest.mark.parametrize("name", [name for name, own in OPERATIONS.items() if {"axis", "axes"} & own.attributes.keys()])
def test_an_operation_along_the_batch_says_so_where_a_result_changes_with_another_input(name: str):
    graph, inputs = graph_of(name)
    changes = {"axis": 0, "axes": [0]} if name != "permute" else {}
    attributes = {key: changes.get(key, value) for key, value in EXAMPLES[name][1].items()}
    others = [np.concatenate([x[:1], x[1:] + 1]) for x in inputs]
    with contextlib.suppress(ValueError, IndexError):  # an example whose shape has no such axis
        one, two = (OPERATIONS[name].run(own, graph.tensors, attributes) for own in (inputs, others))
        assert OPERATIONS[name].mixes(attributes, inputs[0].ndim) or np.array_equal(one[0], two[0])


def test_what_is_captured_is_captured_once():
    rules = [operator for operation in OPERATIONS.values() for operator in operation.captures]
    assert len(rules) == len(set(rules))
    assert set(rules) | set(operations.UNCHANGED) == operations.RULES.keys()
    made_otherwise = [name for name, operation in OPERATIONS.items() if not operation.captures]
    # by `move_tokens_last`, by `fold`, and by `Call.everywhere`
    assert made_otherwise == ["attend", "turned_mask", "channel_shuffle", "broadcast"]


COMPILED = {"max_pool2d": {"dilation": [1, 1]}, "mean": {"axes": [2, 3]}}
"""Attributes in place of an example's that the compiled form takes."""
MASKLESS = {"attention": 3}
"""How many of an example's inputs the compiled form takes."""


@pytest.mark.parametrize("name", [name for name in OPERATIONS if OPERATIONS[name].bind])
def test_its_compiled_form_is_the_reference(name: str):
    pytest.importorskip("numba", reason="compiled forms need Numba")
    graph, inputs = graph_of(name)
    inputs = inputs[: MASKLESS.get(name)]
    attributes = EXAMPLES[name][1] | COMPILED.get(name, {})
    expected = OPERATIONS[name].run(inputs, graph.tensors, attributes)
    out = np.full(expected.shape, np.nan, np.float32)
    bind: Any = OPERATIONS[name].bind
    call = bind(inputs, graph.tensors, attributes, out)
    assert call is not NotImplemented
    call()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_what_runs_an_operation_names_none():
    """A compiled form stands in its operation's entry."""
    named = {node.value for node in ast.walk(ast.parse(inspect.getsource(steps))) if isinstance(node, ast.Constant)}
    assert named & OPERATIONS.keys() == {"linear"}  # in `is_matrix`: a layer's own shape


@pytest.mark.parametrize("name", [name for name in OPERATIONS if OPERATIONS[name].torch])
def test_its_form_in_pytorch_is_the_reference(name: str):
    graph, inputs = graph_of(name)
    tensors = {role: torch.from_numpy(tensor) for role, tensor in graph.tensors.items()}
    form: Any = OPERATIONS[name].torch
    attributes = EXAMPLES[name][1]
    y = form(torch, [torch.from_numpy(x) for x in inputs], tensors, attributes).numpy()
    expected = OPERATIONS[name].run(inputs, graph.tensors, attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
