"""The training kernels, and TopK, as PyTorch operators, which autograd, `torch.compile` and `torch.export` see.

Weights are given as `values` (non-zeros,) and `positions` (non-zeros,), ascending indices into the raveled weight.
float32 on the CPU runs in the kernels; anything else is scattered into a dense weight and left to PyTorch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import grad

from gossamer.kernels.geometry import Geometry
from gossamer.kernels.layout import Floats
from gossamer.kernels.target import available
from gossamer.nn.structures import structures


def in_kernels(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take these tensors."""
    for tensor in tensors:
        if tensor is not None and not (tensor.is_cpu and tensor.dtype == torch.float32):
            return False
    return available()


def dense(values: Tensor, positions: Tensor, shape: list[int]) -> Tensor:
    """The weight of `shape`, zero where there is no non-zero."""
    weight = values.new_zeros(shape)
    weight.view(-1)[positions.long()] = values
    return weight


def linear(x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, outputs: int) -> Tensor:
    """x (…, I) times the transpose of the weight (outputs, I), plus bias (outputs,)."""
    traced = torch.compiler.is_compiling()
    return (_linear if traced else _Linear.apply)(x, values, positions, bias, outputs)


def _multiply(x, values, positions, bias, outputs):
    if not in_kernels(x, values, bias):
        return F.linear(x, dense(values, positions, [outputs, x.shape[-1]]), bias)
    from gossamer.kernels import training

    y = x.new_empty((*x.shape[:-1], outputs))
    structure = structures.of(positions, _geometry((outputs, x.shape[-1], 1, 1)))
    x, values, bias = _contiguous(x, values, bias)
    training.multiply(structure, floats(values), floats(bias), _rows(x), _rows(y), torch.get_num_threads())
    return y


@torch.library.custom_op("gossamer::linear", mutates_args=())
def _linear(x: Tensor, values: Tensor, positions: Tensor, bias: Tensor | None, outputs: int) -> Tensor:
    return _multiply(x, values, positions, bias, outputs).contiguous()  # as its fake is


@_linear.register_fake
def _(x, values, positions, bias, outputs):
    return x.new_empty(*x.shape[:-1], outputs)


def _multiply_back(gradient, x, values, positions, to_x, to_values):
    """The gradients to `linear`'s input and values, each empty unless asked for."""
    outputs, inputs = gradient.shape[-1], x.shape[-1]
    if not in_kernels(x, values, gradient):
        weight = dense(values, positions, [outputs, inputs])
        back = (gradient @ weight.to(gradient.dtype)).to(x.dtype) if to_x else x.new_empty(0)
        if not to_values:
            return back, values.new_empty(0)
        whole = gradient.reshape(-1, outputs).T @ x.reshape(-1, inputs).to(gradient.dtype)  # autocast mixes dtypes
        return back, whole.reshape(-1)[positions.long()].to(values.dtype)
    from gossamer.kernels import training

    back = torch.empty_like(x, memory_format=torch.contiguous_format) if to_x else None
    grown = torch.empty_like(values) if to_values else None
    x, values, gradient = _contiguous(x, values, gradient)
    if x.numel():
        structure = structures.of(positions, _geometry((outputs, inputs, 1, 1)))
        given = floats(values), _rows(x), _rows(gradient), _rows(back), floats(grown)
        training.multiply_back(structure, *given, torch.get_num_threads())
    elif grown is not None:
        grown.zero_()
    return x.new_empty(0) if back is None else back, values.new_empty(0) if grown is None else grown


@torch.library.custom_op("gossamer::linear_backward", mutates_args=())
def _linear_backward(
    gradient: Tensor, x: Tensor, values: Tensor, positions: Tensor, to_x: bool, to_values: bool
) -> tuple[Tensor, Tensor]:
    return _multiply_back(gradient, x, values, positions, to_x, to_values)


@_linear_backward.register_fake
def _(gradient, x, values, positions, to_x, to_values):
    return x.new_empty(x.shape if to_x else 0), values.new_empty(values.shape if to_values else 0)


def _linear_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])


def _linear_gradient(ctx, gradient, back: Callable[..., Any] = _linear_backward):
    to_x, to_values, _, to_bias = ctx.needs_input_grad[:4]
    bias = gradient.reshape(-1, gradient.shape[-1]).sum(0) if to_bias else None
    x, values = back(gradient, *ctx.saved_tensors, to_x, to_values)
    return x if to_x else None, values if to_values else None, None, bias, None


_linear.register_autograd(_linear_gradient, setup_context=_linear_context)


class _Linear(torch.autograd.Function):
    """The operator without the dispatcher, which costs more than a small layer, as does `setup_context` here."""

    @staticmethod
    def forward(ctx, *inputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        _linear_context(ctx, inputs, None)
        return _multiply(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _linear_gradient(ctx, gradient, _multiply_back)


def convolution(
    x: Tensor,
    values: Tensor,
    positions: Tensor,
    bias: Tensor | None,
    shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of x (N, I, H, W) with a weight of `shape` (O, I/groups, KH, KW), plus bias (O,)."""
    run = _convolution if torch.compiler.is_compiling() else _Convolution.apply
    return run(x, values, positions, bias, shape, stride, padding, dilation, groups)


_geometry = functools.lru_cache(maxsize=4096)(Geometry)


@functools.lru_cache(maxsize=4096)
def _output_shape(geometry: Geometry, shape: Sequence[int]) -> tuple[int, ...]:
    return geometry.output_shape(shape)


def _convolve(x, values, positions, bias, shape, stride, padding, dilation, groups):
    geometry = _geometry(tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
    output_shape = _output_shape(geometry, x.shape)
    if not in_kernels(x, values, bias):
        return F.conv2d(x, dense(values, positions, shape), bias, stride, padding, dilation, groups)
    from gossamer.kernels import training

    y = x.new_empty(output_shape)
    x, values, bias = _contiguous(x, values, bias)
    structure = structures.of(positions, geometry)
    training.convolve(structure, floats(values), floats(bias), floats(x), floats(y), torch.get_num_threads())
    return y


@torch.library.custom_op("gossamer::convolution", mutates_args=())
def _convolution(
    x: Tensor,
    values: Tensor,
    positions: Tensor,
    bias: Tensor | None,
    shape: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    return _convolve(x, values, positions, bias, shape, stride, padding, dilation, groups).contiguous()


@_convolution.register_fake
def _(x, values, positions, bias, shape, stride, padding, dilation, groups):
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], shape[2:], stride, padding, dilation, strict=True)
    ]
    return x.new_empty(x.shape[0], shape[0], *size)


def _convolve_back(gradient, x, values, positions, shape, stride, padding, dilation, groups, to_x, to_values):
    """The gradients to `convolution`'s input and values, each empty unless asked for."""
    if not in_kernels(x, values, gradient):
        geometry = (stride, padding, dilation, groups)
        back = grad.conv2d_input(x.shape, dense(values, positions, shape), gradient, *geometry) if to_x else None
        whole = grad.conv2d_weight(x, shape, gradient, *geometry) if to_values else None
        grown = values.new_empty(0) if whole is None else whole.reshape(-1)[positions.long()]
        return x.new_empty(0) if back is None else back, grown
    from gossamer.kernels import training

    back = torch.empty_like(x, memory_format=torch.contiguous_format) if to_x else None
    grown = torch.empty_like(values) if to_values else None
    x, values, gradient = _contiguous(x, values, gradient)
    if len(x):
        geometry = _geometry(tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
        given = floats(values), floats(x), floats(gradient), floats(back), floats(grown)
        training.convolve_back(structures.of(positions, geometry), *given, torch.get_num_threads())
    elif grown is not None:
        grown.zero_()
    return x.new_empty(0) if back is None else back, values.new_empty(0) if grown is None else grown


@torch.library.custom_op("gossamer::convolution_backward", mutates_args=())
def _convolution_backward(
    gradient: Tensor,
    x: Tensor,
    values: Tensor,
    positions: Tensor,
    shape: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    to_x: bool,
    to_values: bool,
) -> tuple[Tensor, Tensor]:
    geometry = (shape, stride, padding, dilation, groups)
    back, grown = _convolve_back(gradient, x, values, positions, *geometry, to_x, to_values)
    return back.contiguous(), grown


@_convolution_backward.register_fake
def _(gradient, x, values, positions, shape, stride, padding, dilation, groups, to_x, to_values):
    return x.new_empty(x.shape if to_x else 0), values.new_empty(values.shape if to_values else 0)


def _convolution_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.geometry = inputs[4:]


def _convolution_gradient(ctx, gradient, back: Callable[..., Any] = _convolution_backward):
    to_x, to_values, _, to_bias = ctx.needs_input_grad[:4]
    x, values = back(gradient, *ctx.saved_tensors, *ctx.geometry, to_x, to_values)
    bias = gradient.sum((0, 2, 3)) if to_bias else None
    return x if to_x else None, values if to_values else None, None, bias, None, None, None, None, None


_convolution.register_autograd(_convolution_gradient, setup_context=_convolution_context)


class _Convolution(torch.autograd.Function):
    """The operator without the dispatcher."""

    @staticmethod
    def forward(ctx, *inputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        _convolution_context(ctx, inputs, None)
        return _convolve(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _convolution_gradient(ctx, gradient, _convolve_back)


def top_k(x: Tensor, k: int) -> Tensor:
    """ReLU of the k largest of each row of x (…, codes), zero elsewhere; k is below `codes`."""
    return (_top_k if torch.compiler.is_compiling() else _keep)(x, k)


def _keep(x, k):
    if in_kernels(x) and not (x.requires_grad and torch.is_grad_enabled()):
        from gossamer.codes import loops

        rows = x.reshape(-1, x.shape[-1])
        values, places = x.new_empty(len(rows), k), torch.empty(len(rows), k, dtype=torch.int32)
        loops.largest(_array(rows), k, values.numpy(), places.numpy(), torch.get_num_threads())
        return torch.zeros_like(rows).scatter_(1, places.long(), values).view(x.shape)
    values, places = x.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(x).scatter(-1, places, values.relu())


@torch.library.custom_op("gossamer::top_k", mutates_args=())
def _top_k(x: Tensor, k: int) -> Tensor:
    return _keep(x, k).contiguous()


@_top_k.register_fake
def _(x, k):
    return x.new_empty(x.shape)


_top_k.register_autograd(
    lambda ctx, gradient: (gradient * (ctx.saved_tensors[0] > 0), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


def _array(tensor: Tensor) -> Any:
    """A tensor's memory as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def _contiguous(*tensors: Any) -> list[Any]:
    """The tensors, those that are not contiguous copied."""
    return [t if t is None or t.is_contiguous() else t.contiguous() for t in tensors]


def floats(tensor: Tensor | None) -> Any:
    """The memory of a contiguous float32 tensor on the CPU, for the kernels."""
    return None if tensor is None else Floats(tensor.data_ptr(), tensor.shape)


def _rows(tensor: Tensor | None) -> Any:
    """The memory of a tensor (…, C) as rows."""
    if tensor is None:
        return None
    columns = tensor.shape[-1]
    return Floats(tensor.data_ptr(), (tensor.numel() // columns, columns))
