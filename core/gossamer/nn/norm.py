"""Batch norm whose training runs in the kernels, as that of the sparse convolutions around it does."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.nn.operators import in_kernels


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch norm, and its state, in training some times as fast on the CPU.

    Each channel is read from memory once in a pass; PyTorch's reads all of them for the statistics, then all of them
    again. Contiguous float32 on the CPU, affine and with running statistics; anything else is left to PyTorch. With
    `relu` it is a ReLU, too, whose gradient takes no pass of its own.
    """

    relu = False

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, relu: bool = False) -> Self:
        """A norm with the same parameters and statistics, the very tensors."""
        made = _as(cls, norm)
        made.relu = relu
        return made

    def to_plain(self) -> nn.BatchNorm2d:
        """PyTorch's own, likewise, without the ReLU."""
        made = _as(nn.BatchNorm2d, self)
        made.__dict__.pop("relu", None)
        return made

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        if not self.training or torch.compiler.is_compiling() or not self._fits(input):
            y = super().forward(input)
            return torch.relu(y) if self.relu else y
        momentum, count = self.momentum, self.num_batches_tracked
        if count is not None:
            count.add_(1)
        if momentum is None:
            momentum = 1 / float(count)  # pyright: ignore[reportArgumentType]
        y, mean, variance = _BatchNorm.apply(input, self.weight, self.bias, self.eps, self.relu)  # pyright: ignore[reportGeneralTypeIssues]
        values = input.numel() // input.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)  # pyright: ignore[reportOptionalMemberAccess]
            self.running_var.lerp_(variance * (values / (values - 1)), momentum)  # pyright: ignore[reportOptionalMemberAccess]
        return y

    def _fits(self, x: Tensor) -> bool:
        own = (self.weight, self.bias, self.running_mean, self.running_var, self.num_batches_tracked)
        whole = x.dim() == 4 and x.shape[1] == self.num_features and x.is_contiguous()
        return whole and x.numel() > x.shape[1] and None not in own and in_kernels(x, *own[:4])


class Done(nn.ReLU):
    """Stands where a ReLU stood that the norm before it has taken over."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, which is not negative."""
        return input


def _as(kind: type[Any], norm: nn.BatchNorm2d) -> Any:
    made: Any = object.__new__(kind)
    made.__dict__ = norm.__dict__.copy()
    return made


class _BatchNorm(torch.autograd.Function):
    """Images, weight, bias, ε and whether a ReLU follows to the result, and each channel's mean and biased variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        y, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        given, made = ([t.detach().numpy() for t in some] for some in ((x, weight, bias), (y, mean, variance)))
        batch_norm.forward(*given, epsilon, relu, *made, threads=torch.get_num_threads())  # pyright: ignore[reportCallIssue]
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.epsilon, ctx.relu = epsilon, relu
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        x, weight, bias, mean, variance = ctx.saved_tensors
        made = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        given = [t.detach().numpy() for t in (mean, variance, gradient.contiguous(), *made)]
        own = [t.detach().numpy() for t in (x, weight, bias)]
        batch_norm.backward(*own, ctx.epsilon, ctx.relu, *given, threads=torch.get_num_threads())  # pyright: ignore[reportCallIssue]
        return *made, None, None
