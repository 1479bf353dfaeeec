"""A Lightning callback that keeps a model masked, moves its topology and puts both into the trainer's checkpoints.

masking = gs.sparsify(module.network, 0.9)
callback = MaskingCallback(masking, gs.RigL(masking, every=100, until=steps * 3 // 4))
Trainer(callbacks=[callback]).fit(module, data)
"""

from typing import Any

from gossamer.dynamic import SET
from gossamer.errors import InputError
from gossamer.masking import Masking

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise InputError('gossamer.integrations.lightning needs lightning: pip install "gossamer[integrations]"') from error


class MaskingCallback(Callback):
    """Attach `masking` to the trainer's optimizer and call `method.step()` after each of its steps.

    Make the masking and, where the topology shall move, the method before training, also before one that resumes: masks
    and method are restored from the checkpoint. Of several optimizers the first that holds a masked parameter counts.
    """

    def __init__(self, masking: Masking, method: SET | None = None) -> None:
        self.masking, self.method = masking, method
        self._stepping = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach, once the optimizers are there and restored."""
        masked = {id(part.parameter) for part in self.masking.parts.values()}
        for optimizer in trainer.optimizers:
            if any(id(p) in masked for group in optimizer.param_groups for p in group["params"]):
                self.masking.attach(optimizer)
                return
        raise InputError("no optimizer of the trainer holds a masked parameter; sparsify the module that it trains.")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Note that this batch completes a step, which accumulation may put off."""
        self._stepping = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the topology if it is due."""
        if self._stepping and self.method:
            self.method.step()
        self._stepping = False

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return {"masking": self.masking.state_dict(), "method": self.method and self.method.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.masking.load_state_dict(state_dict["masking"])
        if self.method:
            self.method.load_state_dict(state_dict["method"])
