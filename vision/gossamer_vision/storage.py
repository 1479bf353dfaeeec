"""Sparse storage in training: non-zeros alone in place of masked layers, and the bytes that training holds."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import gossamer as gs


def store_sparsely(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Put, in place, a layer of sparse storage where each masked layer is; images then lie channel by channel.

    Raises `InputError` for a masked weight that no layer of sparse storage can hold.
    """
    try:
        gs.nn.convert(network, masks).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    except gs.InputError as error:
        raise gs.InputError(f"storage is 'sparse', but {error} Or choose storage 'masks'.") from None


def bytes_held(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The bytes that training holds between two steps: parameters, buffers, gradients and the optimizer's moments."""
    tensors = [*network.parameters(), *network.buffers()]
    tensors += [p.grad for p in network.parameters() if p.grad is not None]
    tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)
