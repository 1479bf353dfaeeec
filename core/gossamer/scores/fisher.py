"""Fisher: the loss added by a weight's removal, by the empirical Fisher."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from gossamer.scores.batches import examples
from gossamer.scores.from_gradients import FromGradients


class Fisher(FromGradients):
    """½ w² · mean of g² over examples: the empirical Fisher's estimate of the loss added (Theis et al. 2018).

    The gradient g is one example's, so every batch is cut into its examples: tensors along their first dimension, also
    those inside tuples, lists and dicts.
    """

    def pieces(self) -> Iterable[Any]:
        """The single examples of a batch, whose gradients are squared one by one."""
        return (example for batch in FromGradients.pieces(self) for example in examples(batch))

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """½ w² g²."""
        return (w * g).square() / 2
