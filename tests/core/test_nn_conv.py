"""Convolutions with sparse storage."""

import copy

import pytest
import torch
from torch import nn

from gossamer import InputError, kernels
from gossamer.nn import operators
from gossamer.nn.conv import SparseConv1d, SparseConv2d

LAYERS = {
    "2d": (lambda: nn.Conv2d(6, 8, 3, padding=1), (2, 6, 9, 11)),
    "2d strided, grouped": (lambda: nn.Conv2d(6, 8, (3, 2), (2, 3), (1, 0), groups=2, bias=False), (2, 6, 9, 11)),
    "2d dilated": (lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2), (1, 3, 12, 12)),
    "2d depthwise": (lambda: nn.Conv2d(6, 6, 3, 2, 1, groups=6), (2, 6, 8, 8)),
    "2d pointwise": (lambda: nn.Conv2d(6, 9, 1, 2), (2, 6, 7, 7)),
    "1d": (lambda: nn.Conv1d(6, 8, 5, 2, 2, dilation=2), (2, 6, 30)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    """A masked dense layer, its sparse copy, the mask and an input."""
    generator = torch.Generator().manual_seed(0)
    make, shape = LAYERS[request.param]
    dense = make()
    mask = torch.rand(dense.weight.shape, generator=generator) < 0.4
    kind = SparseConv1d if len(shape) == 3 else SparseConv2d
    sparse = kind.from_dense(dense, mask)
    with torch.no_grad():
        dense.weight.mul_(mask)
    return dense, sparse, mask, torch.randn(shape, generator=generator)


def test_agrees_with_the_masked_dense_layer(case):
    dense, sparse, mask, x = case
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    sparse.wants_dense_grad = True
    y, z = dense(first), sparse(second)
    gradient = torch.randn_like(y)
    y.backward(gradient), z.backward(gradient)
    torch.testing.assert_close(z, y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sparse.values.grad, dense.weight.grad[mask], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sparse.dense_grad, dense.weight.grad, rtol=1e-4, atol=1e-4)
    if dense.bias is not None:
        torch.testing.assert_close(sparse.bias.grad, dense.bias.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sparse(x[0]), y[0].detach(), rtol=1e-5, atol=1e-5)
    assert sparse.to_dense().weight.equal(dense.weight)


def test_channels_last_inputs_are_taken(case):
    dense, sparse, _, x = case
    if x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(sparse(x.requires_grad_()), dense(x), rtol=1e-5, atol=1e-5)


def test_gradients_in_float64(case):
    _, sparse, _, x = case
    sparse = copy.deepcopy(sparse).double()
    x = x.double().requires_grad_()
    parameters = dict(sparse.named_parameters())

    def run(x, *values):
        return torch.func.functional_call(sparse, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters.values()), fast_mode=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiles_and_exports(case):
    _, sparse, _, x = case
    expected = sparse(x)
    torch.testing.assert_close(torch.compile(sparse, fullgraph=True, backend="aot_eager")(x), expected)
    torch.testing.assert_close(torch.export.export(sparse, (x,)).module()(x), expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck, in torch 2.14
def test_the_operators_are_sound():
    sparse = SparseConv2d.from_dense(nn.Conv2d(4, 6, 3, 2, 1, groups=2))
    x, geometry = torch.randn(2, 4, 7, 7), ([6, 2, 3, 3], [2, 2], [1, 1], [1, 1], 2)
    weight = (sparse.values, sparse.positions)
    torch.library.opcheck(torch.ops.gossamer.convolution.default, (x.requires_grad_(), *weight, sparse.bias, *geometry))
    back = (torch.randn(2, 6, 4, 4), x.detach(), sparse.values.detach(), sparse.positions, *geometry, True, True)
    torch.library.opcheck(torch.ops.gossamer.convolution_backward.default, back)


def test_trains_like_the_masked_dense_layer():
    torch.manual_seed(0)
    dense = nn.Conv2d(4, 8, 3, padding=1)
    mask = torch.rand(dense.weight.shape) < 0.2
    sparse = SparseConv2d.from_dense(dense, mask)
    with torch.no_grad():
        dense.weight.mul_(mask)
    optimizers = [torch.optim.Adam(layer.parameters(), 0.01) for layer in (dense, sparse)]
    for _ in range(5):
        x, target = torch.randn(4, 4, 6, 6), torch.randn(4, 8, 6, 6)
        for layer, optimizer in zip((dense, sparse), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(layer(x), target).backward()
            if layer is dense:
                dense.weight.grad.mul_(mask)
            optimizer.step()
    torch.testing.assert_close(sparse.weight, dense.weight.detach(), rtol=1e-4, atol=1e-5)


def test_inputs_of_other_sizes_are_refused():
    sparse = SparseConv2d.from_dense(nn.Conv2d(3, 8, 3))
    for channels in (2, 4, 4096):
        with pytest.raises(InputError, match="not \\(batch, 3, rows, columns\\)"):
            sparse(torch.zeros(1, channels, 8, 8))
    with pytest.raises(InputError, match="2×8 pixels is too small for a kernel of 3×3"):
        sparse(torch.zeros(1, 3, 2, 8))


def test_layers_of_another_kind_are_refused():
    with pytest.raises(InputError, match="Conv1d; SparseConv2d is made from a Conv2d"):
        SparseConv2d.from_dense(nn.Conv1d(2, 2, 1))


@pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")
def test_scratch_memory_is_of_few_sizes():
    from gossamer.kernels.training import KEPT

    sparse = SparseConv2d.from_dense(nn.Conv2d(3, 8, 3))
    for size in range(4, 20):
        sparse(torch.zeros(1, 3, size, size))
    assert all(len(entry[-1].idle) <= KEPT for entry in operators.structures.entries.values())


def test_paddings_that_it_has_not_are_refused():
    with pytest.raises(InputError, match="reflect"):
        SparseConv2d.from_dense(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(InputError, match="even kernel"):
        SparseConv2d.from_dense(nn.Conv2d(2, 2, 2, padding="same"))
