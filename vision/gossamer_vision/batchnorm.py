"""Batch normalisation over the whole step's images, however many processes share them, on any device."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance over all processes, of as many images each.

    torch's own SyncBatchNorm is for GPUs alone. The gradient passes through the sums as through the rest.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[n, channels, h, w], normalised."""
        if not self.training or not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        processes = torch.distributed.get_world_size()
        own = torch.cat((input.mean((0, 2, 3)), (input * input).mean((0, 2, 3))))
        mean, square = (all_reduce(own) / processes).chunk(2)
        variance = square - mean * mean
        count = processes * input.numel() / input.shape[1]
        with torch.no_grad():
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return input * scale[None, :, None, None] + (self.bias - mean * scale)[None, :, None, None]


def share_statistics(network: nn.Module, shared: bool) -> None:
    """Make, in place, each BatchNorm2d look at the images of all processes, or at its own process's again."""
    old, new = (nn.BatchNorm2d, SharedBatchNorm2d) if shared else (SharedBatchNorm2d, nn.BatchNorm2d)
    for module in network.modules():
        if type(module) is old:
            module.__class__ = new  # pyright: ignore[reportAttributeAccessIssue]
