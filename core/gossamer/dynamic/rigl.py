"""RigL: SET that grows by the gradient."""

from torch import Tensor

from gossamer.dynamic.set import SET
from gossamer.errors import InputError
from gossamer.processes import averaged


class RigL(SET):
    """Rigging the lottery: grow where the dense gradient is largest (Evci et al. 2020). Options as `SET`'s."""

    needs_gradients = True

    def grow_scores(self, name: str) -> Tensor:
        """|g|: the magnitude of the dense gradient."""
        return self.gradient(name).abs()

    def gradient(self, name: str) -> Tensor:
        """The dense gradient of the step just done, of the weight's shape, averaged over the processes.

        Raises `InputError` where the layer got none.
        """
        gradient = self.masking.parts[name].gradient
        if gradient is None:
            raise InputError(
                f"{name} got no gradient in the step before this update; exclude it or use it in the loss."
            )
        return averaged(gradient)
