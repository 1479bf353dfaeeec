"""The score of a weight's size."""

import torch
from torch import Tensor, nn

from gossamer.scores.score import Score, Weights


class Magnitude(Score, name="magnitude"):
    """|w| (Han et al. 2015)."""

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The weights' absolute values."""
        return {name: w.detach().abs() for name, w in weights.items()}
