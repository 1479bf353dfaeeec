"""The score of chance."""

import torch
from torch import Tensor, nn

from gossamer.scores.score import Score, Weights


class Random(Score, name="random"):
    """U(0, 1): random pruning, and static random sparsity when it comes before training (Liu et al. 2022)."""

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Random numbers drawn on the CPU in the order of the weights, so that a seed means the same everywhere."""
        return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}
