"""A gated recurrent unit (Cho et al. 2014) along sequences: its steps, and their gradient worked out by hand.

PyTorch's own gradient of the loop is some forty small operations a step, most of whose time is none of arithmetic. Here
a step is one product and one compiled loop over what is elementwise.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

_loop = njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy", nogil=True)
LARGEST = 6.5
"""beyond it tanh is 1 to 5 · 10⁻⁶"""
ABOVE = np.array([34459425, 4729725, 135135, 990, 1]) / 34459425
BELOW = np.array([34459425, 16216200, 945945, 13860, 45]) / 34459425
"""of tanh x = x · above(x²) / below(x²): nine levels of Lambert's fraction x / (1 + x² / (3 + x² / (5 + …)))"""


@_loop
def _tanh(x: Any, constants: tuple[Any, ...]) -> Any:
    """tanh(x) to 5 · 10⁻⁶; constants are ABOVE and BELOW and LARGEST, of the type of x."""
    x = min(max(x, -constants[10]), constants[10])
    z = x * x
    above = (((constants[4] * z + constants[3]) * z + constants[2]) * z + constants[1]) * z + constants[0]
    below = (((constants[9] * z + constants[8]) * z + constants[7]) * z + constants[6]) * z + constants[5]
    return x * above / below


@_loop
def _forward(
    t: int,
    given: np.ndarray,
    back: np.ndarray,
    before: np.ndarray,
    goes_on: np.ndarray,
    gates: np.ndarray,
    new: np.ndarray,
    states: np.ndarray,
    constants: tuple[Any, ...],
) -> None:
    """All of step t after `back` = Uh + c; each loop writes one array, so that it becomes vector code."""
    width, half = before.shape[2], constants[11]
    for i in range(before.shape[1]):
        for j in range(2 * width):
            gates[t, i, j] = half + half * _tanh(half * (given[t, i, j] + back[t, i, j]), constants)
        for j in range(width):
            new[t, i, j] = _tanh(given[t, i, 2 * width + j] + gates[t, i, j] * back[t, i, 2 * width + j], constants)
        for j in range(width):
            states[t, i, j] = new[t, i, j] + gates[t, i, width + j] * (before[t, i, j] - new[t, i, j])
        if t + 1 < len(before):
            for j in range(width):
                before[t + 1, i, j] = states[t, i, j] * goes_on[t, i, 0]


@_loop
def _backward(
    t: int,
    gradient: np.ndarray,
    after: np.ndarray,
    goes_on: np.ndarray,
    gates: np.ndarray,
    new: np.ndarray,
    before: np.ndarray,
    back: np.ndarray,
    given: np.ndarray,
    through: np.ndarray,
    carried: np.ndarray,
    one: Any,
) -> None:
    """The gradients of step t: of g to `given`, of Uh + c to `through`, and what of h's goes by z to `carried`.

    `after` is the gradient of the h that the step gave to the next.
    """
    width = before.shape[2]
    for i in range(before.shape[1]):
        for j in range(width):
            carried[i, j] = gradient[t, i, j] + after[i, j] * goes_on[t, i, 0]
        for j in range(width):
            slope = (one - gates[t, i, width + j]) * (one - new[t, i, j] * new[t, i, j])
            given[t, i, 2 * width + j] = slope * carried[i, j]
        for j in range(width):
            through[t, i, 2 * width + j] = given[t, i, 2 * width + j] * gates[t, i, j]
        for j in range(width):
            slope = back[t, i, 2 * width + j] * (one - gates[t, i, j])
            given[t, i, j] = through[t, i, 2 * width + j] * slope
        for j in range(width):
            slope = (before[t, i, j] - new[t, i, j]) * (one - gates[t, i, width + j])
            given[t, i, width + j] = slope * gates[t, i, width + j] * carried[i, j]
        for j in range(2 * width):
            through[t, i, j] = given[t, i, j]
        for j in range(width):
            carried[i, j] *= gates[t, i, width + j]


class Steps(torch.autograd.Function):
    """r, z = σ(g + Uh + c); n = tanh(gₙ + r (Uₙ h + cₙ)); s = (1 − z) n + z h; then h = s, or 0.

    `given` g = Wx + b [steps, n, 3 · width], U [3 · width, width], c [3 · width], the first h [n, width] and `goes_on`
    [steps, n, 1], 0 where an episode ends, so that the next h is 0, else 1, to all s [steps, n, width], on the CPU. The
    three parts of g, U and c are those of r, z and n.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor, state: Tensor, goes_on: Tensor) -> Tensor:
        """One step after another; kept are the gates, Uh + c, n and h."""
        steps, n, width = len(given), *state.shape
        before, states, new = (given.new_empty(steps, n, width) for _ in range(3))
        gates, back = given.new_empty(steps, n, 2 * width), given.new_empty(steps, n, 3 * width)
        before[0] = state
        parts = (given.detach(), back, before, goes_on, gates, new, states)
        arrays, turned = [part.numpy() for part in parts], weight.T.contiguous()
        constants = tuple(np.array([*ABOVE, *BELOW, LARGEST, 0.5], arrays[0].dtype))
        for t, (h, out) in enumerate(zip(before.unbind(), back.unbind(), strict=True)):
            torch.addmm(bias, h, turned, out=out)
            _forward(t, *arrays, constants)  # pyright: ignore[reportCallIssue]
        ctx.save_for_backward(weight, before, gates, back, new, goes_on)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step before another: ∂s of each is what it is given there, and what comes back from the step after it."""
        weight, before, gates, back, new, goes_on = ctx.saved_tensors
        steps, n, width = before.shape
        given, through = torch.empty_like(back), torch.empty_like(back)
        after, carried = torch.zeros_like(before[0]), torch.empty_like(before[0])
        parts = (gradient.contiguous(), after, goes_on, gates, new, before, back, given, through, carried)
        arrays = [part.numpy() for part in parts]
        one = arrays[0].dtype.type(1)
        for t, out in reversed(list(enumerate(through.unbind()))):
            _backward(t, *arrays, one)  # pyright: ignore[reportCallIssue]
            torch.addmm(carried, out, weight, out=after)
        flat = through.view(steps * n, 3 * width)
        return given, flat.T @ before.view(-1, width), flat.sum(0), after, None
