"""Where the engine keeps its values, and the sums that it joins."""

import numpy as np
import pytest
import torch
from torch import nn

from gossamer import kernels
from gossamer.engine import compile as compile_model
from gossamer.engine import trace
from gossamer.engine.graph import interpret
from gossamer.engine.join import join_sums
from gossamer.engine.plan import LARGEST, most_together, plan
from gossamer.engine.program import build, current_threads
from gossamer.kernels.geometry import Axis, split_layout


class Block(nn.Module):
    """x to relu(last(first(x)) + short(x))."""

    def __init__(self, stride=1, short_stride=1, kernel=1, groups=1):
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, stride, 1)
        self.last = nn.Conv2d(6, 8, kernel, padding=kernel // 2)
        self.short = nn.Conv2d(4, 8, 1, short_stride, groups=groups, bias=False)

    def forward(self, x):
        return torch.relu(self.last(torch.relu(self.first(x))) + self.short(x))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_sum_of_pointwise_convolutions_becomes_one(stride):
    model, x = Block(stride, stride).eval(), torch.randn(2, 4, 13, 16)
    graph = trace(model, x)
    expected = interpret(graph, x.numpy())
    joined = join_sums(graph)
    operations = [node.operation for node in joined.nodes]
    assert operations.count("conv2d") == 2 and operations.count("max_pool2d") == (stride > 1)
    assert joined.tensors[joined.nodes[-1].tensors["weight"]].shape == (8, 10, 1, 1)
    np.testing.assert_allclose(interpret(joined, x.numpy()), expected, rtol=1e-5, atol=1e-6)
    engine = compile_model(model, x)
    np.testing.assert_allclose(engine(x), expected, rtol=1e-4, atol=1e-5)
    assert {row.name for row in engine.report()} in ({"first", "last + short"}, {"first", "short + last"})


@pytest.mark.parametrize("options", [{"kernel": 3}, {"groups": 2}])
def test_other_sums_stay(options):
    graph = join_sums(trace(Block(**options).eval(), torch.randn(2, 4, 8, 8)))
    assert [node.operation for node in graph.nodes] == ["conv2d"] * 3


def test_a_sum_takes_the_memory_of_what_is_added_and_needed_no_more():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

        def forward(self, x):
            x = self.a(x)
            y = self.b(x) + x  # x is read by b as well as added
            return self.c(torch.relu(y)) + y

    model, x = Twice().eval(), torch.randn(1, 4, 8, 8)
    graph = trace(model, x)
    places = {name: value.ctypes.data for name, value in plan(graph, 1).items()}
    sums = [node for node in graph.nodes if len(node.inputs) == 2]
    assert [node.inputs[0] == node.inputs[1] for node in sums] == [True, False]
    assert places[sums[0].name] != places[sums[0].inputs[1]]
    assert places[sums[1].name] == places[sums[1].inputs[1]]
    with torch.no_grad():
        torch.testing.assert_close(compile_model(model, x)(x), model(x))


@pytest.mark.parametrize("kernel,stride,padding", [(7, 2, 3), (3, 2, 1), (5, 3, 2), (1, 2, 0)])
def test_a_stride_finds_its_output_in_rows_as_far_apart_as_its_phases(kernel, stride, padding):
    model = nn.Sequential(nn.Conv2d(3, 4, kernel, stride, padding), nn.MaxPool2d(2))
    graph = trace(model.eval(), torch.zeros(1, 3, 24, 24))
    out = plan(graph, 1)[graph.nodes[0].name]
    axis = Axis(24, kernel, stride, padding, 1)
    assert split_layout(axis, axis, 3, out.strides[2] // 4).pitch == out.strides[2] // 4


@pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")
def test_a_batch_goes_through_in_parts_that_fit_the_cache():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    x = torch.randn(5, 3, 90, 90, generator=torch.Generator().manual_seed(0))
    engine = build(trace(model, x), len(x))  # not `compile`, which calls the engine and may keep the model
    images = (3 + 16) * 91 * 91 + 8 * 88 * 88  # floats, their halos and rounding aside
    assert engine._most == most_together(engine.graph) == (1 << 19) // images == 2
    with torch.no_grad():
        torch.testing.assert_close(engine(x), model(x), rtol=1e-4, atol=1e-5)
    threads = current_threads()
    assert [count for count, _ in engine._prepared] == ([1] if threads <= 2 else [2, 1])  # the rest, and all


@pytest.mark.filterwarnings("ignore:.*stays PyTorch code:UserWarning")
@pytest.mark.parametrize(
    "mixing", [lambda x: x.softmax(0), lambda x: x.flatten(), lambda x: x - x.mean(0, True), lambda x: x.cumsum(0)]
)
def test_what_mixes_a_batch_goes_through_whole(mixing):
    class Mixing(nn.Module):
        def forward(self, x):
            return mixing(torch.relu(x))

    x = torch.randn(3, 1 << 18)
    engine = compile_model(Mixing().eval(), x)
    assert engine._most == LARGEST
    torch.testing.assert_close(engine(x), mixing(torch.relu(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_results_are_the_same_for_every_number_of_threads(batch):
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 16, 3, groups=16)]
    layers += [nn.GELU(), nn.Conv2d(16, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)]
    x = torch.randn(batch, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    engine, before = build(trace(nn.Sequential(*layers).eval(), x[:1]), 1), torch.get_num_threads()
    assert engine._most < 4
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [engine(x), engine(x)]
    finally:
        torch.set_num_threads(before)
    assert all(result.equal(results[0]) for result in results)
