"""Attention bound to arrays of any strides, as a task."""

import numpy as np

from gossamer.kernels import attention_loops
from gossamer.kernels.attention_loops import QUERIES, ROWS, Attention
from gossamer.kernels.tasks import Task

FEWEST = 8
"""Queries, keys or features below which the kernel's vectors and blocks would be all but empty."""


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    *,
    scale: float,
    causal: bool = False,
    mask: np.ndarray | None = None,
) -> Task | None:
    """The task of `out = softmax(scale · q kᵀ + mask) v`; None where these arrays are too small for it.

    q, out (batch, heads, queries, size) and k, v (batch, groups, keys, size) are float32 of any strides; each group
    serves heads / groups heads. mask, broadcast to (batch, heads, keys, queries), is added; its queries are adjacent.
    With `causal` no query sees later keys. A query that sees no key gives 0.
    """
    if min(q.shape[2], k.shape[2], q.shape[3]) < max(FEWEST, ROWS):
        return None
    table = _table(q, k, v, out, scale)
    batch, heads, length, _ = q.shape
    if mask is not None:
        mask = np.broadcast_to(mask, (batch, heads, k.shape[2], length))
        table[Attention.MASK : Attention.MASK_KEY + 1] = mask.ctypes.data, *mask.strides[:3]
    table[Attention.CAUSAL] = causal
    items = batch * heads * -(-length // QUERIES)
    return Task(attention_loops.attend, table, items, keep=(q, k, v, out, mask))


def attention_of_one(q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, scale: float) -> Task:
    """The task of `out = softmax(scale · q kᵀ) v` for one query, (batch, heads, 1, size), to all keys.

    Features are adjacent; the rest is as for `attention`. Its table's column KEYS, how many keys there are, may be
    changed between runs.
    """
    return Task(attention_loops.attend_once, _table(q, k, v, out, scale), q.shape[0] * q.shape[1], keep=(q, k, v, out))


def _table(q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, scale: float) -> np.ndarray:
    table = np.zeros(Attention.SIZE, np.int64)
    for column, array in ((Attention.Q, q), (Attention.K, k), (Attention.V, v), (Attention.OUT, out)):
        table[column : column + 5] = array.ctypes.data, *array.strides
    table[Attention.HEADS], table[Attention.GROUP] = q.shape[1], q.shape[1] // k.shape[1]
    table[Attention.LENGTH], table[Attention.KEYS], table[Attention.FEATURES] = q.shape[2], k.shape[2], q.shape[3]
    table.view(np.float32)[2 * Attention.SCALE] = scale
    return table
