"""Wanda: a weight's size times that of its input."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.inputs import watching
from gossamer.layers import turned
from gossamer.scores.batches import checked, feed
from gossamer.scores.score import Score, Weights, evaluating, finite


@dataclass(frozen=True)
class Wanda(Score):
    """|w| · ‖x‖₂, x what the weight's input channel sees over the batches (Sun et al. 2024).

    `batches` is a list of what `model` takes, or a DataLoader. For linear layers, convolutions and MultiheadAttention;
    the paper compares within a row, at the same sparsity in every layer: pattern=FanIn(), distribution="uniform".
    `gossamer.prune_blocks` goes through a deep stack block by block, as the paper does.
    """

    batches: Iterable[Any]
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """|w| times the root of its input channel's summed squares."""
        seen: set[str] = set()
        norms = {name: torch.zeros_like(turned(model, name, w), dtype=torch.float32) for name, w in weights.items()}

        def see(name: str, rows: slice, x: Tensor) -> None:
            squares = x.float().square().movedim(1, 0).flatten(1).sum(1)
            shape = (1, -1, *[1] * (norms[name].dim() - 2))
            norms[name][rows] += squares.reshape(shape)
            seen.add(name)

        with evaluating(model, {}), torch.no_grad(), watching(model, weights, see):
            for batch in checked(self.batches, "Wanda"):
                feed(model, batch)
        missing = weights.keys() - seen
        if missing:
            raise InputError(f"Wanda saw no input of {min(missing)}: pass batches that reach the layer, or exclude it.")
        scores = {name: w.detach().abs() * turned(model, name, norms[name].sqrt()) for name, w in weights.items()}
        return finite(scores, "Wanda")
