"""The lottery ticket: iterative magnitude pruning with rewinding."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from gossamer.distributions import Distribution
from gossamer.errors import InputError, check_sparsity, function_of, of_type, whole
from gossamer.masking import Masking
from gossamer.patterns import Pattern
from gossamer.scores import Score
from gossamer.scores import score as find_score
from gossamer.sparsity import sparsify


def sparsities(sparsity: float, rounds: int) -> list[float]:
    """What each round of pruning leaves, by equal ratio: 1 − (1 − sparsity)^(k / rounds) for k = 1, …, rounds."""
    return [*(1 - (1 - sparsity) ** (k / rounds) for k in range(1, rounds)), sparsity]


class Rewinding:
    """The early state of a model that each round of pruning goes back to, for a training loop of its own.

    `keep` after a few steps of training (Frankle et al. 2020) or before the first (Frankle & Carbin 2019), and once a
    training is over and `masking` pruned, `rewind`. `early` is all that a checkpoint needs of it: the weights and
    buffers by name, empty until they are kept.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.early: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Remember the weights and buffers as they are now."""
        self.early = copy.deepcopy(self.model.state_dict())

    def rewind(self) -> None:
        """Bring back every weight and buffer that was kept; a masking keeps the dead ones at zero.

        Raises `InputError` where nothing was kept.
        """
        if not self.early:
            raise InputError("there is nothing to rewind to; call keep() early in the first training.")
        self.model.load_state_dict(self.early)


def find_ticket(
    model: nn.Module,
    sparsity: float,
    train: Callable[[Masking], None],
    *,
    rounds: int,
    warm_up: Callable[[Masking], None] | None = None,
    score: str | Score = "magnitude",
    distribution: str | Mapping[str, float] | Distribution = "global",
    **options: Any,
) -> Masking:
    """Train, prune and rewind `rounds` times; return the masking of a ticket that is ready to be trained.

    `train(masking)` trains `masking.model` from where it stands to its end, with an optimizer and learning rates of its
    own, on which it calls `masking.attach`. After each training the weights alive are pruned, by equal ratio each time,
    so that the last round leaves `sparsity`; then every weight and buffer goes back to its value before the first
    training (Frankle & Carbin 2019), or after `warm_up(masking)`, which trains for a few steps only (rewinding: Frankle
    et al. 2020). `distribution` and the other `options` are those of `sparsify`. A loop that must survive interruption
    makes the same of `sparsities`, `masking.prune` and `Rewinding`.

    Raises `InputError` for fewer than one round and for what `sparsify` refuses.
    """
    whole(1, rounds=rounds)
    of_type(Callable, "a function of the masking that trains its model", train=train)
    function_of(1, "a function of the masking that trains its model", train=train, warm_up=warm_up)
    check_sparsity(sparsity)
    find_score(score)
    pattern = options.get("pattern")
    if isinstance(pattern, Pattern) and pattern.density is not None:
        raise InputError(f"{pattern} has one sparsity only, and a ticket starts dense; choose another pattern.")
    masking = sparsify(model, 0.0, **options)
    weights = {name: weight.detach() for name, weight in masking.weights.items()}
    masking.distribute(sparsity, weights, distribution)  # or be refused
    if warm_up:
        warm_up(masking)
    rewinding = Rewinding(model)
    rewinding.keep()
    for target in sparsities(sparsity, rounds):
        train(masking)
        masking.detach()
        masking.prune(score, target, distribution=distribution)
        rewinding.rewind()
    return masking
