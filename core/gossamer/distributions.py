"""Distributions: how many weights each layer keeps of an overall sparsity.

Each takes the scores of all layers by name and the sparsity asked, and gives the number of weights that each layer
keeps. A weight scored −inf is dead: no layer keeps more than its living weights. The numbers add up to the overall
count exactly, or to all that live where those are fewer.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor

from gossamer.errors import InputError, function_of, of_type, share
from gossamer.patterns import best

Scores = Mapping[str, Tensor]
Distribution = Callable[[Scores, float], dict[str, int]]


def living(scores: Scores) -> dict[str, int]:
    """The number of weights of each layer that are not scored −inf."""
    return {name: int((s > -torch.inf).count_nonzero()) for name, s in scores.items()}


def total(scores: Scores, sparsity: float) -> int:
    """The number of weights kept over all layers: round((1 − sparsity) · weights), or those that live if fewer."""
    return min(round((1 - sparsity) * sum(s.numel() for s in scores.values())), sum(living(scores).values()))


def round_to(exact: Mapping[str, float], rooms: Mapping[str, int], count: int) -> dict[str, int]:
    """Whole numbers that add up to `count`, each within 1 of `exact` and within its room (largest remainder)."""
    counts = {name: int(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (counts[name] - exact[name], -rooms[name]))
    left = count - sum(counts.values())
    for name in [name for name in order if counts[name] < rooms[name]][:left]:
        counts[name] += 1
    return counts


def proportional(raw: Mapping[str, float], scores: Scores, sparsity: float) -> dict[str, int]:
    """Densities ε · raw, no layer above its living weights, with the ε that meets the overall count.

    Layers that would exceed theirs are capped, and ε solved again for the others, until none does: the exact solution.
    """
    rooms, count = living(scores), total(scores, sparsity)
    shares = {name: raw[name] * s.numel() for name, s in scores.items()}
    capped: set[str] = set()
    while True:
        free = [name for name in scores if name not in capped]
        whole = sum(shares[name] for name in free)
        epsilon = (count - sum(rooms[name] for name in capped)) / whole if free else 0.0
        over = {name for name in free if epsilon * shares[name] > rooms[name]}
        if not over:
            break
        capped |= over
    exact = {name: rooms[name] if name in capped else epsilon * shares[name] for name in scores}
    return round_to(exact, rooms, count)


def uniform(scores: Scores, sparsity: float) -> dict[str, int]:
    """The same density everywhere."""
    return proportional(dict.fromkeys(scores, 1.0), scores, sparsity)


def er(scores: Scores, sparsity: float) -> dict[str, int]:
    """Erdős–Rényi: density ∝ (out + in) / (out · in) (Mocanu et al. 2018)."""
    raw = {name: sum(s.shape[:2]) / s.shape[:2].numel() for name, s in scores.items()}
    return proportional(raw, scores, sparsity)


def erk(scores: Scores, sparsity: float) -> dict[str, int]:
    """Erdős–Rényi kernel: density ∝ (out + in + kernel sides) / weights (Evci et al. 2020)."""
    raw = {name: sum(s.shape) / s.numel() for name, s in scores.items()}
    return proportional(raw, scores, sparsity)


def global_(scores: Scores, sparsity: float) -> dict[str, int]:
    """The best scores of all layers together, wherever they are."""
    joined = torch.cat([s.flatten().double().cpu() for s in scores.values()])
    kept = best(joined, total(scores, sparsity)).split([s.numel() for s in scores.values()])
    return {name: int(k.sum()) for name, k in zip(scores, kept, strict=True)}


def lamp(scores: Scores, sparsity: float) -> dict[str, int]:
    """Global over layer-adaptive scores: w² / Σ w'² over the weights w' no smaller than w (Lee et al. 2021).

    Raises `InputError` for scores below zero, whose squares would turn their order round.
    """

    def adapted(name: str, score: Tensor) -> Tensor:
        dead = score.flatten() == -torch.inf
        values = score.flatten().double().masked_fill(dead, 0)
        if (values < 0).any():
            raise InputError(f"the scores of {name} are below zero, which 'lamp' cannot square; use 'global' or 'erk'.")
        squares, order = values.square().sort(descending=True, stable=True)
        ratio = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.empty_like(ratio).scatter_(0, order, ratio).masked_fill(dead, -torch.inf)

    return global_({name: adapted(name, score) for name, score in scores.items()}, sparsity)


def per_layer(targets: Mapping[str, float], scores: Scores, sparsity: float) -> dict[str, int]:
    """Layers whose module or parameter matches a glob of `targets` get its sparsity, the others the overall one.

    {"layer4.*": 0.95, "fc": 0.0} asks 95% of every module below layer4 and leaves fc dense; the first match wins. A
    method that prunes gradually raises the sparsity of the others only: targets hold from its first step on.
    """
    modules = {name: name.partition(".parametrizations.")[0] for name in scores}
    modules = {name: path if path != name else name.rpartition(".")[0] for name, path in modules.items()}
    for glob in targets:
        if not any(fnmatchcase(modules[name], glob) or fnmatchcase(name, glob) for name in scores):
            raise InputError(f"distribution names {glob!r}, which matches none of {', '.join(modules.values())}.")
    counts, rooms = {}, living(scores)
    for name, score in scores.items():
        called = (modules[name], name)
        asked = next((s for glob, s in targets.items() if any(fnmatchcase(n, glob) for n in called)), sparsity)
        counts[name] = min(rooms[name], round((1 - asked) * score.numel()))
    return counts


DISTRIBUTIONS: dict[str, Distribution] = {"uniform": uniform, "er": er, "erk": erk, "global": global_, "lamp": lamp}


def distribution(name: "str | Mapping[str, float] | Distribution") -> Distribution:
    """The distribution of that name, of those per-layer targets, or the function itself."""
    if isinstance(name, Mapping):
        for glob, asked in name.items():
            of_type(str, "a mapping of globs to sparsities", distribution=glob)
            share(**{f"the sparsity of {glob!r} in distribution": asked})
        return partial(per_layer, dict(name))
    if callable(name) and not isinstance(name, torch.nn.Module):
        function_of(2, "a name, a mapping of globs, or a function of scores and a sparsity", distribution=name)
        return name
    if not isinstance(name, str) or name not in DISTRIBUTIONS:
        raise InputError(f"distribution is {name!r}; choose one of {', '.join(DISTRIBUTIONS)}, or a mapping of globs.")
    return DISTRIBUTIONS[name]
