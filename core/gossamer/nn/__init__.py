"""Modules: sparse layers, sparse activations, autoencoders and sparse wiring; imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.nn.activations import BatchTopK as BatchTopK
    from gossamer.nn.activations import Gated as Gated
    from gossamer.nn.activations import JumpReLU as JumpReLU
    from gossamer.nn.activations import TopK as TopK
    from gossamer.nn.autoencoder import SparseAutoencoder as SparseAutoencoder
    from gossamer.nn.autoencoder import explained_variance as explained_variance
    from gossamer.nn.branches import Branches as Branches
    from gossamer.nn.conv import SparseConv1d as SparseConv1d
    from gossamer.nn.conv import SparseConv2d as SparseConv2d
    from gossamer.nn.convert import convert as convert
    from gossamer.nn.dead import DeadCodes as DeadCodes
    from gossamer.nn.linear import SparseLinear as SparseLinear
    from gossamer.nn.objectives import KL as KL
    from gossamer.nn.objectives import L0 as L0
    from gossamer.nn.objectives import L1 as L1
    from gossamer.nn.objectives import GatedLoss as GatedLoss
    from gossamer.nn.objectives import Matryoshka as Matryoshka
    from gossamer.nn.objectives import Squared as Squared
    from gossamer.nn.pursuit import pursue as pursue

_HOMES = {
    "BatchTopK": "activations",
    "Gated": "activations",
    "JumpReLU": "activations",
    "TopK": "activations",
    "SparseAutoencoder": "autoencoder",
    "explained_variance": "autoencoder",
    "Branches": "branches",
    "SparseConv1d": "conv",
    "SparseConv2d": "conv",
    "DeadCodes": "dead",
    "SparseLinear": "linear",
    "convert": "convert",
    "GatedLoss": "objectives",
    "KL": "objectives",
    "L0": "objectives",
    "L1": "objectives",
    "Matryoshka": "objectives",
    "Squared": "objectives",
    "pursue": "pursuit",
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
