"""How a network becomes sparse: the score that chooses its weights, and what moves its topology afterwards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

import gossamer as gs
from gossamer.dynamic import last_move
from gossamer.scores import Score
from gossamer_vision.methods import Method

NEEDING_DATA = ("snip", "grasp")


def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The cross-entropy of a batch of images and labels."""
    return cross_entropy(model(batch[0]), batch[1])


def criterion(name: str, batches: list[tuple[Tensor, Tensor]], example: Tensor) -> str | Score:
    """The score of that name, with the batches or the example input that it needs."""
    if name == "snip":
        return gs.SNIP(batches, batch_loss)
    if name == "grasp":
        return gs.GraSP(batches, batch_loss)
    return gs.SynFlow(example) if name == "synflow" else name


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Give normalisation the mean statistics of the batches, for scores, which are taken in evaluation mode."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def movement(
    method: Method,
    masking: gs.Masking,
    sparsity: float,
    steps: int,
    *,
    every: int,
    fraction: float,
    distribution: str,
    generator: torch.Generator,
) -> "gs.Method | None":
    """What moves the topology during a training of that many steps; None for a method that leaves it as it is."""
    if method.moves is None:
        return None
    until = moving_steps(steps, every)
    options: dict[str, Any] = {"every": every, "until": until, "generator": generator}
    if method.starts_at is not None:
        options |= {"sparsity": sparsity, "distribution": distribution}
    if method.regrows:
        options["fraction"] = fraction
    return getattr(gs, method.moves)(masking, **options)


def moving_steps(steps: int, every: int) -> int:
    """The step before which the topology moves.

    Raises `InputError` where the training is too short for it to move at all.
    """
    until = last_move(steps)
    if until <= every:
        remedy = f"give an --every below {until}, a smaller --batch or" if until > 1 else "give a smaller --batch or"
        raise gs.InputError(
            f"the topology would never move: the training has {steps} steps, and it moves every {every} steps of the "
            f"first {until}; {remedy} more --epochs."
        )
    return until
