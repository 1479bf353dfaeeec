"""GraSP: what a weight's removal takes from the flow of the gradient."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gossamer.errors import InputError
from gossamer.scores.batches import Loss, checked, loss_of
from gossamer.scores.score import Score, Weights, evaluating, finite, gradients


@dataclass(frozen=True)
class GraSP(Score):
    """w · (H g), what the weight's removal would take from the gradient's norm (Wang et al. 2020).

    The paper removes the highest of −w · Hg; the score, whose highest are kept, is the negative of that. `batches` and
    `loss` are as those of `SNIP`.
    """

    batches: Iterable[Any]
    loss: Loss | None = None
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """w · Hg, where g is the gradient of the loss over all batches and H its Hessian."""
        batches = list(checked(self.batches, "GraSP"))
        if not batches:
            raise InputError("GraSP got no batches; pass a list of them (a used-up iterator is empty).")
        with evaluating(model, weights), sdpa_kernel(SDPBackend.MATH):  # the fast kernels have no second derivative
            mean = {name: torch.zeros_like(w) for name, w in weights.items()}
            products = {name: torch.zeros_like(w) for name, w in weights.items()}
            for batch in batches:
                for name, g in gradients(loss_of(self.loss, model, batch), weights).items():
                    mean[name] += g / len(batches)
            for batch in batches:
                g = gradients(loss_of(self.loss, model, batch), weights, create_graph=True)
                inner = torch.stack([(g[name] * mean[name]).sum() for name in weights]).sum()
                for name, hg in gradients(inner, weights).items():
                    products[name] += hg / len(batches)
        scores = {name: w.detach() * products[name] for name, w in weights.items()}
        return finite(scores, "GraSP")
