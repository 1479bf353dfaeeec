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
    batch, heads, length, size = q.shape
    groups, keys = k.shape[1:3]
    if min(length, keys, size) < max(FEWEST, ROWS):
        return None
    table = np.zeros(Attention.SIZE, np.int64)
    arrays = {Attention.Q: q, Attention.K: k, Attention.V: v, Attention.OUT: out}
    for column, array in arrays.items():
        table[column : column + 5] = array.ctypes.data, *array.strides
    if mask is not None:
        mask = np.broadcast_to(mask, (batch, heads, keys, length))
        table[Attention.MASK : Attention.MASK_KEY + 1] = mask.ctypes.data, *mask.strides[:3]
    table[Attention.HEADS : Attention.SCALE] = heads, heads // groups, length, keys, size, causal
    table.view(np.float32)[2 * Attention.SCALE] = scale
    items = batch * heads * -(-length // QUERIES)
    return Task(attention_loops.attend, table, items, keep=(*arrays.values(), mask))
