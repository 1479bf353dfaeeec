"""A Hugging Face Trainer callback that keeps a model masked, moves its topology and stores both with the checkpoints.

masking = gs.sparsify(model, 0.9)
callback = MaskingCallback(masking, gs.RigL(masking, every=100, until=steps * 3 // 4))
Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
"""

from pathlib import Path
from typing import Any

from gossamer import checkpoints
from gossamer.dynamic import Method
from gossamer.errors import InputError, of_type
from gossamer.masking import Masking

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise InputError('gossamer.integrations.transformers needs it: pip install "gossamer[integrations]"') from error

FILE = "gossamer.pt"


class MaskingCallback(TrainerCallback):
    """Attach `masking` to the trainer's optimizer and call `method.step()` after each of its steps.

    Make the masking and, where the topology shall move, the method before training, also before one that resumes: masks
    and method are restored from the file gossamer.pt in the checkpoint's folder, as they are for the best model that
    `load_best_model_at_end` brings back.
    """

    def __init__(self, masking: Masking, method: Method | None = None) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        of_type((Method, type(None)), "a method such as gossamer.RigL(masking, …)", method=method)
        self.masking, self.method = masking, method

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        """Restore, where training resumes, and attach."""
        if state.global_step:
            named = args.resume_from_checkpoint  # a path, or "True" for the last in output_dir
            last = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
            self._restore(Path(named) if isinstance(named, str) and Path(named).is_dir() else last)
        self.masking.attach(optimizer)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the topology if it is due."""
        if self.method:
            self.method.step()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Store masks and method beside the trainer's own files."""
        if state.is_world_process_zero:
            path = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}" / FILE
            method = self.method and self.method.state_dict()
            checkpoints.save(path, masking=self.masking.state_dict(), method=method)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give the best model the masks that it was saved with."""
        if args.load_best_model_at_end and state.best_model_checkpoint:
            self._restore(Path(state.best_model_checkpoint))

    def _restore(self, folder: Path) -> None:
        kept = checkpoints.load(folder / FILE)
        parts = self.masking.masked
        if any(name in parts and not parts[name].fits(mask) for name, mask in kept["masking"]["masks"].items()):
            raise InputError(
                f"the masks in {folder / FILE} are not those of the weights that training resumes from; "
                "name the folder of these in TrainingArguments(resume_from_checkpoint=...) too."
            )
        self.masking.load_state_dict(kept["masking"])
        if self.method:
            self.method.load_state_dict(kept["method"])
