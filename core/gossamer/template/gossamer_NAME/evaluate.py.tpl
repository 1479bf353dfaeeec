"""From a network and data to numbers."""

import torch
from torch import nn

from gossamer_NAME.data import Part


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """The share of the examples whose kind the network names, in [0, 1]."""
    model.eval()
    return float((model(part.points).argmax(1) == part.kinds).float().mean())


def chance(train: Part, part: Part) -> float:
    """What naming the most frequent kind of the training examples scores."""
    return float((part.kinds == train.kinds.mode().values).float().mean())
