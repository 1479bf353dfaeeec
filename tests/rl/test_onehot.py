import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from gossamer_rl.observations import grid_members
from gossamer_rl.onehot import OneHotLinear


def test_a_code_stands_for_its_members():
    members = np.array([[[0, 1], [2, -1]], [[3, -1], [4, 0]]])
    layer = OneHotLinear(members, 1)
    codes = torch.tensor([[0, 0], [1, 1]], dtype=torch.uint8)
    assert layer.one_hot(codes).tolist() == [[1, 1, 0, 1, 0], [1, 0, 1, 0, 1]] == layer.lit(codes.numpy()).tolist()


@pytest.mark.parametrize("rows", [1, 2, 300])
@pytest.mark.parametrize("columns", [50, 3])
def test_the_lookup_equals_the_product_and_so_do_its_gradients(rows, columns):
    generator = torch.Generator().manual_seed(rows)
    layer = OneHotLinear(grid_members()[:columns], 24)
    codes = torch.randint(0, 4, (rows, columns), generator=generator, dtype=torch.uint8)
    before = layer.bias.detach().clone()
    found, twin = layer(codes), linear(layer.one_hot(codes), layer.weight, layer.bias)
    torch.testing.assert_close(found, twin)
    assert torch.equal(layer.bias, before)
    gradient = torch.randn(found.shape, generator=generator)
    ours = torch.autograd.grad(found, [layer.weight, layer.bias], gradient)
    theirs = torch.autograd.grad(twin, [layer.weight, layer.bias], gradient)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_traced_layer_is_the_plain_product():
    layer = OneHotLinear(grid_members(), 8)
    codes = torch.zeros(2, 50, dtype=torch.uint8)
    program = torch.export.export(torch.nn.Sequential(layer), (codes,))
    torch.testing.assert_close(program.module()(codes), layer(codes))
