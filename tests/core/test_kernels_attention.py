"""The compiled attention and norms against their plain twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.engine.operations import OPERATIONS

pytest.importorskip("numba", reason="Numba is not installed")

from gossamer.kernels import images
from gossamer.kernels.attention import attention, attention_of_one
from gossamer.kernels.attention_loops import Attention
from gossamer.kernels.tasks import Program


def heads(rng: np.random.Generator, batch: int, count: int, tokens: int, size: int, turned: bool) -> np.ndarray:
    """Heads (batch, count, tokens, size) whose tokens, if turned, are adjacent."""
    shape = (batch, count, size, tokens) if turned else (batch, count, tokens, size)
    x = rng.standard_normal(shape, np.float32)
    return x.swapaxes(2, 3) if turned else x


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 2),
    groups=st.integers(1, 2),
    group=st.integers(1, 3),
    queries=st.integers(8, 75),
    keys=st.integers(8, 75),
    size=st.integers(8, 36),
    turned=st.booleans(),
    causal=st.booleans(),
    masked=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_attention_is_that_of_its_twin(
    batch, groups, group, queries, keys, size, turned, causal, masked, threads, seed
):
    rng = np.random.default_rng(seed)
    q = heads(rng, batch, groups * group, queries, size, turned)
    k, v = (heads(rng, batch, groups, keys, size, turned) for _ in range(2))
    mask = np.where(rng.random((batch, 1, keys, queries)) < 0.3, -np.inf, 0).astype(np.float32)
    mask[..., rng.integers(queries)] = -np.inf  # a query that sees no key
    out = np.full_like(q, np.nan)
    task = attention(q, k, v, out, scale=0.3, causal=causal, mask=mask if masked else None)
    assert task is not None
    Program([task], threads)()
    masks = [mask.swapaxes(2, 3)] if masked else []
    expected = OPERATIONS["attention"].run([q, k, v, *masks], {}, {"scale": 0.3, "causal": causal})
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-6)


def test_attention_by_hand():
    q = np.zeros((1, 1, 8, 8), np.float32)
    k, v = np.zeros_like(q), np.arange(8, dtype=np.float32)[:, None] * np.ones((1, 1, 8, 8), np.float32)
    out = np.empty_like(q)
    task = attention(q, k, v, out, scale=1.0, causal=True)
    assert task is not None
    Program([task])()
    np.testing.assert_allclose(out[0, 0, :, 0], np.arange(8) / 2, rtol=1e-6)  # each the mean of those before it
    q[...], k[0, 0, 5] = 1, 100
    Program([attention(q, k, v, out, scale=1.0) or pytest.fail("too small")])()
    np.testing.assert_array_equal(out, 5.0)
    assert attention(q[:, :, :7], k, v, out[:, :, :7], scale=1.0) is None


@pytest.mark.parametrize("keys", [1, 5, 70])
def test_attention_of_one_query_is_that_of_its_twin(keys: int):
    rng = np.random.default_rng(0)
    q, k, v = heads(rng, 2, 4, 1, 10, False), heads(rng, 2, 2, 70, 10, False), heads(rng, 2, 2, 70, 10, False)
    out = np.full_like(q, np.nan)
    task = attention_of_one(q, k, v, out, 0.3)
    task.table[Attention.KEYS] = keys
    Program([task], 2)()
    expected = OPERATIONS["attention"].run([q, k[:, :, :keys], v[:, :, :keys]], {}, {"scale": 0.3, "causal": False})
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-6)


def test_what_is_no_number_is_not_hidden_by_attention():
    q, k, v = np.ones((3, 1, 1, 9, 8), np.float32)
    q[0, 0, 3] = np.nan
    out = np.empty_like(q)
    Program([attention(q, k, v, out, scale=1.0) or pytest.fail("too small")])()
    assert np.isnan(out[0, 0, 3]).all() and np.isfinite(np.delete(out, 3, 2)).all()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", [(2, 6, 3, 5), (1, 9, 1, 70), (2, 3, 2, 129)])
def test_norms_over_channels_are_those_of_their_twins(shape, centred):
    rng = np.random.default_rng(0)
    x, out = 3 * rng.standard_normal(shape, np.float32) + 1, np.zeros(shape, np.float32)
    weight, bias = rng.standard_normal((2, shape[1]), np.float32)
    bias = bias if centred else np.zeros_like(bias)
    Program([images.layer_norm(x, out, weight, bias, 1e-5, centred)], 2)()
    tensors = {"weight": weight, "bias": bias} if centred else {"weight": weight}
    operation = OPERATIONS["layer_norm" if centred else "rms_norm"]
    np.testing.assert_allclose(out, operation.run([x], tensors, {"axes": [1], "epsilon": 1e-5}), rtol=1e-4, atol=1e-5)
