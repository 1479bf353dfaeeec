"""Wanda as a solver: a weight's size times that of its input, compared within an output."""

from torch import Tensor

from gossamer.oneshot.solver import Solver, chosen
from gossamer.patterns import Pattern, Unstructured, best, best_of_rows


class WandaSolver(Solver):
    """Keeps the highest |w| · ‖x‖₂ of each output, equally many in all (Sun et al. 2024); weights stay as they are."""

    def observed(self, x: Tensor, statistic: Tensor | None) -> Tensor:
        """‖x‖₂² of each input."""
        squares = x.square().sum(0)
        return squares if statistic is None else statistic.add_(squares)

    def solve(self, weight: Tensor, statistic: Tensor, pattern: Pattern, count: int) -> tuple[Tensor, Tensor]:
        """The mask; within each output where the pattern is unstructured, as the pattern has it where not."""
        scores = weight.abs() * statistic.sqrt()
        if not isinstance(pattern, Unstructured):
            return weight, chosen(scores, pattern, count)
        fan_in, rest = divmod(count, len(scores))
        mask = best_of_rows(scores, fan_in)
        next_best = best_of_rows(scores, fan_in + 1) & ~mask
        if rest:
            mask |= best(scores.masked_fill(~next_best, -1), rest) & next_best
        return weight, mask
