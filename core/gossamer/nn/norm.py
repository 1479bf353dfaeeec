"""Batch norm whose training runs in the kernels, as that of the sparse convolutions around it does."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gossamer.nn.operators import in_kernels


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

    def forward(self, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """(N, C, H, W) to (N, C, H, W): the norm, plus the residual (N, C, H, W) if given, and its ReLU if asked for.

        Neither takes a pass over memory of its own.
        """
        if not self.training or torch.compiler.is_compiling() or not self._fits(input, residual):
            y = super().forward(input)
            y = y if residual is None else y + residual
            return torch.relu(y) if relu else y
        momentum, count = self.momentum, self.num_batches_tracked
        if count is not None:
            count.add_(1)
        if momentum is None:
            momentum = 1 / float(count)  # pyright: ignore[reportArgumentType]
        y, mean, variance = _BatchNorm.apply(input, self.weight, self.bias, residual, self.eps, relu)  # pyright: ignore[reportGeneralTypeIssues]
        values = input.numel() // input.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)  # pyright: ignore[reportOptionalMemberAccess]
            self.running_var.lerp_(variance * (values / (values - 1)), momentum)  # pyright: ignore[reportOptionalMemberAccess]
        return y

    def _fits(self, x: Tensor, residual: Tensor | None) -> bool:
        own = (self.weight, self.bias, self.running_mean, self.running_var, self.num_batches_tracked)
        whole = x.dim() == 4 and x.shape[1] == self.num_features and x.is_contiguous() and x.numel() > x.shape[1]
        alike = residual is None or (residual.shape == x.shape and residual.is_contiguous())
        return whole and alike and all(t is not None for t in own) and in_kernels(x, residual, *own[:4])


def _as(kind: type[Any], norm: nn.BatchNorm2d) -> Any:
    made: Any = object.__new__(kind)
    made.__dict__ = norm.__dict__.copy()
    return made


class _BatchNorm(torch.autograd.Function):
    """Images, weight, bias, residual or None, ε and whether a ReLU follows to the result and the channels' moments."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, epsilon: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        y, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        given, made = ([_array(t) for t in some] for some in ((x, weight, bias, residual), (y, mean, variance)))
        batch_norm.forward(*given, epsilon, relu, *made, threads=torch.get_num_threads())  # pyright: ignore[reportCallIssue]
        ctx.epsilon, ctx.relu, ctx.through = epsilon, relu, relu and residual is not None
        ctx.save_for_backward(x, weight, bias, mean, variance, *([y] if ctx.through else []))
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.kernels import batch_norm

        if gradient is None:
            return (None,) * 6
        x, weight, bias, mean, variance, *result = ctx.saved_tensors
        made = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        gradient = gradient.contiguous()
        to_residual = torch.empty_like(x) if ctx.through else gradient
        through = (*result, to_residual) if ctx.through else ()
        given = [_array(t) for t in (mean, variance, gradient, *made, *through)]
        own = [_array(t) for t in (x, weight, bias)]
        batch_norm.backward(*own, ctx.epsilon, ctx.relu, *given, threads=torch.get_num_threads())  # pyright: ignore[reportCallIssue]
        return *made, to_residual if ctx.needs_input_grad[3] else None, None, None


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().numpy()
