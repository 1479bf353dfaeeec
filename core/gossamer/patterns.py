"""Patterns: which weights live and die together.

A pattern sees a weight as a matrix of shape (out, in × kernel positions) — `NofM` as (out, kernel positions × in) — and
turns scores and a count into a boolean mask with that many weights alive, the best-scored first and ties broken by the
lower index. Where the pattern cannot express the count it takes the nearest that it can.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.errors import InputError, of_type, whole


def best(scores: Tensor, count: int) -> Tensor:
    """A mask of the `count` highest of all `scores`, of the same shape; ties go to the lower index."""
    flat = scores.reshape(-1)
    if not 0 < count < flat.numel():
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    threshold = highest(flat, count)
    mask = flat >= threshold
    if (beyond := int(mask.count_nonzero()) - count) > 0:  # of the ties at the threshold, the last must go
        mask[(flat == threshold).nonzero().squeeze(1)[-beyond:]] = False
    return mask.reshape(scores.shape)


def highest(flat: Tensor, count: int) -> Tensor:
    """The `count`-th highest of a vector; on the CPU by NumPy's partition, which is several times as fast."""
    if flat.device.type != "cpu":
        return flat.kthvalue(flat.numel() - count + 1).values
    values = flat.detach().numpy()
    values = np.compress(values > -np.inf, values)
    place = len(values) - count
    return flat.new_tensor(np.partition(values, place)[place] if place >= 0 else -np.inf)


def best_of_rows(scores: Tensor, count: int) -> Tensor:
    """A mask of the `count` highest scores of each row of a matrix; ties go to the lower index."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)


@dataclass(frozen=True)
class Pattern:
    """What every pattern offers. `density` is the one density that the pattern allows, or None for any."""

    @property
    def density(self) -> float | None:
        """The only density in (0, 1] that this pattern can have, or None where it is free."""
        return None

    def check(self, shape: torch.Size) -> None:
        """Raise `InputError` where a weight of this shape cannot have the pattern."""

    def mask(self, scores: Tensor, count: int) -> Tensor:
        """A boolean mask of the shape of `scores` with `count` weights alive, or the nearest count expressible.

        Scores are compared only within the tensor; +inf keeps a weight, −inf drops it.
        """
        of_type(Tensor, "a tensor of scores", scores=scores)
        whole(-(2**63), count=count)
        if not 0 <= count <= scores.numel():
            raise InputError(f"count is {count}; a weight of shape {tuple(scores.shape)} keeps 0 to {scores.numel()}.")
        if scores.dim() < 2:
            raise InputError(
                f"scores have shape {tuple(scores.shape)}; a pattern needs a weight of 2 or more dimensions."
            )
        if scores.numel() and scores.max().isnan():
            raise InputError("the scores hold NaN, which cannot be ranked; find the batch whose loss is not finite.")
        self.check(scores.shape)
        matrix = self.matrix(scores).to(torch.promote_types(scores.dtype, torch.float32))
        mask = self._mask(matrix, count)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != matrix.shape:
            told = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
            raise InputError(f"{self} makes a mask that is {told}; it must be a boolean {tuple(matrix.shape)}.")
        return self.unmatrix(mask, scores.shape)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight (out, in, …) as the matrix of `out` rows that the pattern sees."""
        return weight.permute(0, *self._columns(weight.dim())).flatten(1)

    def unmatrix(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """A matrix in the shape of the weight again."""
        axes = self._columns(len(shape))
        ordered = matrix.reshape(len(matrix), *(shape[axis] for axis in axes))
        return ordered.permute(0, *(1 + axes.index(axis) for axis in range(1, len(shape)))).contiguous()

    def survivors(self, scores: Tensor, count: int) -> Tensor:
        """The mask of the `count` weights that outlive a drop, before others grow in their stead and `mask` holds."""
        return self.mask(scores, count)

    def _columns(self, dimensions: int) -> list[int]:
        """The axes of a weight but the first, in the order in which they make up the columns of its matrix."""
        return list(range(1, dimensions))

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no _mask, which chooses what lives")


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Every weight for itself."""

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        return best(scores, count)


@dataclass(frozen=True)
class NofM(Pattern):
    """At most `n` of every `m` neighbours in a row are alive (2:4 is `NofM(2, 4)`; Mishra et al. 2021).

    Neighbours follow each other along the inputs; in a convolution, along the input channels at one kernel position, as
    in NVIDIA's ASP, TensorRT and cuSPARSELt. `m` must divide their number (in a grouped convolution, a group's).
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        whole(1, m=self.m)
        whole(0, n=self.n)
        if not 0 < self.n <= self.m:
            raise InputError(f"NofM({self.n}, {self.m}) needs 0 < n <= m.")

    @property
    def density(self) -> float:
        """n / m: the one density that the pattern allows."""
        return self.n / self.m

    def check(self, shape: torch.Size) -> None:
        """Raise where `m` does not divide the inputs."""
        if shape[1] % self.m:
            raise InputError(
                f"a weight of shape {tuple(shape)} has {shape[1]} inputs, which NofM({self.n}, {self.m}) "
                f"does not divide; exclude the layer or choose an m that divides {shape[1]}."
            )

    def _columns(self, dimensions: int) -> list[int]:
        """The inputs last, so that they are neighbours."""
        return [*range(2, dimensions), 1]

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        full = scores.numel() * self.n // self.m
        if count > full:
            raise InputError(f"NofM({self.n}, {self.m}) keeps at most {full} of {scores.numel()} weights, not {count}.")
        mask = best_of_rows(scores.reshape(-1, self.m), self.n).reshape(scores.shape)
        return mask if count == full else best(scores.masked_fill(~mask, -torch.inf), count)


@dataclass(frozen=True)
class Block(Pattern):
    """Blocks of `out` rows by `in_` columns live and die together, scored by their mean; the last may be ragged.

    The count is the nearest that whole blocks give, and where some are ragged off by less than a block. For a
    convolution the columns are kernel positions: in `Block(4, 1)` four neighbouring output channels share one.
    """

    out: int
    in_: int

    def __post_init__(self) -> None:
        whole(1, out=self.out, in_=self.in_)

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        rows, columns = scores.shape
        padded = pad(scores, (0, -columns % self.in_, 0, -rows % self.out))
        sums = padded.unflatten(1, (-1, self.in_)).unflatten(0, (-1, self.out)).sum((1, 3))
        heights = (rows - torch.arange(0, rows, self.out, device=scores.device)).clamp_max(self.out)
        widths = (columns - torch.arange(0, columns, self.in_, device=scores.device)).clamp_max(self.in_)
        sizes = heights[:, None] * widths
        blocks = nearest_units(sums / sizes, sizes, count)
        return blocks.repeat_interleave(self.out, 0)[:rows].repeat_interleave(self.in_, 1)[:, :columns]


@dataclass(frozen=True)
class Channel(Pattern):
    """Whole output channels, or neurons, scored by their mean (Li et al. 2017); at least one stays.

    `sparsify` keeps the last layer dense, whose channels are classes; exclude further heads, such as auxiliary ones.
    """

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        sizes = torch.full((len(scores),), scores.shape[1], device=scores.device)
        return nearest_units(scores.mean(1), sizes, max(count, 1))[:, None].expand(scores.shape).clone()


@dataclass(frozen=True)
class FanIn(Pattern):
    """Constant fan-in: every output neuron keeps equally many inputs, at least one (Lasby et al. 2023).

    A neuron that is dead, all its scores −inf, stays dead.
    """

    def survivors(self, scores: Tensor, count: int) -> Tensor:
        """The best of the whole layer: its neurons are filled up again by what grows."""
        return Unstructured().mask(scores, count)

    def _mask(self, scores: Tensor, count: int) -> Tensor:
        alive = (scores > -torch.inf).any(1)
        fan_in = max(1, round(count / max(1, int(alive.count_nonzero()))))
        return best_of_rows(scores, fan_in) & alive[:, None]


def nearest_units(scores: Tensor, sizes: Tensor, count: int) -> Tensor:
    """The best-scored units that fit into `count` in turn, and one more where that comes nearer to it.

    A unit too large for what is left is passed over, so a ragged unit can fill the count; at least one unit lives where
    `count` is positive.
    """
    order = scores.flatten().argsort(descending=True, stable=True)
    sizes = sizes.flatten()[order]
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    left = count
    while (fits := ~chosen & (sizes <= left)).any():
        chosen |= fits & ((sizes * fits).cumsum(0) <= left)
        left = count - int(sizes[chosen].sum())
    if left and not chosen.all():
        smallest = int(sizes.masked_fill(chosen, sizes.max() + 1).argmin())
        chosen[smallest] |= int(sizes[smallest]) - left < left or not chosen.any()
    return torch.empty_like(chosen).scatter_(0, order, chosen).reshape(scores.shape)


def check_pattern(pattern: Pattern, sparsity: float) -> Pattern:
    """The pattern; raise `InputError` for what is none, or cannot have that sparsity."""
    of_type(Pattern, "a pattern object such as gossamer.Block(4, 1)", pattern=pattern)
    density = pattern.density
    if density is not None and not math.isclose(density, 1 - sparsity, abs_tol=1e-9):
        raise InputError(
            f"{pattern} fixes its sparsity at {1 - density:g}, but {sparsity:g} was asked; "
            f"ask for {1 - density:g} or choose another pattern."
        )
    return pattern
