"""Taylor: the loss's first-order change, squared."""

from torch import Tensor

from gossamer.scores.from_gradients import FromGradients


class Taylor(FromGradients):
    """Mean of (w · g)² over batches, g a batch's gradient: first-order Taylor importance (Molchanov et al. 2019)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """(w · g)²."""
        return (w * g).square()
