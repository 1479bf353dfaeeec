"""The lottery ticket: iterative magnitude pruning with rewinding."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError
from gossamer.masking import Masking, check_sparsity, sparsify
from gossamer.scores import Score
from gossamer.scores import score as find_score


def find_ticket(
    model: nn.Module,
    sparsity: float,
    train: Callable[[Masking], None],
    *,
    rounds: int,
    warm_up: Callable[[Masking], None] | None = None,
    score: str | Score = "magnitude",
    distribution: Any = "global",
    **options: Any,
) -> Masking:
    """Train, prune and rewind `rounds` times; return the masking of a ticket that is ready to be trained.

    `train(masking)` trains `masking.model` from where it stands to its end, with an optimizer and learning rates of its
    own, on which it calls `masking.attach`. After each training the weights alive are pruned, by equal ratio each time,
    so that the last round leaves `sparsity`; then every weight and buffer goes back to its value before the first
    training (Frankle & Carbin 2019), or after `warm_up(masking)`, which trains for a few steps only (rewinding: Frankle
    et al. 2020). `distribution` and the other `options` are those of `sparsify`.

    Raises `InputError` for fewer than one round and for what `sparsify` refuses.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; a ticket needs at least one round of training and pruning.")
    check_sparsity(sparsity)
    find_score(score)
    pattern = options.get("pattern")
    if pattern is not None and pattern.density is not None:
        raise InputError(f"{pattern} has one sparsity only, and a ticket starts dense; choose another pattern.")
    masking = sparsify(model, 0.0, **options)
    masking.distribution = find_distribution(distribution)
    masking.distribute(sparsity, {name: weight.detach() for name, weight in masking.weights.items()})  # or be refused
    if warm_up:
        warm_up(masking)
    start = copy.deepcopy(model.state_dict())
    for k in range(1, rounds + 1):
        train(masking)
        masking.detach()
        masking.prune(score, sparsity if k == rounds else 1 - (1 - sparsity) ** (k / rounds))
        model.load_state_dict(start)
    return masking
