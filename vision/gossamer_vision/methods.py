"""The methods: for each, what is pruned and when, and how the topology moves while the network trains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.dynamic import SET
from gossamer.masking import Masking
from gossamer.patterns import Pattern
from gossamer.scores import Score

ROUNDS = 3


@dataclass(frozen=True)
class Method:
    """One way to a network; `before` and `after` name the score by which it is pruned before or after its training."""

    before: str | None = None
    after: str | None = None
    moves: Callable[..., SET] | None = None
    distribution: str = "erk"
    fine_tunes: bool = False
    rewinds: bool = False
    starts_at: float | None = None
    """the sparsity to start from, where it rises to the one asked"""

    @property
    def score(self) -> str:
        """The name of the score that chooses the weights."""
        return self.before or self.after or "random"

    @property
    def masked(self) -> bool:
        """Whether the network is sparse by masks."""
        return bool(self.before or self.after)


METHODS: dict[str, Method] = {
    "dense": Method(),
    "small-dense": Method(),
    "wired": Method(),
    "magnitude": Method(after="magnitude", distribution="global"),
    "magnitude-finetune": Method(after="magnitude", distribution="global", fine_tunes=True),
    "random-pruned": Method(after="random"),
    "random-finetune": Method(after="random", fine_tunes=True),
    "lottery": Method(after="magnitude", distribution="global", rewinds=True),
    "static-random": Method(before="random"),
    "snip": Method(before="snip", distribution="global"),
    "grasp": Method(before="grasp", distribution="global"),
    "synflow": Method(before="synflow", distribution="global"),
    "gmp": Method(before="magnitude", moves=gs.GMP, distribution="global", starts_at=0.0),
    "set": Method(before="random", moves=gs.SET),
    "rigl": Method(before="random", moves=gs.RigL),
    "granet": Method(before="random", moves=gs.GraNet, distribution="global", starts_at=0.5),
    "srigl": Method(before="random", moves=gs.SRigL),
}

PATTERNS: dict[str, Pattern] = {
    "unstructured": gs.Unstructured(),
    "block-4x1": gs.Block(4, 1),
    "2:4": gs.NofM(2, 4),
    "1:4": gs.NofM(1, 4),
    "1:8": gs.NofM(1, 8),
    "1:16": gs.NofM(1, 16),
    "fan-in": gs.FanIn(),
    "channel": gs.Channel(),
}


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


@dataclass(frozen=True)
class Cycle:
    """One training by the one-cycle schedule: `epochs` long, after pruning to `sparsity` where that is not None."""

    epochs: int
    sparsity: float | None = None
    rewound: bool = False


def cycles(method: Method, sparsity: float, epochs: int, fine_tune: int, pattern: Pattern) -> list[Cycle]:
    """The trainings that make up a method, in their order; the last may be no longer than its pruning."""
    if method.before:
        return [Cycle(epochs, sparsity if method.starts_at is None else min(sparsity, method.starts_at))]
    if not method.after:
        return [Cycle(epochs)]
    if method.rewinds:
        rounds = ROUNDS if pattern.density is None else 1
        steps = [1 - (1 - sparsity) ** (k / rounds) for k in range(1, rounds + 1)]
        return [Cycle(epochs), *(Cycle(epochs, step, rewound=True) for step in steps)]
    return [Cycle(epochs), Cycle(fine_tune if method.fine_tunes else 0, sparsity)]


def movement(method: Method, masking: Masking, sparsity: float, steps: int, every: int, **options: Any) -> SET | None:
    """What moves the topology during a training of that many steps, its last quarter left in peace.

    Raises `InputError` where the training is too short for it to move at all.
    """
    if method.moves is None:
        return None
    until = steps * 3 // 4
    if until <= every:
        raise gs.InputError(
            f"the topology would never move: it does so every {every} steps of the first {until}, three quarters of "
            f"the training; give an --every below {until}, or more --epochs."
        )
    target = () if method.starts_at is None else (sparsity,)
    return method.moves(masking, *target, every=every, until=until, **options)
