"""What the scores of a weight and its gradient share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.scores.batches import Loss, checked, loss_of
from gossamer.scores.score import Score, Weights, evaluating, finite, gradients


@dataclass(frozen=True)
class FromGradients(Score):
    """A score made of a weight w and the gradients g of `loss(model, batch)` over `batches`; iterated where asked.

    `batches` is a list of batches or a DataLoader: tensors, or tuples, lists and dicts of them. Without a `loss` it is
    the model's own, as models of transformers give it for batches with labels.

    Raises `InputError` where there are no batches, a loss that does not depend on a weight, or a score not finite.
    """

    batches: Iterable[Any]
    loss: Loss | None = None
    iterations: int = 1

    def pieces(self) -> Iterable[Any]:
        """What one gradient is taken of: a batch."""
        return checked(self.batches, type(self).__name__)

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """One piece's share of the score; shapes as the weight."""
        raise NotImplementedError

    def finish(self, mean: Tensor) -> Tensor:
        """The score of the mean over the pieces."""
        return mean

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The mean of `worth` over the batches."""
        sums = {name: torch.zeros_like(w) for name, w in weights.items()}
        count = 0
        with evaluating(model, weights):
            for batch in self.pieces():
                for name, g in gradients(loss_of(self.loss, model, batch), weights).items():
                    sums[name] += self.worth(weights[name].detach(), g)
                count += 1
        if not count:
            raise InputError(
                f"{type(self).__name__} got no batches; pass a list of them (a used-up iterator is empty)."
            )
        return finite({name: self.finish(s / count) for name, s in sums.items()}, type(self).__name__)
