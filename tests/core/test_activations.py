"""Every activation, in every form that it has: they all agree with PyTorch's module of that name."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gossamer
from gossamer import engine, kernels, onnx
from gossamer.engine.dense import DenseLayer
from gossamer.engine.graph import Graph, interpret
from gossamer.engine.node import Node
from gossamer.engine.program import build
from gossamer.kernels.activation import ACTIVATIONS, Activation

MODULES: dict[str, nn.Module] = {
    "none": nn.Identity(),
    "relu": nn.ReLU(),
    "clamp": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "tanh": nn.Tanh(),
}
CONSTANTS = {"clamp": {"low": 0.0, "high": 6.0}, "leaky_relu": {"slope": 0.2}}
X = np.concatenate([np.linspace(-9, 9, 401), [-100, 100, -0.0, 1e-30, -3e38, 3e38, np.inf, -np.inf]]).astype(np.float32)


def json_form(name: str) -> dict[str, Any]:
    return {"name": name, **CONSTANTS.get(name, {})}


def expected(name: str) -> np.ndarray:
    return MODULES[name](torch.from_numpy(X)).numpy()


def one_node(name: str) -> Graph:
    node = Node("activation", "y", ["x"], {}, {"activation": json_form(name)})
    return Graph({"x": (len(X),)}, [node], {}, "y")


def test_every_activation_is_tested_here():
    assert MODULES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_reference_is_pytorchs(name: str):
    finite = np.abs(X) < 1e38
    y = interpret(one_node(name), X[None])
    np.testing.assert_allclose(y[0][finite], expected(name)[finite], rtol=1e-5, atol=1e-6)
    assert y.dtype == np.float32


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1, 7, len(X)])
def test_the_loops_are_pytorchs(name: str, size: int):
    graph = one_node(name)
    graph.inputs = {"x": (size,)}
    run = build(graph, 1)
    finite = np.abs(X[-size:]) < 1e38
    y = run(X[None, -size:])[0]
    np.testing.assert_allclose(y[finite], expected(name)[-size:][finite], rtol=1e-5, atol=1e-6)
    assert np.isnan(run(np.full((1, size), np.nan, np.float32))).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_loops_on_images_are_the_reference(name: str):
    graph = one_node(name)
    graph.inputs = {"x": (3, 5, 17)}
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 17), np.float32) * 4
    np.testing.assert_allclose(build(graph, 2)(x), interpret(graph, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_kernels_are_pytorchs(name: str):
    x = X[np.abs(X) < 1e38]
    activation = Activation(**json_form(name))
    image = kernels.conv2d(np.ones((1, 1, 1, 1), np.float32), activation=activation)
    row = kernels.linear(np.eye(len(x), dtype=np.float32), np.eye(len(x), dtype=bool), activation=activation)
    by_image, by_row = np.empty((1, 1, 1, len(x)), np.float32), np.empty((1, len(x)), np.float32)
    image.bind(x[None, None, None], by_image)()
    row.bind(x[None], by_row)()
    for y in (by_image.reshape(-1), by_row.reshape(-1)):
        np.testing.assert_allclose(y, expected(name)[np.abs(X) < 1e38], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_torch_form_is_pytorchs(name: str):
    x = X[np.abs(X) < 1e38][None]
    node = Node("linear", "y", ["x"], {}, {"activation": json_form(name)})
    y = np.empty_like(x)
    DenseLayer(node, np.eye(x.shape[1], dtype=np.float32), None, True).bind(x, y)()
    np.testing.assert_allclose(y[0], expected(name)[np.abs(X) < 1e38], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_onnx_form_is_pytorchs(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    x = X[np.abs(X) < 1e38]
    graph = one_node(name)
    graph.inputs = {"x": (len(x),)}
    onnx.export_onnx(build(graph, 1), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    y: Any = session.run(None, {"x": x[None]})[0]
    np.testing.assert_allclose(y[0], expected(name)[np.abs(X) < 1e38], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_pytorchs_module_is_captured_as_it(name: str):
    nodes = engine.trace(nn.Sequential(nn.Flatten(), MODULES[name]).eval(), torch.zeros(1, 3, 2)).nodes
    found = [node.attributes["activation"] for node in nodes if node.operation == "activation"]
    assert found == ([] if name == "none" else [json_form(name)])


def test_an_unknown_name_fails_everywhere():
    with pytest.raises(gossamer.InputError, match=r"'gelus' \(did you mean 'gelu'"):
        Activation("gelus")
    with pytest.raises(gossamer.InputError, match="does not fit"):
        Graph({"x": (3,)}, [Node("activation", "y", ["x"], {}, {"activation": {"name": "gelus"}})], {}, "y").shapes(1)
    node = Node("linear", "y", ["x"], {}, {"activation": {"name": "gelus"}})
    x = np.ones((1, 1), np.float32)
    with pytest.raises(gossamer.InputError, match="gelus"):
        DenseLayer(node, x, None, True).bind(x, x.copy())()


@pytest.mark.parametrize(("name", "constant"), list(itertools.product(ACTIVATIONS, ["low", "high", "slope"])))
def test_a_constant_that_a_function_does_not_take_is_refused(name: str, constant: str):
    if constant in ACTIVATIONS[name].constants:
        assert Activation(name, **{constant: 0.5}).constants
    else:
        with pytest.raises(gossamer.InputError, match=f"has no {constant}"):
            Activation(name, **{constant: 0.5})
