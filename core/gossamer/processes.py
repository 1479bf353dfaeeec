"""What several processes that train together agree on."""

import torch
from torch import Tensor


def distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def of_first_rank(mask: Tensor) -> Tensor:
    """The mask that rank 0 has, or the mask itself where there is one process."""
    if not distributed():
        return mask
    mask = mask.to(torch.bool, copy=True, memory_format=torch.contiguous_format)
    torch.distributed.broadcast(mask, src=0)
    return mask


def averaged(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the processes, so that every rank grows the same weights."""
    if distributed():
        torch.distributed.all_reduce(tensor := tensor.clone())
        tensor /= torch.distributed.get_world_size()
    return tensor
