"""Sparse codes in PyTorch: the largest codes, and reconstruction, with gradients of the active atoms alone.

float32 on the CPU runs in `loops`, where Numba is installed; anything else in PyTorch's dense operations.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.nn.operators import in_kernels


class Codes(NamedTuple):
    """Sparse codes by rows: `values` (non-zeros,), `atoms` (non-zeros,) int32 of `size`, `starts` (n + 1,) int64."""

    values: Tensor
    atoms: Tensor
    starts: Tensor
    size: int

    def dense(self) -> Tensor:
        """The codes as a tensor (n, size)."""
        rows = torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.starts.diff())
        zeros = self.values.new_zeros(len(self.starts) - 1, self.size)
        return zeros.index_put((rows, self.atoms.long()), self.values, accumulate=False)


def encode(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> Codes:
    """The k largest of each row of x Wᵀ + c, those below zero at zero; x (n, width), weight (count, width)."""
    values, atoms = _Encode.apply(x, weight, bias, k)  # pyright: ignore[reportGeneralTypeIssues]
    return Codes(values.flatten(), atoms.flatten(), torch.arange(len(x) + 1) * k, len(weight))


def compress(z: Tensor, support: Tensor) -> Codes:
    """The codes z (n, count) where `support` is true; elsewhere z is zero and gets no gradient."""
    rows, atoms = support.nonzero(as_tuple=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), support.sum(1).cumsum(0)])
    return Codes(z[rows, atoms], atoms.int(), starts, z.shape[1])


def decode(codes: Codes, dictionary: Tensor, bias: Tensor) -> Tensor:
    """The reconstruction (n, width): Σ_j z_j · atom_j + b, of a dictionary (count, width) and b (width,)."""
    if not in_kernels(codes.values, dictionary, bias):
        return codes.dense() @ dictionary + bias
    result = _Decode.apply(codes.values, codes.atoms, codes.starts, dictionary, bias)
    assert isinstance(result, Tensor)
    return result


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hidden = torch.addmm(bias, x, weight.T)
        if in_kernels(hidden):
            from gossamer.codes import loops

            values, atoms = x.new_empty(len(x), k), torch.empty(len(x), k, dtype=torch.int32)
            loops.largest(hidden.numpy(), k, values.numpy(), atoms.numpy(), torch.get_num_threads())
        else:
            values, atoms = hidden.topk(k, dim=1, sorted=False)
            values, atoms = values.relu_(), atoms.int()
        ctx.save_for_backward(x, weight, values, atoms)
        ctx.mark_non_differentiable(atoms)
        return values, atoms

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, values, atoms = ctx.saved_tensors
        gradient = (gradients[0] * (values > 0)).flatten()
        count, threads = len(weight), torch.get_num_threads()
        starts = torch.arange(len(x) + 1) * values.shape[1]
        to_bias = torch.zeros(count, dtype=x.dtype, device=x.device).index_add_(0, atoms.flatten().long(), gradient)
        if not in_kernels(x, weight):
            dense = Codes(gradient, atoms.flatten(), starts, count).dense()
            return dense @ weight, dense.T @ x, to_bias, None
        from gossamer.codes import loops

        flat, at, values = _array(atoms.flatten()), starts.numpy(), _array(gradient)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = torch.zeros_like(x, memory_format=torch.contiguous_format)
            loops.gather(values, flat, at, _array(weight), to_x.numpy(), threads)
        if ctx.needs_input_grad[1]:
            to_weight = torch.empty(weight.shape)
            loops.scatter(values, *loops.by_atom(flat, at, count), _array(x), to_weight.numpy(), threads)
        return to_x, to_weight, to_bias, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, atoms: Tensor, starts: Tensor, dictionary: Tensor, bias: Tensor) -> Tensor:
        from gossamer.codes import loops

        ctx.save_for_backward(values, atoms, starts, dictionary)
        out = bias.detach().expand(len(starts) - 1, -1).contiguous()
        threads = torch.get_num_threads()
        loops.gather(_array(values), _array(atoms), starts.numpy(), _array(dictionary), out.numpy(), threads)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        from gossamer.codes import loops

        values, atoms, starts, dictionary = ctx.saved_tensors
        gradient, threads = _array(gradients[0]), torch.get_num_threads()
        to_values = to_dictionary = to_bias = None
        if ctx.needs_input_grad[0]:
            to_values = torch.empty_like(values)
            loops.products(gradient, atoms.numpy(), starts.numpy(), _array(dictionary), to_values.numpy(), threads)
        if ctx.needs_input_grad[3]:
            to_dictionary = torch.empty(dictionary.shape)
            order = loops.by_atom(atoms.numpy(), starts.numpy(), len(dictionary))
            loops.scatter(_array(values), *order, gradient, to_dictionary.numpy(), threads)
        if ctx.needs_input_grad[4]:
            to_bias = gradients[0].sum(0)
        return to_values, None, None, to_dictionary, to_bias
