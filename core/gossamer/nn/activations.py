"""Activations whose outputs are mostly zero."""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import of_type, positive, whole, within
from gossamer.nn.operators import top_k


class TopK(nn.Module):
    """Keeps the `k` largest of each row, after ReLU, and zeroes the rest (Makhzani & Frey 2014; Gao et al. 2024).

    Shapes (…, codes) → (…, codes), at most k non-zeros a row.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        whole(1, k=k)
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """ReLU(x) where x is among the k largest of its row, else 0."""
        return x.relu() if self.k >= x.shape[-1] else top_k(x, self.k)

    def extra_repr(self) -> str:
        """How many codes stay."""
        return f"k={self.k}"


class BatchTopK(nn.Module):
    """Keeps the k · rows largest of a whole batch, so that a row may have more or fewer than k (Bussmann et al. 2024).

    In training a running mean of the smallest value kept becomes the `threshold` that evaluation uses, so that there a
    row's code does not depend on its neighbours.
    """

    threshold: Tensor

    def __init__(self, k: int, momentum: float = 0.01) -> None:
        super().__init__()
        whole(1, k=k)
        of_type((int, float), "a number", momentum=momentum)
        within(0, 1, momentum=momentum)
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
        """How many codes of a row stay in the mean."""
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
        whole(1, codes=codes)
        of_type((int, float), "a number", threshold=threshold, bandwidth=bandwidth)
        positive(threshold=threshold, bandwidth=bandwidth)
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((codes,), threshold).log())

    def forward(self, x: Tensor) -> Tensor:
        """x · H(x − θ)."""
        result = _Jump.apply(x.relu(), self.log_threshold.exp(), self.bandwidth)
        assert isinstance(result, Tensor)
        return result

    def active(self, x: Tensor) -> Tensor:
        """How many codes of each row are active, (…,), with the same straight-through gradient for θ."""
        result = _Step.apply(x.relu(), self.log_threshold.exp(), self.bandwidth)
        assert isinstance(result, Tensor)
        return result.sum(-1)


class _Step(torch.autograd.Function):
    """H(x − θ), whose gradient for θ is that of a rectangular window of width ε."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.bandwidth = bandwidth
        return (x > threshold).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        x, threshold = ctx.saved_tensors
        window = ((x - threshold).abs() < ctx.bandwidth / 2).to(x.dtype)
        return None, (-window * gradients[0] / ctx.bandwidth).flatten(0, -2).sum(0), None


class Gated(nn.Module):
    """[x > 0] · ReLU(e^r x + b): whether a code is active and how much are told apart (Rajamanoharan et al. 2024a).

    Shapes (…, codes) → (…, codes); r and b (codes,) start at zero, where it is a ReLU. The gate's own gradient comes
    from the loss of `gossamer.nn.objectives.GatedLoss`.
    """

    def __init__(self, codes: int) -> None:
        super().__init__()
        whole(1, codes=codes)
        self.log_scale, self.shift = nn.Parameter(torch.zeros(codes)), nn.Parameter(torch.zeros(codes))

    def forward(self, x: Tensor) -> Tensor:
        """The magnitudes where the gate is open."""
        return (x > 0) * (x * self.log_scale.exp() + self.shift).relu()
