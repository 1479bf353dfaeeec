"""What every solver offers: it looks at a layer's inputs, and gives its weights and mask."""

from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns import NofM, Pattern, Unstructured


class Solver:
    """Prunes one matrix (outputs, inputs) from a statistic of its inputs."""

    def observed(self, x: Tensor, statistic: Tensor | None) -> Tensor:
        """The statistic with the inputs x (samples, inputs) added; None is the first's."""
        raise NotImplementedError

    def solve(self, weight: Tensor, statistic: Tensor, pattern: Pattern, count: int) -> tuple[Tensor, Tensor]:
        """The new weights and the mask, both of the weight's shape (outputs, inputs), with `count` weights alive."""
        raise NotImplementedError


class MagnitudeSolver(Solver):
    """Keeps the largest weights of the layer; its inputs do not matter."""

    def observed(self, x: Tensor, statistic: Tensor | None) -> Tensor:
        """Nothing is learned from the inputs."""
        return x.new_empty(0)

    def solve(self, weight: Tensor, statistic: Tensor, pattern: Pattern, count: int) -> tuple[Tensor, Tensor]:
        """|w|: magnitude alone."""
        return weight, chosen(weight.abs(), pattern, count)


def chosen(scores: Tensor, pattern: Pattern, count: int) -> Tensor:
    """The pattern's mask of a matrix in the pattern's own order of columns."""
    full = scores.numel() * pattern.n // pattern.m if isinstance(pattern, NofM) else count
    return pattern.mask(scores, min(count, full))


def refuse_pattern(pattern: Pattern, solver: str) -> None:
    """Raise `InputError` for a pattern that is neither unstructured nor n:m."""
    if not isinstance(pattern, Unstructured | NofM):
        raise InputError(f"{solver} solves for Unstructured() and NofM(n, m), not {pattern}; use 'wanda' for others.")
