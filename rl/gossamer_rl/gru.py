"""A gated recurrent unit (Cho et al. 2014) along sequences: its steps, and their gradient worked out by hand.

PyTorch's own gradient of the loop is some forty small operations a step; most of their time is none of arithmetic.
"""

from typing import Any

import torch
from torch import Tensor


class Steps(torch.autograd.Function):
    """r, z = σ(g + Uh + c); n = tanh(gₙ + r (Uₙ h + cₙ)); s = (1 − z) n + z h; then h = s, or 0.

    `given` g = Wx + b [steps, n, 3 · width], U [3 · width, width], c [3 · width], the first h [n, width] and `goes_on`
    [steps, n, 1], 0 where an episode ends, so that the next h is 0, else 1, to all s [steps, n, width]. The three parts
    of g, U and c are those of r, z and n.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor, state: Tensor, goes_on: Tensor) -> Tensor:
        """One step after another; kept are the gates, Uₙ h + cₙ, n and h."""
        steps, n, width = len(given), *state.shape
        before, states = given.new_empty(steps, n, width), given.new_empty(steps, n, width)
        gates, back = given.new_empty(steps, n, 2 * width), given.new_empty(steps, n, 3 * width)
        new, turned = given.new_empty(steps, n, width), weight.T
        before[0] = state
        for t in range(steps):
            torch.addmm(bias, before[t], turned, out=back[t])
            torch.add(given[t, :, : 2 * width], back[t, :, : 2 * width], out=gates[t]).sigmoid_()
            torch.addcmul(given[t, :, 2 * width :], gates[t, :, :width], back[t, :, 2 * width :], out=new[t]).tanh_()
            torch.lerp(new[t], before[t], gates[t, :, width:], out=states[t])
            if t + 1 < steps:
                torch.mul(states[t], goes_on[t], out=before[t + 1])
        ctx.save_for_backward(weight, before, gates, back[:, :, 2 * width :], new, goes_on)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """∂s of each step is what it is given there, and what comes back from the step after it.

        All else is a factor that no later step changes: of ∂gₙ (1 − z)(1 − n²), of ∂g_z (h − n) z (1 − z), of ∂g_r
        that of ∂gₙ times (Uₙ h + cₙ) r (1 − r), and of ∂(Uₙ h + cₙ) that of ∂gₙ times r.
        """
        weight, before, gates, back_n, new, goes_on = ctx.saved_tensors
        steps, n, width = before.shape
        r, z = gates.chunk(2, 2)
        of_n = (1 - z) * (1 - new * new)
        of_z = (before - new) * z * (1 - z)
        factors = torch.stack([of_n * back_n * r * (1 - r), of_z, of_n * r], 2)
        ahead, through = torch.empty_like(before), torch.empty_like(factors)
        after = torch.zeros_like(before[0])
        for t in reversed(range(steps)):
            torch.addcmul(gradient[t], after, goes_on[t], out=ahead[t])
            torch.mul(factors[t], ahead[t][:, None], out=through[t])
            after = torch.addmm(ahead[t] * z[t], through[t].view(n, 3 * width), weight)
        flat = through.view(steps * n, 3 * width)
        given = through.clone()
        torch.mul(of_n, ahead, out=given[:, :, 2])
        return given.view(steps, n, 3 * width), flat.T @ before.view(-1, width), flat.sum(0), after, None
