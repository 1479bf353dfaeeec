"""The plain NumPy twin of every kernel: the oracle of the tests and the fall-back where Numba is missing."""

from collections.abc import Sequence

import numpy as np

Pair = Sequence[int]
"""Numbers for rows and columns."""


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """The cross-correlation (N, O, OH, OW) of x (N, I, H, W) with weight (O, I/groups, KH, KW), in x's dtype."""
    windows = _windows(x, weight.shape[2:], stride, padding, dilation)  # (N, I, OH, OW, KH, KW)
    n, channels, oh, ow, kh, kw = windows.shape
    windows = windows.reshape(n, groups, channels // groups, oh, ow, kh, kw)
    kernels = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, O/groups, I/groups, KH, KW)
    out = np.einsum("ngchwij,gocij->ngohw", windows, kernels, optimize=True)
    out = out.reshape(n, len(weight), oh, ow)
    return out if bias is None else out + bias[:, None, None]


def conv2d_input(
    gradient: np.ndarray,
    weight: np.ndarray,
    shape: Sequence[int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """The gradient to conv2d's input, of shape (N, I, H, W), from the gradient (N, O, OH, OW) to its output."""
    n, channels, h, w = shape
    _, outputs, oh, ow = gradient.shape
    grouped = gradient.reshape(n, groups, outputs // groups, oh, ow)
    kernels = weight.reshape(groups, -1, *weight.shape[1:])
    padded = np.zeros((n, channels, h + 2 * padding[0], w + 2 * padding[1]), gradient.dtype)
    for i, j in np.ndindex(*weight.shape[2:]):
        part = np.einsum("ngohw,goc->ngchw", grouped, kernels[..., i, j], optimize=True).reshape(n, channels, oh, ow)
        _at(padded, (oh, ow), stride, dilation, i, j)[...] += part
    return padded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w]


def conv2d_weight(
    gradient: np.ndarray,
    x: np.ndarray,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """The gradient (O, I/groups, KH, KW) to conv2d's weight from the gradient (N, O, OH, OW) to its output."""
    windows = _windows(x, kernel, stride, padding, dilation)
    n, channels, oh, ow, kh, kw = windows.shape
    windows = windows.reshape(n, groups, channels // groups, oh, ow, kh, kw)
    grouped = gradient.reshape(n, groups, -1, oh, ow)
    out = np.einsum("ngohw,ngchwij->gocij", grouped, windows, optimize=True)
    return out.reshape(gradient.shape[1], channels // groups, kh, kw)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x (N, I) times the transpose of weight (O, I), plus bias (O,)."""
    out = x @ weight.T
    return out if bias is None else out + bias


def _windows(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """The view (N, I, OH, OW, KH, KW) of the patches of x that the kernel meets."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _at(padded: np.ndarray, size: Pair, stride: Pair, dilation: Pair, i: int, j: int) -> np.ndarray:
    """The strided view of the pixels that kernel position (i, j) meets, one for each of `size` output pixels."""
    top, left = i * dilation[0], j * dilation[1]
    rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
    return padded[:, :, rows, left : left + (size[1] - 1) * stride[1] + 1 : stride[1]]
