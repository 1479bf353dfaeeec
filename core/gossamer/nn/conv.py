"""Convolutions that store their non-zeros alone."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import grad

from gossamer.errors import InputError
from gossamer.nn import operators
from gossamer.nn.storage import SparseWeight, watch


class _SparseConvolution(SparseWeight):
    """A convolution of any stride, padding, dilation and groups; `dense` is its class in PyTorch."""

    dense: type[nn.Conv1d] | type[nn.Conv2d]

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__(weight, mask, bias)
        self.stride, self.padding, self.dilation, self.groups = tuple(stride), tuple(padding), tuple(dilation), groups
        self.out_channels, self.in_channels, self.kernel_size = self.shape[0], self.shape[1] * groups, self.shape[2:]

    @classmethod
    def from_dense(cls, layer: Any, mask: Tensor | None = None) -> Self:
        """The layer's copy that keeps its weights where `mask` is true, or where they are not zero."""
        if not isinstance(layer, cls.dense):
            kind = type(layer).__name__
            raise InputError(f"the layer is a {kind}; {cls.__name__} is made from a {cls.dense.__name__}.")
        if layer.padding_mode != "zeros":
            raise InputError(f"padding_mode is {layer.padding_mode!r}; sparse convolutions pad with zeros only.")
        padding = layer.padding
        if isinstance(padding, str):
            reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
            if padding == "same" and any(r % 2 for r in reach):
                raise InputError(
                    "padding is 'same' with an even kernel, which pads one side more; pad before the layer."
                )
            padding = [r // 2 if padding == "same" else 0 for r in reach]
        geometry = {"stride": layer.stride, "padding": padding, "dilation": layer.dilation, "groups": layer.groups}
        return cls(layer.weight, mask, layer.bias, **geometry).train(layer.training)

    def to_dense(self) -> nn.Conv1d | nn.Conv2d:
        """A dense layer with the same weights, zeros where none is stored."""
        layer = self.dense(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # pyright: ignore[reportArgumentType]
            self.stride,  # pyright: ignore[reportArgumentType]
            self.padding,  # pyright: ignore[reportArgumentType]
            self.dilation,  # pyright: ignore[reportArgumentType]
            self.groups,
            self.bias is not None,
            dtype=self.values.dtype,
            device=self.values.device,
        )
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            if layer.bias is not None and self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer.train(self.training)

    def _convolve(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, OH, OW); a missing direction has one pixel."""
        flat = (1,) * (2 - len(self.stride))
        shape, padding = (*self.shape[:2], *flat, *self.kernel_size), (*(0,) * len(flat), *self.padding)
        geometry = (*flat, *self.stride), padding, (*flat, *self.dilation), self.groups
        return operators.convolution(x, self.values, self.positions, self.bias, shape, *geometry)


class SparseConv2d(_SparseConvolution):
    """A 2-D convolution with its weight (O, I/groups, KH, KW) stored as values and positions.

    Made from a dense layer: `SparseConv2d.from_dense(conv, mask)`. float32 on the CPU runs in sparse kernels, forward
    and backward; other types and devices in PyTorch's dense ones.
    """

    dense = nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, OH, OW), or both without N."""
        batched = x if x.dim() == 4 else x[None]
        y = self._convolve(batched)
        if self.wants_dense_grad:
            watch(self, batched, y)
        return y if x.dim() == 4 else y[0]

    def dense_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Of shape (O, I/groups, KH, KW), from x (N, I, H, W) and the gradient (N, O, OH, OW)."""
        geometry: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        return grad.conv2d_weight(x, self.shape, gradient, *geometry)


class SparseConv1d(_SparseConvolution):
    """A 1-D convolution with its weight (O, I/groups, K) stored as values and positions; else as `SparseConv2d`."""

    dense = nn.Conv1d

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, L) to (N, O, OL), or both without N."""
        batched = x if x.dim() == 3 else x[None]
        y = self._convolve(batched[:, :, None])[:, :, 0]
        if self.wants_dense_grad:
            watch(self, batched, y)
        return y if x.dim() == 3 else y[0]

    def dense_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Of shape (O, I/groups, K), from x (N, I, L) and the gradient (N, O, OL)."""
        geometry: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        return grad.conv1d_weight(x, self.shape, gradient, *geometry)
