"""What the compiled forms of operations are made of: the kernels over images, where there is Numba.

A form, an entry's `bind`, returns NotImplemented for arrays that it does not take; they are left to the reference.
"""

from typing import Any

import numpy as np

from gossamer.kernels import Activation

try:
    from gossamer.codes import loops
    from gossamer.kernels import images
    from gossamer.kernels.attention import attention
    from gossamer.kernels.copies import plain, splitting
    from gossamer.kernels.products import transposing
    from gossamer.kernels.tasks import Program
except ImportError:  # no Numba: the plain references do the work
    attention: Any = None
    loops: Any = None
    images: Any = None
    plain: Any = None
    splitting: Any = None
    transposing: Any = None
    Program: Any = None

__all__ = [
    "Program",
    "as_pixels",
    "as_rows",
    "attending",
    "copying",
    "fit",
    "function",
    "images",
    "loops",
    "plain",
    "scaling",
    "splitting",
    "turning",
]


def fit(*arrays: np.ndarray) -> bool:
    """Say whether the compiled loops take these arrays: images with adjacent columns."""
    rows = all(a.ndim == 4 and (a.strides[3] == 4 or a.shape[3] == 1) and a.dtype == np.float32 for a in arrays)
    return images is not None and rows and all(a.size for a in arrays)


def function(activation: dict[str, Any] | None) -> Activation:
    """Return an activation in JSON form, or the identity."""
    return Activation(**activation) if activation else Activation()


def scaling(
    x: np.ndarray,
    residual: np.ndarray | None,
    out: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    activation: dict[str, Any] | None,
) -> Any:
    """Return the call that sets out to activation(scale · x + shift + residual), scale and shift by channel."""
    if not fit(x, out, *([] if residual is None else [residual])):
        return NotImplemented
    return Program([images.scale(x, residual, out, scale, shift, function(activation))])


def as_rows(x: np.ndarray) -> np.ndarray:
    """Return a contiguous array that is no image as one row of an image."""
    return x if x.ndim == 4 or not x.flags.c_contiguous else x.reshape(1, 1, 1, -1)


def as_pixels(x: np.ndarray) -> np.ndarray:
    """Return a contiguous array as images of one pixel, whose channels are its last axis; others as they are."""
    return x.reshape(-1, x.shape[-1], 1, 1) if x.flags.c_contiguous else x


def copying(*pairs: tuple[np.ndarray, np.ndarray]) -> Any:
    """Return the call that copies to each target its source, unless that already lies there; None if all do."""
    apart = [(target, source) for target, source in pairs if target.ctypes.data != source.ctypes.data]
    if apart and all(fit(target, source) for target, source in apart):
        return Program([splitting(*plain(source), source, target) for target, source in apart])

    def copy() -> None:
        for target, source in apart:
            np.copyto(target, source)

    return copy if apart else None


def turning(x: np.ndarray, out: np.ndarray) -> Any:
    """Return the call that sets out to x with its last two axes exchanged."""
    pairs = [(a, a.reshape(-1, *a.shape[-2:])) for a in (x, out)]
    views = all(np.may_share_memory(a, matrices) for a, matrices in pairs)
    rows = all(a.strides[-1] == 4 and a.dtype == np.float32 for a in (x, out))
    if transposing is None or not x.size or not views or not rows:
        return copying((out, x.swapaxes(-1, -2)))
    return Program([transposing(*(matrices for _, matrices in pairs))])


def attending(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, mask: np.ndarray | None, attributes: dict[str, Any]
) -> Any:
    """Return the call of attention on heads (batch, heads, tokens, size); a mask is (…, keys, queries), added."""
    if attention is None or (mask is not None and (mask.strides[3] != 4 or mask.shape[3] != q.shape[2])):
        return NotImplemented
    task = attention(q, k, v, out, scale=attributes["scale"], causal=attributes["causal"], mask=mask)
    return NotImplemented if task is None else Program([task])
