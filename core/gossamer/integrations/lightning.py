"""A Lightning callback that keeps a model masked, moves its topology and puts both into the trainer's checkpoints.

masking = gs.sparsify(module.network, 0.9)
callback = MaskingCallback(masking, gs.RigL(masking, every=100, until=steps * 3 // 4))
Trainer(callbacks=[callback]).fit(module, data)
"""

from typing import Any

from gossamer.dynamic import Method
from gossamer.errors import InputError, of_type
from gossamer.masking import Masking

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise InputError('gossamer.integrations.lightning needs lightning: pip install "gossamer[integrations]"') from error


class MaskingCallback(Callback):
    """Attach `masking` to the trainer's optimizer and call `method.step()` after each of its steps.

    Make the masking and, where the topology shall move, the method before training, also before one that resumes: masks
    and method are restored from the checkpoint. One of the trainer's optimizers must hold all masked parameters.
    """

    def __init__(self, masking: Masking, method: Method | None = None) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        of_type((Method, type(None)), "a method such as gossamer.RigL(masking, …)", method=method)
        self.masking, self.method = masking, method
        self._handle: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach, once the optimizers are there and restored."""
        masked = {id(part.parameter) for part in self.masking.parts.values()}
        for optimizer in trainer.optimizers:
            if any(id(p) in masked for group in optimizer.param_groups for p in group["params"]):
                self.masking.attach(optimizer)
                if self.method:
                    self._handle = optimizer.register_step_post_hook(self._move)
                return
        raise InputError("no optimizer of the trainer holds a masked parameter; sparsify the module that it trains.")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the optimizer."""
        if self._handle:
            self._handle.remove()

    def _move(self, *_: Any) -> None:
        """Move the topology if it is due, after each step of the optimizer, however many a batch takes."""
        if self.method:
            self.method.step()

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return {"masking": self.masking.state_dict(), "method": self.method and self.method.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state that `state_dict` gave, once the method is made."""
        self.masking.load_state_dict(state_dict["masking"])
        if self.method:
            self.method.load_state_dict(state_dict["method"])
