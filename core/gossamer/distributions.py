"""Distributions: how many weights each layer keeps of an overall sparsity.

Each takes the scores of all layers by name (their shapes count, and for `global` and `lamp` their values) and the
sparsity asked, and gives the number of weights that each layer keeps; the numbers add up to the overall count exactly.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns import best

Scores = Mapping[str, Tensor]
Distribution = Callable[[Scores, float], dict[str, int]]


def total(scores: Scores, sparsity: float) -> int:
    """The number of weights kept over all layers: round((1 − sparsity) · weights)."""
    return round((1 - sparsity) * sum(s.numel() for s in scores.values()))


def round_to(exact: Mapping[str, float], sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Whole numbers that add up to `count`, each within 1 of `exact` and within its size (largest remainder)."""
    counts = {name: int(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (counts[name] - exact[name], -sizes[name]))
    left = count - sum(counts.values())
    for name in [name for name in order if counts[name] < sizes[name]][:left]:
        counts[name] += 1
    return counts


def proportional(raw: Mapping[str, float], scores: Scores, sparsity: float) -> dict[str, int]:
    """Densities min(1, ε · raw), with the ε that meets the overall count: layers are capped until none exceeds 1."""
    sizes = {name: s.numel() for name, s in scores.items()}
    count = total(scores, sparsity)
    dense: set[str] = set()
    while True:
        free = [name for name in scores if name not in dense]
        weight = sum(raw[name] * sizes[name] for name in free)
        epsilon = (count - sum(sizes[name] for name in dense)) / weight if free else 0.0
        over = {name for name in free if epsilon * raw[name] > 1}
        if not over:
            break
        dense |= over
    exact = {name: sizes[name] * (1.0 if name in dense else epsilon * raw[name]) for name in scores}
    return round_to(exact, sizes, count)


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
    joined = torch.cat([s.flatten().float().cpu() for s in scores.values()])
    kept = best(joined, total(scores, sparsity)).split([s.numel() for s in scores.values()])
    return {name: int(k.sum()) for name, k in zip(scores, kept, strict=True)}


def lamp(scores: Scores, sparsity: float) -> dict[str, int]:
    """Global over layer-adaptive scores: w² / Σ w'² over the weights w' no smaller than w (Lee et al. 2021)."""

    def adapted(score: Tensor) -> Tensor:
        squares, order = score.flatten().double().square().sort(descending=True, stable=True)
        ratio = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
        return torch.empty_like(ratio).scatter_(0, order, ratio).reshape(score.shape)

    return global_({name: adapted(score) for name, score in scores.items()}, sparsity)


def per_layer(targets: Mapping[str, float], scores: Scores, sparsity: float) -> dict[str, int]:
    """Layers whose name matches a glob of `targets` get its sparsity, the others the overall one; first match wins."""
    unused = [glob for glob in targets if not any(fnmatchcase(name, glob) for name in scores)]
    if unused:
        raise InputError(f"distribution names {unused[0]!r}, which matches none of the layers {', '.join(scores)}.")
    counts = {}
    for name, score in scores.items():
        asked = next((s for glob, s in targets.items() if fnmatchcase(name, glob)), sparsity)
        if not 0 <= asked < 1:
            raise InputError(f"distribution asks a sparsity of {asked} for {name}; it must be in [0, 1).")
        counts[name] = round((1 - asked) * score.numel())
    return counts


DISTRIBUTIONS: dict[str, Distribution] = {"uniform": uniform, "er": er, "erk": erk, "global": global_, "lamp": lamp}


def distribution(name: "str | Mapping[str, float] | Distribution") -> Distribution:
    """The distribution of that name, of those per-layer targets, or the function itself."""
    if isinstance(name, Mapping):
        return lambda scores, sparsity: per_layer(name, scores, sparsity)
    if callable(name):
        return name
    if name not in DISTRIBUTIONS:
        raise InputError(f"distribution is {name!r}; choose one of {', '.join(DISTRIBUTIONS)}, or a mapping of globs.")
    return DISTRIBUTIONS[name]
