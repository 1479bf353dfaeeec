"""The data: points of 16 numbers, of 4 kinds that a hidden network tells apart. Replace `load` by your own."""

from dataclasses import dataclass

import torch
from torch import Tensor

INPUTS, KINDS = 16, 4


@dataclass(frozen=True)
class Part:
    """Some examples: `points` (N, 16) and their `kinds` (N,)."""

    points: Tensor
    kinds: Tensor


@dataclass(frozen=True)
class Data:
    """What is trained on, what settings are chosen by, and what is measured on in the end alone."""

    train: Part
    held_out: Part
    test: Part


def load() -> Data:
    """The same 4,000 points for every run: 3,000 to train on, 500 held out, 500 to test."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4000, INPUTS, generator=generator)
    first, second = torch.randn(INPUTS, 6, generator=generator), torch.randn(6, KINDS, generator=generator)
    kinds = (torch.tanh(points @ first / 2) @ second).argmax(1)
    parts = zip(points.split([3000, 500, 500]), kinds.split([3000, 500, 500]), strict=True)
    return Data(*(Part(*part) for part in parts))
