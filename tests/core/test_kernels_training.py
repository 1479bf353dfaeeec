"""The kernels of both gradients against their NumPy twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import kernels
from gossamer.kernels import reference
from gossamer.kernels.geometry import Geometry
from gossamer.kernels.layout import Floats

pytestmark = pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    size=st.tuples(st.integers(6, 15), st.integers(7, 15)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    images=st.one_of(st.integers(1, 12), st.sampled_from((16, 32))),  # few, or whole vectors of small ones
    groups=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    block=st.sampled_from((1, 4)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_convolutions_and_their_gradients(
    kernel, size, stride, padding, dilation, images, groups, channels, block, threads, seed
):
    from gossamer.kernels import training

    rng = np.random.default_rng(seed)
    shape = (groups * channels[0] * block, channels[1], *kernel)
    mask = np.repeat(rng.random((shape[0] // block, *shape[1:])) < 0.3, block, axis=0)
    values, bias = rng.standard_normal(mask.sum(), np.float32), rng.standard_normal(shape[0], np.float32)
    weight = np.zeros(shape, np.float32)
    weight[mask] = values
    geometry = (stride, padding, dilation, groups)
    structure = training.Structure(np.flatnonzero(mask), Geometry(shape, *geometry))
    x = rng.standard_normal((images, groups * channels[1], *size), np.float32)
    expected = reference.conv2d(x, weight, bias, *geometry)
    gradient = rng.standard_normal(expected.shape, np.float32)
    out, to_x, to_values = np.empty(expected.shape, np.float32), np.empty_like(x), np.zeros_like(values)
    for _ in range(2):
        training.convolve(structure, *map(Floats.of, (values, bias, x, out)), threads)
        training.convolve_back(structure, *map(Floats.of, (values, x, gradient, to_x, to_values)), threads)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        back = reference.conv2d_input(gradient, weight, x.shape, *geometry)
        np.testing.assert_allclose(to_x, back, rtol=1e-4, atol=1e-4)
        whole = reference.conv2d_weight(gradient, x, kernel, *geometry)
        np.testing.assert_allclose(to_values, whole[mask], rtol=1e-4, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 300),
    inputs=st.integers(1, 60),
    outputs=st.integers(1, 15),
    block=st.sampled_from((1, 2, 4, 8)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_and_their_gradients(n, inputs, outputs, block, threads, seed):
    from gossamer.kernels import training

    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random((outputs, inputs)) < 0.3, block, axis=0)
    values, bias = rng.standard_normal(mask.sum(), np.float32), rng.standard_normal(len(mask), np.float32)
    weight = np.zeros(mask.shape, np.float32)
    weight[mask] = values
    structure = training.Structure(np.flatnonzero(mask), Geometry((*mask.shape, 1, 1)))
    x, gradient = rng.standard_normal((n, inputs), np.float32), rng.standard_normal((n, len(mask)), np.float32)
    out, to_x, to_values = np.empty_like(gradient), np.empty_like(x), np.zeros_like(values)
    training.multiply(structure, *map(Floats.of, (values, bias, x, out)), threads)
    training.multiply_back(structure, *map(Floats.of, (values, x, gradient, to_x, to_values)), threads)
    np.testing.assert_allclose(out, reference.linear(x, weight, bias), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_x, gradient @ weight, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_values, (gradient.T @ x)[mask], rtol=1e-4, atol=1e-3)


def test_twins_of_gradients_are_derivatives():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 2, 3, 2))
    geometry = ((2, 1), (1, 2), (1, 2), 2)
    gradient = rng.standard_normal(reference.conv2d(x, weight, None, *geometry).shape)
    step, change = 1e-6, rng.standard_normal(x.shape)
    moved = reference.conv2d(x + step * change, weight, None, *geometry) - reference.conv2d(
        x - step * change, weight, None, *geometry
    )
    slope = (moved * gradient).sum() / (2 * step)
    back = reference.conv2d_input(gradient, weight, x.shape, *geometry)
    assert slope == pytest.approx((back * change).sum(), rel=1e-6)
    change = rng.standard_normal(weight.shape)
    grown = reference.conv2d_weight(gradient, x, (3, 2), *geometry)
    linear = (reference.conv2d(x, change, None, *geometry) * gradient).sum()
    assert linear == pytest.approx((grown * change).sum(), rel=1e-9)


def test_gradients_are_the_same_for_every_number_of_threads():
    from gossamer.kernels import training

    rng = np.random.default_rng(0)
    mask = rng.random((12, 6, 3, 3)) < 0.3
    geometry = Geometry(mask.shape, padding=(1, 1))
    values, x = rng.standard_normal(mask.sum(), np.float32), rng.standard_normal((19, 6, 9, 9), np.float32)
    gradient = rng.standard_normal((19, 12, 9, 9), np.float32)
    found = []
    for threads in (1, 2, 3, 20):
        structure = training.Structure(np.flatnonzero(mask), geometry)
        to_x, to_values = np.empty_like(x), np.empty_like(values)
        training.convolve_back(structure, *map(Floats.of, (values, x, gradient, to_x, to_values)), threads)
        found.append((to_x, to_values))
    assert all(np.array_equal(a, b) for other in found for a, b in zip(found[0], other, strict=True))


def test_a_bias_is_forgotten():
    from gossamer.kernels import training

    structure = training.Structure(np.arange(4), Geometry((2, 2, 1, 1)))
    values, bias, x, out = np.ones(4), np.arange(2.0), np.ones((3, 2, 5, 5)), np.empty((3, 2, 5, 5))
    values, bias, x, out = (a.astype(np.float32) for a in (values, bias, x, out))
    given, places = Floats.of(values), (Floats.of(x), Floats.of(out))
    for some, expected in ((None, [2, 2]), (Floats.of(bias), [2, 3]), (None, [2, 2])):
        training.convolve(structure, given, some, *places)
        np.testing.assert_array_equal(out, np.broadcast_to(np.float32(expected)[:, None, None], out.shape))


def test_memory_of_other_arrays_is_refused():
    for array in (np.zeros((2, 4), np.float32)[:, ::2], np.zeros(3)):
        with pytest.raises(ValueError, match="contiguous float32"):
            Floats.of(array)
