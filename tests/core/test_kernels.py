"""The compiled kernels against their NumPy twins."""

import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import InputError, kernels
from gossamer.kernels import packing, reference
from gossamer.kernels.layout import Layout, aligned, halo

pytestmark = pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")


def masks(kind: str, rng, shape) -> np.ndarray | None:
    """A mask of the named pattern for a weight of `shape`."""
    keys = shape[0], int(np.prod(shape[1:]))
    if kind == "dense":
        return None
    if kind == "empty":
        return np.zeros(shape, bool)
    if kind == "unstructured":
        return rng.random(shape) < 0.2
    if kind == "block":
        return np.repeat(rng.random((-(-keys[0] // 4), *shape[1:])) < 0.2, 4, axis=0)[: keys[0]]
    if kind == "fan-in":
        count = max(1, keys[1] // 5)
        return (rng.random(keys).argsort(1) < count).reshape(shape)
    scores = rng.random((keys[0], -(-keys[1] // 4), 4))  # 2 of 4
    return (scores.argsort(2).argsort(2) < 2).reshape(keys[0], -1)[:, : keys[1]].reshape(shape)


KINDS = ("dense", "empty", "unstructured", "block", "fan-in", "2:4")


@st.composite
def convolutions(draw):
    """A convolution with an input that is large enough for it."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [
        draw(st.integers(max(1, (k - 1) * d + 1 - 2 * p), 20))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    groups = draw(st.integers(1, 3))
    return {
        "shape": (groups * draw(st.integers(1, 9)), draw(st.integers(1, 9)), *kernel),
        "size": size,
        "images": draw(st.integers(1, 3)),
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "kind": draw(st.sampled_from(KINDS)),
        "activation": draw(st.sampled_from(list(kernels.ACTIVATIONS))),
        "residual": draw(st.booleans()),
        "halo": draw(st.booleans()),
        "threads": draw(st.integers(1, 3)),
    }


@settings(max_examples=120, deadline=None)
@given(case=convolutions(), seed=st.integers(0, 2**32 - 1))
def test_any_convolution_is_that_of_its_twin(case, seed):
    rng = np.random.default_rng(seed)
    shape, groups = case["shape"], case["groups"]
    weight, bias = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[0], np.float32)
    mask = masks(case["kind"], rng, shape)
    geometry = {name: case[name] for name in ("stride", "padding", "dilation", "groups")}
    activation = kernels.Activation(case["activation"], *((-0.5, 2) if case["activation"] == "clamp" else ()))
    conv = kernels.conv2d(weight, mask, bias=bias, activation=activation, **geometry)
    around = conv.halo if case["halo"] else (0, 0)
    x = kernels.allocate((case["images"], shape[1] * groups, *case["size"]), around)
    x[...] = rng.standard_normal(x.shape)
    out = kernels.allocate(conv.output_shape(x.shape), around)
    residual = None
    if case["residual"]:
        residual = kernels.allocate(out.shape, around)
        residual[...] = rng.standard_normal(out.shape)
    run = conv.bind(x, out, residual, threads=case["threads"])
    expected = reference.conv2d(x, weight if mask is None else weight * mask, bias, **geometry)
    expected = activation(expected if residual is None else expected + residual)
    for _ in range(2):
        run()
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 140),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(list(kernels.ACTIVATIONS)),
    residual=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_linear_layer_is_that_of_its_twin(n, inputs, outputs, kind, activation, residual, threads, seed):
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((outputs, inputs), np.float32), rng.standard_normal(outputs, np.float32)
    mask = masks(kind, rng, weight.shape)
    layer = kernels.linear(weight, mask, bias=bias, activation=activation)
    x, out = rng.standard_normal((n, inputs), np.float32), np.zeros((n, outputs), np.float32)
    other = rng.standard_normal(out.shape, np.float32) if residual else None
    layer.bind(x, out, other, threads=threads)()
    expected = reference.linear(x, weight if mask is None else weight * mask, bias)
    expected = kernels.Activation(activation)(expected if other is None else expected + other)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_what_is_no_number_is_not_hidden(name):
    x = kernels.allocate((2, 3, 5, 5), (1, 1))
    x[0] = np.nan
    conv = kernels.conv2d(np.ones((5, 3, 3, 3), np.float32), padding=1, activation=name)
    out = kernels.allocate(conv.output_shape(x.shape))
    conv.bind(x, out)()
    assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()
    linear = kernels.linear(np.ones((5, 4), np.float32), activation=name)
    rows = np.zeros((2, 4), np.float32)
    rows[0, 3] = np.nan
    out = np.empty((2, 5), np.float32)
    linear.bind(rows, out)()
    assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()


def test_results_go_to_the_interior_alone():
    conv = kernels.conv2d(np.ones((5, 3, 3, 3), np.float32), bias=np.ones(5, np.float32), padding=1)
    layout = Layout((2, 5, 7, 7), (1, 1))
    flat = aligned(layout.size)
    out, x = layout.view(flat), kernels.allocate((2, 3, 7, 7), conv.halo)
    conv.bind(x, out)()
    assert (out == 1).all()
    assert flat.sum() == out.size
    assert x.base is not None and not kernels.allocate((2, 3, 7, 7)).any()


def test_halo_is_known_for_whole_images_alone():
    x = kernels.allocate((2, 6, 5, 5), (1, 2))
    assert halo(x) == (1, 2)
    assert halo(x[1:, 2:4]) == (1, 2)
    assert halo(x[:, ::2]) == (1, 2)
    assert halo(x[..., :4]) is None
    assert halo(x[:, :, 1:]) is None
    assert halo(np.zeros((2, 6, 5, 5), np.float32)) is None


def test_slices_of_channels_are_read_and_written_in_place():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3), np.float32)
    conv = kernels.conv2d(weight, weight > 0, padding=1)
    whole = kernels.allocate((1, 12, 9, 9), (1, 1))
    whole[...] = rng.standard_normal(whole.shape)
    before = whole.copy()
    conv.bind(whole[:, 2:5], whole[:, 6:10])()
    expected = reference.conv2d(before[:, 2:5], weight * (weight > 0), None, padding=(1, 1))
    np.testing.assert_allclose(whole[:, 6:10], expected, atol=1e-5)
    np.testing.assert_array_equal(np.delete(whole, range(6, 10), axis=1), np.delete(before, range(6, 10), axis=1))


def test_groups_of_channels_share_their_positions():
    mask = np.zeros((7, 5), bool)
    mask[[0, 1, 2, 5]] = [1, 0, 1, 0, 0]
    mask[3] = [0, 1, 0, 0, 1]
    weight = np.arange(35, dtype=np.float32).reshape(7, 5, 1)
    weights = packing.Weights.of(weight, mask[..., None], 1, None)
    four, two, one = weights.sections
    assert (four.size, four.channels.tolist(), four.positions.tolist()) == (4, [0, 1, 2, 5], [0, 2])
    assert four.values.tolist() == [[0, 5, 10, 25], [2, 7, 12, 27]]
    assert (two.size, two.channels.tolist(), two.values.tolist()) == (2, [4, 6], [])
    assert (one.size, one.channels.tolist(), one.positions.tolist(), one.values.tolist()) == (
        1,
        [3],
        [1, 4],
        [[16], [19]],
    )
    assert one.starts.tolist() == [[0, 2]]
    assert weights.nonzeros == 10
    np.testing.assert_array_equal(weights.dense(), weight * mask[..., None])


def test_entries_are_sorted_by_blocks_of_input_channels():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 7, 4), np.float32)
    weights = packing.Weights.of(weight, weight > 0, 2, None)
    for blocks in (3, 7, 1):
        weights = weights.in_blocks(blocks)
        first = packing.first_channels(7, blocks)
        for section in weights.sections:
            block, _ = section.entries()
            channel = first[block] + section.positions // 4
            assert (channel < first[block + 1]).all()
        np.testing.assert_array_equal(weights.dense(), weight * (weight > 0))


def test_weights_of_more_positions_than_16_bits_count():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 70_000), np.float32)
    layer = kernels.linear(weight, weight > 2)
    for n in (1, 9):
        x, out = rng.standard_normal((n, 70_000), np.float32), np.zeros((n, 3), np.float32)
        layer.bind(x, out)()
        np.testing.assert_allclose(out, x @ (weight * (weight > 2)).T, rtol=1e-3, atol=1e-3)


def test_memory_is_six_bytes_for_a_non_zero():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64, 3, 3), np.float32)
    mask = rng.random(weight.shape) < 0.1
    conv = kernels.conv2d(weight, mask)
    assert conv.bytes == pytest.approx(6 * mask.sum(), rel=0.05)
    four = np.repeat(mask[::4], 4, axis=0)
    conv = kernels.conv2d(weight, four)
    assert conv.bytes == pytest.approx(4.5 * four.sum(), rel=0.1)


def test_patterns_are_found_in_masks():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 32), np.float32)
    assert kernels.linear(weight).pattern == "dense"
    assert kernels.linear(weight, rng.random(weight.shape) < 0.1).pattern == "unstructured"
    four = np.repeat(rng.random((4, 32)) < 0.2, 4, axis=0)
    assert kernels.linear(weight, four).pattern == "block(4,1)"
    assert kernels.linear(weight, four[rng.permutation(16)]).pattern == "block(4,1)"


def test_shapes_that_do_not_fit_are_refused():
    conv = kernels.conv2d(np.ones((2, 3, 3, 3), np.float32))
    x = np.zeros((1, 3, 5, 5), np.float32)
    with pytest.raises(InputError, match="not \\(batch, 3, rows, columns\\)"):
        conv.output_shape((1, 4, 5, 5))
    with pytest.raises(InputError, match="too small"):
        conv.output_shape((1, 3, 2, 5))
    with pytest.raises(InputError, match="not \\(1, 2, 3, 3\\)"):
        conv.bind(x, np.zeros((1, 2, 5, 5), np.float32))
    with pytest.raises(InputError, match="the residual has shape"):
        conv.bind(x, np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 1, 1), np.float32))
    weight = np.ones((8, 2, 3, 3), np.float32)
    for options in ({"groups": 3}, {"bias": np.zeros(3, np.float32)}):
        with pytest.raises(InputError, match="do not fit a weight"):
            kernels.conv2d(weight, **options)
    with pytest.raises(InputError, match="the mask is float32"):
        kernels.conv2d(weight, weight)
    with pytest.raises(InputError, match="did you mean 'gelu'"):
        kernels.Activation("gelus")
    with pytest.raises(InputError, match="4 features"):
        kernels.linear(np.ones((2, 3), np.float32)).output_shape((1, 4))


def _convolve_many(results, index):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 16, 3, 3), np.float32)
    conv = kernels.conv2d(weight, weight > 1, padding=1)
    x = kernels.allocate((2, 16, 12, 12), conv.halo)
    x[...] = rng.standard_normal(x.shape)
    out = kernels.allocate(conv.output_shape(x.shape), conv.halo)
    run = conv.bind(x, out, threads=3)
    for _ in range(50):
        out[...] = 0
        run()
    expected = reference.conv2d(x, weight * (weight > 1), None, padding=(1, 1))
    results[index] = float(abs(out - expected).max())


def test_callers_may_work_at_the_same_time():
    results = [1.0] * 4
    callers = [threading.Thread(target=_convolve_many, args=(results, i)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert max(results) < 1e-4


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_forked_children_have_threads_of_their_own():
    _convolve_many([1.0], 0)
    context = multiprocessing.get_context("fork")
    results = context.Array("d", [1.0])
    child = context.Process(target=_convolve_many, args=(results, 0))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert results[0] < 1e-4


@pytest.mark.parametrize("threads", [1, 2])
def test_linear_layers_in_turn_may_share_their_scratch_memory(threads):
    rng, scratch = np.random.default_rng(0), kernels.Scratch()
    x = rng.standard_normal((133, 40), np.float32)
    wide, narrow = rng.standard_normal((90, 40), np.float32), rng.standard_normal((40, 90), np.float32)
    between, out = np.zeros((133, 90), np.float32), np.zeros((133, 40), np.float32)
    first = kernels.linear(wide, wide > 0.5, activation="relu", rows=133)
    second = kernels.linear(narrow, narrow > 0.5, rows=133)
    steps = [
        first.bind(x, between, threads=threads, scratch=scratch),
        second.bind(between, out, x, threads=threads, scratch=scratch),  # wants more room than the first
    ]
    scratch.memory[...] = np.nan
    for _ in range(2):
        for step in steps:
            step()
    hidden = np.maximum(x @ (wide * (wide > 0.5)).T, 0)
    np.testing.assert_allclose(between, hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out, hidden @ (narrow * (narrow > 0.5)).T + x, rtol=1e-4, atol=1e-3)
