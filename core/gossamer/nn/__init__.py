"""Modules: sparse layers, sparse activations, autoencoders and sparse wiring; imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.nn.activations import BatchTopK as BatchTopK
    from gossamer.nn.activations import JumpReLU as JumpReLU
    from gossamer.nn.activations import TopK as TopK
    from gossamer.nn.autoencoder import SparseAutoencoder as SparseAutoencoder
    from gossamer.nn.autoencoder import explained_variance as explained_variance
    from gossamer.nn.branches import Branches as Branches
    from gossamer.nn.conv import SparseConv1d as SparseConv1d
    from gossamer.nn.conv import SparseConv2d as SparseConv2d
    from gossamer.nn.linear import SparseLinear as SparseLinear

_HOMES = {
    "BatchTopK": "activations",
    "JumpReLU": "activations",
    "TopK": "activations",
    "SparseAutoencoder": "autoencoder",
    "explained_variance": "autoencoder",
    "Branches": "branches",
    "SparseConv1d": "conv",
    "SparseConv2d": "conv",
    "SparseLinear": "linear",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer.nn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gossamer.nn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
