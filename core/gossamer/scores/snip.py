"""SNIP: what the loss would feel of a weight's removal before training."""

from torch import Tensor

from gossamer.scores.from_gradients import FromGradients


class SNIP(FromGradients):
    """|w · g|, g the mean gradient: connection sensitivity (Lee et al. 2019)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """w · g."""
        return w * g

    def finish(self, mean: Tensor) -> Tensor:
        """The absolute value of what was summed."""
        return mean.abs()
