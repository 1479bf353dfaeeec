"""What every score offers, and how a model is looked at without being changed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError, of_type

Weights = Mapping[str, Tensor]


SCORES: dict[str, "type[Score]"] = {}
"""The scores that have a plain name, by it."""


class Score:
    """What every score offers; `iterations` is how many times pruning re-scores on the way to its sparsity.

    One that takes no arguments may have a plain name, by which it is asked for: `class Magnitude(Score,
    name="magnitude")`.
    """

    iterations: int = 1

    def __init_subclass__(cls, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name is not None:
            own = SCORES.setdefault(name, cls)
            if (own.__module__, own.__qualname__) != (cls.__module__, cls.__qualname__):
                raise InputError(f"name is {name!r}, which is {own.__qualname__}'s already; choose another.")
            SCORES[name] = cls

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The scores of `weights`, which are parameters of `model`, by name; each of its weight's shape."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__, which gives the scores")


def check_generator(generator: Any) -> None:
    """Raise `InputError` for what is neither a generator nor None."""
    of_type((torch.Generator, type(None)), "a torch.Generator (torch.Generator().manual_seed(0))", generator=generator)


@contextmanager
def evaluating(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Evaluation mode with gradients on, also for frozen `weights`; modes and frozen weights restored at the end."""
    modes = {module: module.training for module in model.modules()}
    frozen = [w for w in weights.values() if not w.requires_grad]
    try:
        model.eval()
        for w in frozen:
            w.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for w in frozen:
            w.requires_grad_(False)
        for module, mode in modes.items():
            module.training = mode


def gradients(loss: Tensor, weights: Weights, create_graph: bool = False) -> dict[str, Tensor]:
    """The gradients of `loss`, by name; raise `InputError` naming a weight that the loss does not depend on."""
    if not loss.requires_grad:
        raise InputError(f"the loss does not depend on {next(iter(weights))}; exclude its layer or use it in the loss.")
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
    for name, gradient in zip(weights, found, strict=True):
        if gradient is None:
            raise InputError(f"the loss does not depend on {name}; exclude its layer or use it in the loss.")
    return dict(zip(weights, found, strict=True))


def fitting(scores: Any, weights: Weights, score: str) -> dict[str, Tensor]:
    """The scores, or an `InputError` that names the first weight that has none of its own shape among them."""
    of_type(Mapping, "a mapping of the weights' names to scores", **{f"what {score} gives": scores})
    for name, weight in weights.items():
        found = scores.get(name)
        if not isinstance(found, Tensor) or found.shape != weight.shape:
            told = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise InputError(f"{score} gives {told} for {name}; it must give a tensor {tuple(weight.shape)}.")
    return {name: scores[name] for name in weights}


def finite(scores: dict[str, Tensor], score: str) -> dict[str, Tensor]:
    """The scores, or an `InputError` that names the first layer that has NaN or infinity among them."""
    for name, values in scores.items():
        if not values.isfinite().all():
            raise InputError(
                f"{score} gives scores of {name} that are not finite; look for NaN in the batches or weights."
            )
    return scores
