"""A linear layer that stores its non-zeros alone."""

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.nn import operators
from gossamer.nn.storage import SparseWeight, watch


class SparseLinear(SparseWeight):
    """y = x Wᵀ + b with W (out_features, in_features) stored as values and positions; x is (…, in_features).

    Made from a dense layer: `SparseLinear.from_dense(linear, mask)`. float32 on the CPU runs in sparse kernels, forward
    and backward (Nikdan et al. 2023, SparseProp, showed that it pays); other types and devices in PyTorch's dense ones.
    """

    def __init__(self, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> None:
        super().__init__(weight, mask, bias)
        self.out_features, self.in_features = self.shape

    @classmethod
    def from_dense(cls, layer: nn.Linear, mask: Tensor | None = None) -> "SparseLinear":
        """The layer's copy that keeps its weights where `mask` is true, or where they are not zero."""
        if not isinstance(layer, nn.Linear):
            raise InputError(f"the layer is a {type(layer).__name__}; SparseLinear is made from a Linear.")
        return cls(layer.weight, mask, layer.bias).train(layer.training)

    def to_dense(self) -> nn.Linear:
        """A dense layer with the same weights, zeros where none is stored."""
        options = {"dtype": self.values.dtype, "device": self.values.device}
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, **options)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        if x.shape[-1] != self.in_features:
            raise InputError(f"the input has {x.shape[-1]} features, but the layer takes {self.in_features}.")
        y = operators.linear(x, self.values, self.positions, self.bias, self.out_features)
        if self.wants_dense_grad:
            watch(self, x, y)
        return y

    def dense_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Of shape (out_features, in_features)."""
        return gradient.reshape(-1, self.out_features).T @ x.reshape(-1, self.in_features)
