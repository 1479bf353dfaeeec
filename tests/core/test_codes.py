import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import kernels

if not kernels.available():
    pytest.skip("Numba is not installed", allow_module_level=True)

from gossamer.codes import loops, ops, reference


def problem(seed: int, n: int = 9, count: int = 70, width: int = 13):
    """Rows with from none to five codes each, x, and a dictionary."""
    draw = np.random.default_rng(seed)
    chosen = [np.sort(draw.choice(count, draw.integers(0, 6), replace=False)) for _ in range(n)]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in chosen])]).astype(np.int64)
    atoms = np.concatenate(chosen).astype(np.int32)
    normal = lambda *shape: draw.standard_normal(shape).astype(np.float32)  # noqa: E731
    return normal(len(atoms)), atoms, starts, normal(n, width), normal(count, width)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 4))
def test_the_largest_are_those_of_the_reference(seed, width, threads):
    draw = np.random.default_rng(seed)
    k = int(draw.integers(1, width + 1))
    h = draw.permuted(np.arange(5 * width, dtype=np.float32).reshape(5, width) - width, axis=1)
    found, expected = ((np.empty((5, k), np.float32), np.empty((5, k), np.int32)) for _ in range(2))
    loops.largest(h, k, *found, threads)
    reference.largest(h, k, *expected)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


def test_of_equal_codes_the_first_are_taken():
    h = np.ones((1, 100), np.float32)
    values, atoms = np.empty((1, 3), np.float32), np.empty((1, 3), np.int32)
    loops.largest(h, 3, values, atoms)
    assert atoms.tolist() == [[0, 1, 2]] and values.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_products_are_those_of_the_reference(seed, threads):
    values, atoms, starts, x, dictionary = problem(seed)
    for name, shape in (("gather", x.shape), ("products", values.shape)):
        first = (values,) if name == "gather" else (x,)
        found, expected = np.ones(shape, np.float32), np.ones(shape, np.float32)
        getattr(loops, name)(*first, atoms, starts, dictionary, found, threads)
        getattr(reference, name)(*first, atoms, starts, dictionary, expected)
        assert np.allclose(found, expected, atol=1e-5), name


@pytest.mark.parametrize("threads", [1, 3])
def test_scattering_is_that_of_the_reference(threads):
    values, atoms, starts, x, dictionary = problem(0)
    order, expected_order = (module.by_atom(atoms, starts, len(dictionary)) for module in (loops, reference))
    for one, other in zip(order, expected_order, strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype
    found, expected = np.ones_like(dictionary), np.ones_like(dictionary)
    loops.scatter(values, *order, x, found, threads)
    reference.scatter(values, *order, x, expected)
    assert np.allclose(found, expected, atol=1e-5)
    assert (found[np.bincount(atoms, minlength=len(found)) == 0] == 0).all()


def test_a_dense_code_by_hand():
    codes = ops.Codes(torch.tensor([2.0, 3.0]), torch.tensor([1, 0], dtype=torch.int32), torch.tensor([0, 1, 1, 2]), 2)
    assert codes.dense().tolist() == [[0, 2], [0, 0], [3, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decoding_is_a_dense_product_with_its_gradients(dtype):
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(6, 20, generator=draw, dtype=dtype) * (torch.rand(6, 20, generator=draw) < 0.2)
    dictionary, bias = torch.randn(20, 7, generator=draw, dtype=dtype), torch.randn(7, generator=draw, dtype=dtype)
    weights = torch.randn(6, 7, generator=draw, dtype=dtype)
    gradients = []
    for sparse in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (z, dictionary, bias)]
        codes = ops.compress(leaves[0], z != 0)
        out = ops.decode(codes, *leaves[1:]) if sparse else leaves[0] @ leaves[1] + leaves[2]
        (out * weights).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for name, one, other in zip(("z", "dictionary", "bias"), *gradients, strict=True):
        expected = other * (z != 0) if name == "z" else other
        assert torch.allclose(one, expected, atol=1e-5), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encoding_is_topk_of_a_linear_layer_with_its_gradients(dtype):
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(5, 8, generator=draw, dtype=dtype), torch.randn(90, 8, generator=draw, dtype=dtype)
    bias, scale = torch.randn(90, generator=draw, dtype=dtype), torch.randn(5, 90, generator=draw, dtype=dtype)
    results = []
    for sparse in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        if sparse:
            z = ops.encode(*leaves, k=4).dense()
        else:
            hidden = torch.nn.functional.linear(*leaves)
            values, atoms = hidden.topk(4, dim=1)
            z = torch.zeros_like(hidden).scatter(1, atoms, values.relu())
        (z * scale).sum().backward()
        results.append([z, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
