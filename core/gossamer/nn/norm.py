"""Batch norm whose training runs in the kernels, as that of the sparse convolutions around it does."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.nn.operators import floats, in_kernels


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch norm, and its state, in training some times as fast on the CPU.

    Each channel is read from memory once in a pass; PyTorch's reads all of them for the statistics, then all of them
    again. Contiguous float32 on the CPU, affine and with running statistics; anything else is left to PyTorch.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> Self:
        """A norm with the same parameters and statistics, the very tensors."""
        return _as(cls, norm)

    def to_plain(self) -> nn.BatchNorm2d:
        """PyTorch's own, likewise."""
        return _as(nn.BatchNorm2d, self)

    def forward(
        self, input: Tensor, residual: Tensor | None = None, relu: bool = False, pooled: bool = False
    ) -> Tensor:
        """(N, C, H, W) to (N, C, H, W): the norm, plus the residual (N, C, H, W) if given, and its ReLU if asked for.

        Neither takes a pass over memory of its own. With `pooled`, (N, C, H // 2, W // 2): the largest of two by two.
        """
        if not self.training or torch.compiler.is_compiling() or not self._fits(input, residual):
            y = super().forward(input)
            y = y if residual is None else y + residual
            y = torch.relu(y) if relu else y
            return F.max_pool2d(y, 2) if pooled else y
        if pooled and (residual is not None or not relu or min(input.shape[2:]) < 2):
            return F.max_pool2d(self.forward(input, residual, relu), 2)
        momentum, count = self.momentum, self.num_batches_tracked
        if count is not None:
            count.add_(1)
        if momentum is None:
            momentum = 1 / float(count)  # pyright: ignore[reportArgumentType]
        running = self.running_mean, self.running_var
        given = (input, self.weight, self.bias, residual, *running)
        return _BatchNorm.apply(*given, self.eps, momentum, relu, pooled)  # pyright: ignore[reportReturnType]

    def _fits(self, x: Tensor, residual: Tensor | None) -> bool:
        whole = x.dim() == 4 and x.shape[1] == self.num_features and x.is_contiguous() and x.numel() > x.shape[1]
        alike = residual is None or (residual.shape == x.shape and residual.is_contiguous())
        own = (self.weight, self.bias, self.running_mean, self.running_var)
        return whole and alike and all(t is not None for t in own) and in_kernels(x, residual, *own)


def _as(kind: type[Any], norm: nn.BatchNorm2d) -> Any:
    made: Any = object.__new__(kind)
    made.__dict__ = norm.__dict__.copy()
    return made


class _BatchNorm(torch.autograd.Function):
    """What `kernels.batch_norm.forward` is given to what it puts out."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        running_mean: Tensor,
        running_variance: Tensor,
        epsilon: float,
        momentum: float,
        relu: bool,
        pooled: bool,
    ) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        y = x.new_empty((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)) if pooled else torch.empty_like(x)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        batch_norm.forward(
            floats(x),
            floats(weight),
            floats(bias),
            floats(residual),
            epsilon,
            relu,
            momentum,
            floats(y),
            floats(mean),
            floats(variance),
            floats(running_mean),
            floats(running_variance),
            pooled,
            torch.get_num_threads(),
        )
        ctx.epsilon, ctx.relu, ctx.pooled, ctx.through = epsilon, relu, pooled, relu and residual is not None
        ctx.save_for_backward(x, weight, bias, mean, variance, *((y,) if ctx.through else ()))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        x, weight, bias, mean, variance, *result = ctx.saved_tensors
        gradient = gradient.contiguous()
        made = to_x, to_weight, to_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        to_residual = torch.empty_like(x) if ctx.through else gradient
        batch_norm.backward(
            floats(x),
            floats(weight),
            floats(bias),
            ctx.epsilon,
            ctx.relu,
            floats(mean),
            floats(variance),
            floats(gradient),
            floats(to_x),
            floats(to_weight),
            floats(to_bias),
            floats(result[0]) if ctx.through else None,
            floats(to_residual) if ctx.through else None,
            ctx.pooled,
            torch.get_num_threads(),
        )
        return *made, to_residual if ctx.needs_input_grad[3] else None, *(None,) * 6
