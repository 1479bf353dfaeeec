"""The methods: for each, what is pruned and when, and what moves the topology while the network trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gossamer as gs

if TYPE_CHECKING:
    from gossamer.patterns import Pattern

ROUNDS = 3


@dataclass(frozen=True)
class Method:
    """One way to a network; `before` and `after` name the score by which it is pruned before or after its training."""

    before: str | None = None
    after: str | None = None
    moves: str | None = None
    """the dynamic method of the core's, by its name there"""
    distribution: str = "erk"
    fine_tunes: bool = False
    rewinds: bool = False
    starts_at: float | None = None
    """the sparsity to start from, where it rises to the one asked"""
    regrows: bool = True
    """whether what moves the topology grows weights for those that it drops"""

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
    "gmp": Method(before="magnitude", moves="GMP", distribution="global", starts_at=0.0, regrows=False),
    "set": Method(before="random", moves="SET"),
    "rigl": Method(before="random", moves="RigL"),
    "granet": Method(before="random", moves="GraNet", distribution="global", starts_at=0.5),
    "srigl": Method(before="random", moves="SRigL"),
    "fixed": Method(before="given"),
}

PATTERNS: dict[str, tuple[Any, ...]] = {
    "unstructured": ("Unstructured",),
    "block-4x1": ("Block", 4, 1),
    "2:4": ("NofM", 2, 4),
    "1:4": ("NofM", 1, 4),
    "1:8": ("NofM", 1, 8),
    "1:16": ("NofM", 1, 16),
    "fan-in": ("FanIn",),
    "channel": ("Channel",),
}


def pattern(name: str) -> "Pattern":
    """The core's pattern of that name."""
    kind, *sizes = PATTERNS[name]
    return getattr(gs, kind)(*sizes)


def density(name: str) -> float | None:
    """The one density of the pattern n:m; None for patterns that can have any."""
    kind, *sizes = PATTERNS[name]
    return sizes[0] / sizes[1] if kind == "NofM" else None


@dataclass(frozen=True)
class Cycle:
    """One training by the one-cycle schedule: `epochs` long, after pruning to `sparsity` where that is not None."""

    epochs: int
    sparsity: float | None = None
    rewound: bool = False


def cycles(method: Method, sparsity: float, epochs: int, fine_tune: int, pattern: str) -> list[Cycle]:
    """The trainings that make up a method, in their order; the last may be no longer than its pruning."""
    if method.before:
        return [Cycle(epochs, sparsity if method.starts_at is None else min(sparsity, method.starts_at))]
    if not method.after:
        return [Cycle(epochs)]
    if method.rewinds:
        from gossamer.lottery import sparsities

        rounds = ROUNDS if density(pattern) is None else 1
        return [Cycle(epochs), *(Cycle(epochs, target, rewound=True) for target in sparsities(sparsity, rounds))]
    return [Cycle(epochs), Cycle(fine_tune if method.fine_tunes else 0, sparsity)]
