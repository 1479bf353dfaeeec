"""Sparse storage in training: layers that hold their non-zeros alone in place of masked ones, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import gossamer as gs

STORED = {nn.Conv2d: gs.nn.SparseConv2d, nn.Linear: gs.nn.SparseLinear}


def store_sparsely(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Put, in place, a layer of sparse storage where each masked layer is.

    Raises `InputError` where a masked weight is not that of a Conv2d or a Linear.
    """
    for name, mask in masks.items():
        place, _, weight = name.rpartition(".")
        layer = network.get_submodule(place)
        if weight != "weight" or type(layer) not in STORED:
            raise gs.InputError(
                f"storage 'sparse' holds the weights of Conv2d and Linear alone, and {name} is that of a "
                f"{type(layer).__name__}; choose storage 'masks'."
            )
        network.set_submodule(place, STORED[type(layer)].from_dense(layer, mask))


def store_densely(network: nn.Module) -> None:
    """Put, in place, an ordinary layer where each layer of sparse storage is."""
    for place, layer in [*network.named_modules()]:
        if isinstance(layer, gs.nn.SparseConv2d | gs.nn.SparseLinear):
            network.set_submodule(place, layer.to_dense())


def bytes_held(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The bytes that training holds between two steps: parameters, buffers, gradients and the optimizer's moments."""
    tensors = [*network.parameters(), *network.buffers()]
    tensors += [p.grad for p in network.parameters() if p.grad is not None]
    tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)
