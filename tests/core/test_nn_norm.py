"""Batch norm by the kernels against PyTorch's own."""

import copy
import pickle

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer import kernels
from gossamer.nn.norm import BatchNorm2d

pytestmark = pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")


def norms(channels, **options):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(channels, **options)
    if plain.affine:
        nn.init.uniform_(plain.weight, 0.5, 1.5)
        nn.init.normal_(plain.bias)
    return plain, BatchNorm2d.of(copy.deepcopy(plain))


@pytest.mark.parametrize("shape", [(32, 3, 40, 30), (4, 70, 4, 4), (2, 5, 1, 1), (3, 1, 7, 7), (1, 300, 3, 5)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"eps": 0.1, "momentum": 0.5}], ids=str)
def test_agrees_with_pytorchs(shape, threads, relu, added, options):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        both, x, other = norms(shape[1], **options), torch.empty(0), None
        for _ in range(2):
            x, gradient = 3 * torch.randn(shape) + torch.randn(shape[1])[:, None, None] * 100, torch.randn(shape)
            inputs = [x.clone().requires_grad_() for _ in both]
            others = [torch.ones(shape).requires_grad_() if added else None for _ in both]
            y = both[0](inputs[0]) if others[0] is None else both[0](inputs[0]) + others[0]
            outputs = [torch.relu(y) if relu else y, both[1](inputs[1], others[1], relu)]
            gradient[y.abs() < 1e-3] = 0  # rounding may say otherwise of what is nearly zero
            for y in outputs:
                y.backward(gradient)
            torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-3)
            if added:
                torch.testing.assert_close(others[1].grad, others[0].grad)
            other = others[0]
        for name, value in both[0].state_dict().items():
            torch.testing.assert_close(both[1].state_dict()[name], value, rtol=1e-4, atol=1e-4)
        for name, value in both[0].named_parameters():
            torch.testing.assert_close(both[1].get_parameter(name).grad, value.grad, rtol=1e-3, atol=1e-3)
        expected = both[0].eval()(x) if other is None else both[0].eval()(x) + other
        found = both[1].eval()(x, other, relu)
        torch.testing.assert_close(found, torch.relu(expected) if relu else expected, rtol=1e-3, atol=1e-3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(8, 3, 28, 28), (2, 70, 2, 2), (3, 5, 4, 66), (2, 4, 5, 6), (4, 9, 7, 7)])
@pytest.mark.parametrize("threads", [1, 2])
def test_pooling_agrees_with_pytorchs(shape, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (plain, own), x = norms(shape[1]), (4 * torch.randn(shape)).round() / 4  # so that many are equal
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        y = plain(inputs[0])
        outputs = torch.nn.functional.max_pool2d(torch.relu(y), 2), own(inputs[1], None, True, True)
        gradient = torch.randn(outputs[0].shape)
        gradient[outputs[0] < 1e-3] = 0  # rounding may say otherwise of what is nearly zero
        for result in outputs:
            result.backward(gradient)
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-3)
        for name, value in plain.named_parameters():
            torch.testing.assert_close(own.get_parameter(name).grad, value.grad, rtol=1e-3, atol=1e-3)
    finally:
        torch.set_num_threads(before)


def test_little_is_lost_where_the_mean_is_far_from_zero():
    norm = norms(2)[1]
    x = torch.randn(64, 2, 8, 8) + 10_000
    norm(x)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.transpose(0, 1).flatten(1).double().var(1).float())


def test_results_are_the_same_for_every_number_of_threads():
    (x, other, gradient), found = torch.randn(3, 8, 37, 6, 6), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            norm, one = norms(37)[1], x.clone().requires_grad_()
            y, pooled = norm(one, other, True), norm(one, None, True, True)
            (y.sum() + (y * gradient).sum() + pooled.square().sum()).backward()
            found.append((y, pooled, one.grad, norm.weight.grad, norm.running_var))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("change", ["double", "channels last", "no statistics", "no parameters", "half"])
def test_leaves_the_rest_to_pytorch(change):
    options = {"no statistics": {"track_running_stats": False}, "no parameters": {"affine": False}}
    plain, own = norms(4, **options.get(change, {}))
    x = torch.randn(2, 4, 3, 3)
    if change == "double":
        plain, own, x = plain.double(), own.double(), x.double()
    if change == "half":
        x = x.bfloat16()
    if change == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    y = own(x, x, True)
    torch.testing.assert_close(y, torch.relu(plain(x) + x))
    assert y.is_contiguous(memory_format=torch.channels_last) == (change == "channels last")


def test_refuses_what_pytorch_refuses():
    own = norms(4)[1]
    with pytest.raises(ValueError, match="4D"):
        own(torch.randn(4, 4))
    with pytest.raises(ValueError, match="more than 1 value"):
        own(torch.randn(1, 4, 1, 1))


def test_conversion_takes_norms_along_and_back():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3))
    weight, keys, x = model[1].weight, list(model.state_dict()), torch.randn(2, 3, 6, 6)
    masking = gs.sparsify(model, 0.5)
    expected = copy.deepcopy(model)(x)
    gs.nn.convert(model, masking)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert type(model[1]) is BatchNorm2d and model[1].weight is weight
    assert type(pickle.loads(pickle.dumps(model[1]))) is BatchNorm2d
    gs.nn.convert(model)
    assert type(model[1]) is nn.BatchNorm2d and model[1].weight is weight
    assert type(model[2]) is nn.ReLU and model[2].inplace
    assert list(model.state_dict()) == keys
