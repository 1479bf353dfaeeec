"""Activations whose outputs are mostly zero."""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError


class TopK(nn.Module):
    """Keeps the `k` largest of each row, after ReLU, and zeroes the rest (Makhzani & Frey 2014; Gao et al. 2024).

    Shapes (…, codes) → (…, codes), at most k non-zeros a row.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k is {k}; at least one code must stay.")
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """ReLU(x) where x is among the k largest of its row, else 0."""
        if self.k >= x.shape[-1]:
            return x.relu()
        values, indices = x.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(x).scatter(-1, indices, values.relu())

    def extra_repr(self) -> str:
        """The k."""
        return f"k={self.k}"


class BatchTopK(nn.Module):
    """Keeps the k · rows largest of a whole batch, so that a row may have more or fewer than k (Bussmann et al. 2024).

    In training a running mean of the smallest value kept becomes the `threshold` that evaluation uses, so that there a
    row's code does not depend on its neighbours.
    """

    threshold: Tensor

    def __init__(self, k: int, momentum: float = 0.01) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k is {k}; at least one code must stay.")
        self.k, self.momentum = k, momentum
        self.register_buffer("threshold", torch.tensor(-1.0))  # negative until the first batch in training

    def forward(self, x: Tensor) -> Tensor:
        """ReLU(x) where x is at least the batch's threshold (training) or the running one (evaluation), else 0."""
        positive = x.relu()
        if not self.training and self.threshold >= 0:
            return positive * (positive > self.threshold)
        count = min(self.k * (positive.numel() // positive.shape[-1]), positive.numel())
        values, indices = positive.flatten().topk(count, sorted=False)
        if self.training:
            with torch.no_grad():
                least = values.min()
                self.threshold.copy_(torch.where(self.threshold < 0, least, self.threshold.lerp(least, self.momentum)))
        return torch.zeros_like(positive).flatten().scatter(0, indices, values).reshape(x.shape)

    def extra_repr(self) -> str:
        """The k."""
        return f"k={self.k}"


class _Jump(torch.autograd.Function):
    """x · H(x − θ), with the straight-through gradient of a rectangular window of width ε for θ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.bandwidth = bandwidth
        return x * (x > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        x, threshold = ctx.saved_tensors
        window = ((x - threshold).abs() < ctx.bandwidth / 2).to(x.dtype)
        to_threshold = (-threshold / ctx.bandwidth * window * gradient).flatten(0, -2).sum(0)
        return gradient * (x > threshold), to_threshold, None


class JumpReLU(nn.Module):
    """x where x exceeds a learned threshold of its code, else 0 (Rajamanoharan et al. 2024).

    Shapes (…, codes) → (…, codes); θ = exp(log_threshold) > 0; ∂/∂θ ≈ −θ/ε · [|x − θ| < ε/2].
    """

    def __init__(self, codes: int, threshold: float = 0.001, bandwidth: float = 0.001) -> None:
        super().__init__()
        if threshold <= 0 or bandwidth <= 0:
            raise InputError(f"threshold is {threshold} and bandwidth is {bandwidth}; both must be positive.")
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((codes,), threshold).log())

    def forward(self, x: Tensor) -> Tensor:
        """x · H(x − θ)."""
        result = _Jump.apply(x.relu(), self.log_threshold.exp(), self.bandwidth)
        assert isinstance(result, Tensor)
        return result
