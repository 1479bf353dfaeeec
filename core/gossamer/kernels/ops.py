"""The training kernels as PyTorch operators, which autograd, `torch.compile` and `torch.export` see.

Weights are given as `values` (non-zeros,) and `positions` (non-zeros,), ascending indices into the raveled weight.
float32 on the CPU runs in the kernels; anything else is scattered into a dense weight and left to PyTorch.
"""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import grad

from gossamer.kernels.target import available

REMEMBERED = 512  # structures kept between calls


class _Structures:
    """The structures of the topologies last seen.

    A topology is known by the memory of its positions, which an entry keeps alive, so that no other can take its place.
    """

    def __init__(self):
        self.entries: OrderedDict = OrderedDict()
        self.lock = threading.Lock()

    def of(self, positions: Tensor, *geometry):
        """The structure of `positions` in a layer of that geometry."""
        from gossamer.kernels.training import Structure

        key = (positions.data_ptr(), positions.numel(), *geometry)
        version = 0 if positions.is_inference() else positions._version
        with self.lock:
            found = self.entries.get(key)
            if found and found[0] == version:
                self.entries.move_to_end(key)
                return found[3]
        check = zlib.crc32(positions.numpy().data)  # DDP writes buffers anew, unchanged, at every step
        structure = found[3] if found and found[2] == check else Structure(positions.numpy(), *geometry)
        with self.lock:
            self.entries[key] = (version, positions.detach(), check, structure)
            while len(self.entries) > REMEMBERED:
                self.entries.popitem(last=False)
        return structure

    def forget(self, positions: Tensor):
        """Drop what is kept of a topology that is gone."""
        with self.lock:
            for key in [key for key in self.entries if key[0] == positions.data_ptr()]:
                del self.entries[key]


structures = _Structures()


def in_kernels(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take these tensors."""
    fit = all(t is None or (t.device.type == "cpu" and t.dtype == torch.float32) for t in tensors)
    return fit and available()


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

    y = x.new_empty(*x.shape[:-1], outputs)
    structure = structures.of(positions, (outputs, x.shape[-1], 1, 1))
    rows = _array(x.reshape(-1, x.shape[-1]))
    training.multiply(
        structure, _array(values), _array(bias), rows, y.view(-1, outputs).numpy(), torch.get_num_threads()
    )
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

    back = x.new_empty(x.shape if to_x else 0)
    grown = values.new_empty(values.shape if to_values else 0)
    structure = structures.of(positions, (outputs, inputs, 1, 1))
    training.multiply_back(
        structure,
        _array(values),
        _array(x.reshape(-1, inputs)),
        _array(gradient.reshape(-1, outputs)),
        back.view(-1, inputs).numpy() if to_x else None,
        grown.numpy() if to_values else None,
        torch.get_num_threads(),
    )
    return back, grown


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
    shape: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """The convolution of x (N, I, H, W) with a weight of `shape` (O, I/groups, KH, KW), plus bias (O,)."""
    run = _convolution if torch.compiler.is_compiling() else _Convolution.apply
    return run(x, values, positions, bias, shape, stride, padding, dilation, groups)


def _convolve(x, values, positions, bias, shape, stride, padding, dilation, groups):
    if not in_kernels(x, values, bias):
        return F.conv2d(x, dense(values, positions, shape), bias, stride, padding, dilation, groups)
    from gossamer.kernels import training

    geometry = (tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
    structure = structures.of(positions, *geometry)
    y = x.new_empty(structure.output_shape(x.shape))
    training.convolve(structure, _array(values), _array(bias), _array(x), y.numpy(), torch.get_num_threads())
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

    back = x.new_empty(x.shape if to_x else 0)
    grown = values.new_empty(values.shape if to_values else 0)
    geometry = (tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
    training.convolve_back(
        structures.of(positions, *geometry),
        _array(values),
        _array(x),
        _array(gradient),
        back.numpy() if to_x else None,
        grown.numpy() if to_values else None,
        torch.get_num_threads(),
    )
    return back, grown


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


def _array(tensor: Tensor | None) -> Any:
    """A tensor's memory as a contiguous array."""
    return None if tensor is None else tensor.detach().contiguous().numpy()
