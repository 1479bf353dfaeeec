"""Movement: where a weight is going."""

from torch import Tensor

from gossamer.scores.from_gradients import FromGradients


class Movement(FromGradients):
    """Mean of −w · g: weights that move away from zero are kept (Sanh et al. 2020)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """−w · g."""
        return -w * g
