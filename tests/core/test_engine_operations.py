"""The engine's plain operations against torch, and its compiled steps against the plain operations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import kernels
from gossamer.engine.graph import Graph, interpret
from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS
from gossamer.engine.program import build
from gossamer.errors import InputError

NONE = {"activation": None}
POOL = {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1], "ceil": False}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def run(operation: str, inputs: list, attributes: dict, **tensors: np.ndarray) -> np.ndarray:
    """The plain operation's result, its shape checked against the inferred one."""
    entry = OPERATIONS[operation]
    y = entry.run(inputs, tensors, attributes)
    shapes = {role: tensor.shape for role, tensor in tensors.items()}
    assert entry.infer([x.shape for x in inputs], shapes, attributes) == y.shape
    assert y.dtype == np.float32
    return y


def compiled(operation: str, inputs: list, attributes: dict, **tensors: np.ndarray) -> np.ndarray:
    """The engine's result for a graph of this one node."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = Node(operation, "y", names, {role: role for role in tensors}, attributes)
    graph = Graph(dict(zip(names, (x.shape[1:] for x in inputs), strict=True)), [node], dict(tensors), "y")
    np.testing.assert_array_equal(interpret(graph, *inputs), run(operation, inputs, attributes, **tensors))
    return build(graph, len(inputs[0]))(*inputs)


def close(y: np.ndarray, expected: torch.Tensor | np.ndarray) -> None:
    np.testing.assert_allclose(y, np.asarray(expected), rtol=1e-4, atol=2e-5)


def test_convolution_by_hand():
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    weight = np.array([[[[1, 0], [0, -1]]]], np.float32)
    attributes = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "activation": None}
    np.testing.assert_array_equal(run("conv2d", [x], attributes, weight=weight), np.full((1, 1, 2, 2), -4))
    attributes["activation"] = {"name": "relu"}
    residual = np.array([[[[5, 4], [3, 10]]]], np.float32)
    bias = np.array([1], np.float32)
    y = run("conv2d", [x, residual], attributes, weight=weight, bias=bias)
    np.testing.assert_array_equal(y, [[[[2, 1], [0, 7]]]])


@pytest.mark.parametrize("stride,padding,dilation,groups", [(1, 1, 1, 1), (2, 0, 1, 2), (1, 2, 2, 4), (3, 1, 1, 1)])
def test_convolution_is_torchs(stride, padding, dilation, groups):
    x, weight, bias = numbers(2, 4, 9, 8), numbers(8, 4 // groups, 3, 3, seed=1), numbers(8, seed=2)
    two = {"stride": [stride] * 2, "padding": [padding] * 2, "dilation": [dilation] * 2}
    expected = torch.conv2d(*map(torch.from_numpy, (x, weight, bias)), stride, padding, dilation, groups)
    attributes = {**two, "groups": groups, "activation": None}
    close(run("conv2d", [x], attributes, weight=weight, bias=bias), expected)
    close(compiled("conv2d", [x], attributes, weight=weight, bias=bias), expected)


@pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")
@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 5),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    residual=st.booleans(),
    seed=st.integers(0, 99),
)
def test_depthwise_convolution_is_the_plain_one(channels, kernel, stride, padding, dilation, density, residual, seed):
    from gossamer.engine.depthwise import Depthwise

    rng = np.random.default_rng(seed)
    weight = numbers(channels, 1, *kernel, seed=seed) * (rng.random((channels, 1, *kernel)) < density)
    attributes = {"stride": list(stride), "padding": list(padding), "dilation": [dilation] * 2, "groups": channels}
    attributes["activation"] = {"name": "relu"}
    x, bias = numbers(2, channels, 9, 19, seed=seed), numbers(channels, seed=seed)
    plain = run("conv2d", [x], attributes | NONE, weight=weight, bias=bias)
    inputs = [x, plain] if residual else [x]
    around = tuple(max(p, (k - 1) * dilation - p) for p, k in zip(padding, kernel, strict=True))
    image, out = kernels.allocate(x.shape, around), kernels.allocate(plain.shape)
    image[...] = x
    layer = Depthwise(Node("conv2d", "y", [], {}, attributes), weight, bias)
    layer.bind(image, out, plain if residual else None)()
    close(out, run("conv2d", inputs, attributes, weight=weight, bias=bias))


def test_linear_is_torchs_on_rows_and_on_sequences():
    weight, bias = numbers(5, 7, seed=1), numbers(5, seed=2)
    for x in (numbers(3, 7), numbers(2, 4, 7)):
        expected = functional.linear(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias))
        close(run("linear", [x], NONE, weight=weight, bias=bias), expected)
        close(compiled("linear", [x], NONE, weight=weight, bias=bias), expected)
        close(compiled("linear", [x, expected.numpy()], NONE, weight=weight, bias=bias), expected * 2)


def test_scaling_by_hand():
    x = np.ones((1, 2, 1, 2), np.float32)
    scale, shift = np.array([2, 3], np.float32), np.array([-1, -4], np.float32)
    attributes = {"activation": {"name": "relu"}}
    for result in (run, compiled):
        y = result("scale_shift", [x], attributes, scale=scale, shift=shift)
        np.testing.assert_array_equal(y, [[[[1, 1]], [[0, 0]]]])
        y = result("scale_shift", [x, x], attributes, scale=scale, shift=shift)
        np.testing.assert_array_equal(y, [[[[2, 2]], [[0, 0]]]])


@pytest.mark.parametrize("function,expected", [("add", 8), ("subtract", 4), ("multiply", 12), ("divide", 3)])
def test_two_operands(function, expected):
    x, other = np.full((2, 3, 4, 5), 6, np.float32), np.full((2, 3, 4, 5), 2, np.float32)
    attributes = {"function": function, "activation": None}
    for result in (run, compiled):
        np.testing.assert_array_equal(result("binary", [x, other], attributes), np.full_like(x, expected))
        gate = other[:, :, :1, :1]
        np.testing.assert_array_equal(result("binary", [x, gate], attributes), np.full_like(x, expected))
        constant = np.float32(2).reshape(1, 1, 1)
        np.testing.assert_array_equal(result("binary", [x], attributes, other=constant), np.full_like(x, expected))
        np.testing.assert_array_equal(
            result("binary", [x[:, 0, 0], other[:, 0, 0]], attributes), x[:, 0, 0] * 0 + expected
        )


def test_a_gate_may_come_first():
    x, gate = numbers(2, 3, 4, 5), numbers(2, 3, 1, 1, seed=1)
    attributes = {"function": "multiply", "activation": {"name": "relu"}}
    np.testing.assert_array_equal(compiled("binary", [gate, x], attributes), np.maximum(x * gate, 0))


def test_max_pooling_by_hand():
    x = np.array([[[[-1, -2, -3], [-4, -5, -6], [-7, -8, -9]]]], np.float32)
    attributes = {"kernel": [2, 2], "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "ceil": False}
    for result in (run, compiled):
        np.testing.assert_array_equal(result("max_pool2d", [x], attributes), [[[[-1, -2], [-4, -5]]]])
    x[0, 0, 1, 1] = np.nan
    np.testing.assert_array_equal(compiled("max_pool2d", [x], attributes), [[[[-1, -2], [-4, np.nan]]]])


@pytest.mark.parametrize("width", [2, 7, 8, 14, 16, 17, 31, 32, 33, 63, 64, 67, 96])
def test_pooling_two_by_two_is_torchs_and_knows_what_is_no_number(width):
    x = numbers(2, 3, 7, width)
    x[1, 2, 3, width // 3], x[0, 1, 4, 0] = np.nan, -np.inf
    attributes = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1], "ceil": False}
    expected = functional.max_pool2d(torch.from_numpy(x), 2)
    np.testing.assert_array_equal(compiled("max_pool2d", [x], attributes), expected)
    assert expected.isnan().sum() == 1


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(4, 11), st.integers(4, 40)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    ceil=st.booleans(),
    average=st.booleans(),
    count=st.booleans(),
)
def test_pooling_is_torchs(size, kernel, stride, padding, dilation, ceil, average, count):
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    x = numbers(2, 3, *size)
    attributes = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding), "ceil": ceil}
    if average:
        expected = functional.avg_pool2d(torch.from_numpy(x), kernel, stride, padding, ceil, count)
        attributes["count_padding"], name = count, "avg_pool2d"
    else:
        if any((k - 1) * dilation >= n + 2 * p for k, n, p in zip(kernel, size, padding, strict=True)):
            dilation = 1
        expected = functional.max_pool2d(torch.from_numpy(x), kernel, stride, padding, dilation, ceil)
        attributes["dilation"], name = [dilation] * 2, "max_pool2d"
    close(run(name, [x], attributes), expected)
    close(compiled(name, [x], attributes), expected)


@pytest.mark.parametrize("size", [[1, 1], [2, 3], [7, 7], [10, 9]])
def test_adaptive_pooling_is_torchs(size):
    x = numbers(2, 3, 5, 7)
    expected = functional.adaptive_avg_pool2d(torch.from_numpy(x), size)
    for result in (run, compiled):
        close(result("adaptive_avg_pool2d", [x], {"size": size}), expected)


@pytest.mark.parametrize("axes,keep", [([2, 3], True), ([2, 3], False), ([1], False)])
def test_mean_is_torchs(axes, keep):
    x = numbers(2, 3, 5, 7)
    for result in (run, compiled):
        close(result("mean", [x], {"axes": axes, "keep": keep}), torch.from_numpy(x).mean(axes, keepdim=keep))


def test_layer_norm_is_torchs_over_the_last_axis_and_over_channels():
    x, weight, bias = numbers(2, 6, 5, 17), numbers(6, seed=1), numbers(6, seed=2)
    last = torch.from_numpy(x).permute(0, 2, 3, 1).contiguous()
    expected = functional.layer_norm(last, (6,), torch.from_numpy(weight), torch.from_numpy(bias), 1e-6)
    for result in (run, compiled):
        y = result("layer_norm", [last.numpy()], {"axes": [3], "epsilon": 1e-6}, weight=weight, bias=bias)
        close(y, expected)
        y = result("layer_norm", [x], {"axes": [1], "epsilon": 1e-6}, weight=weight, bias=bias)
        close(y, expected.permute(0, 3, 1, 2))
        y = result("layer_norm", [x], {"axes": [1], "epsilon": 1e-6})
        close(y, functional.layer_norm(last, (6,), eps=1e-6).permute(0, 3, 1, 2))


def test_softmax_is_torchs():
    x = numbers(2, 3, 5) * 50
    for result in (run, compiled):
        close(result("softmax", [x], {"axis": 1}), torch.softmax(torch.from_numpy(x), 1))


def test_what_only_moves_values():
    x = numbers(2, 6, 4, 5)
    for result in (run, compiled):
        y = result("reshape", [x], {"shape": [-1, 2, 60]})
        np.testing.assert_array_equal(y, x.reshape(2, 2, 60))
        y = result("permute", [x], {"axes": [0, 2, 3, 1]})
        np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1))
        y = result("slice", [x], {"axis": 1, "start": 1, "stop": 6, "step": 2})
        np.testing.assert_array_equal(y, x[:, 1:6:2])
        y = result("slice", [x], {"axis": 2, "start": 0, "stop": 3, "step": 1})
        np.testing.assert_array_equal(y, x[:, :, :3])
        y = result("concat", [x, -x, x], {"axis": 1})
        np.testing.assert_array_equal(y, np.concatenate([x, -x, x], 1))
        y = result("concat", [x, -x], {"axis": 3})
        np.testing.assert_array_equal(y, np.concatenate([x, -x], 3))
        y = result("pad", [x], {"widths": [[0, 0], [0, 0], [1, 0], [0, 2]], "value": 3.0})
        np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=3))
        y = result("channel_shuffle", [x], {"groups": 2})
        np.testing.assert_array_equal(y, x[:, [0, 3, 1, 4, 2, 5]])


@pytest.mark.parametrize(
    "operation,shapes,attributes,tensors",
    [
        ("linear", [(2, 3)], NONE, {"weight": (4, 5)}),
        ("linear", [(2, 3)], NONE, {"weight": (4, 3), "bias": (3,)}),
        ("linear", [(2, 3), (2, 3)], NONE, {"weight": (4, 3)}),
        ("linear", [(2, 3)], NONE, {}),
        ("linear", [(2, 3)], {"activation": {"name": "sin"}}, {"weight": (4, 3)}),
        ("linear", [(2, 3)], {"activation": {"name": "relu", "code": 1}}, {"weight": (4, 3)}),
        ("max_pool2d", [(1, 1, 2, 2)], POOL | {"dilation": [3, 3]}, {}),
        ("max_pool2d", [(1, 1, 4, 4)], POOL | {"dilation": [1, 1], "stride": [0, 1]}, {}),
        ("reshape", [(2, 3)], {"shape": [4, -1]}, {}),
        ("reshape", [(2, 3)], {"shape": [-1, -1]}, {}),
        ("permute", [(2, 3)], {"axes": [0, 0]}, {}),
        ("slice", [(2, 3)], {"axis": 1, "start": 2, "stop": 4, "step": 1}, {}),
        ("concat", [(2, 3, 4), (2, 3, 5)], {"axis": 1}, {}),
        ("pad", [(2, 3)], {"widths": [[0, 0], [0, 2**30]], "value": 0.0}, {}),
        ("binary", [(2, 3)], {"function": "add", "activation": None}, {}),
        ("softmax", [(2, 3)], {"axis": 2}, {}),
        ("softmax", [(2, 3)], {"axis": True}, {}),
        ("softmax", [(2, 3)], {"axis": 1, "more": 2}, {}),
        ("system", [(2, 3)], {}, {}),
    ],
)
def test_what_does_not_fit_is_refused(operation, shapes, attributes, tensors):
    names = [f"x{i}" for i in range(len(shapes))]
    node = Node(operation, "y", names, {role: role for role in tensors}, attributes)
    zeros = {role: np.zeros(shape, np.float32) for role, shape in tensors.items()}
    graph = Graph(dict(zip(names, (shape[1:] for shape in shapes), strict=True)), [node], zeros, "y")
    with pytest.raises(InputError, match="'y'"):
        graph.shapes(2)
