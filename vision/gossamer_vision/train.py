"""Train a convolutional network for image classification, dense or sparse.

gossamer train vision folder --data-dir PICTURES --save model.gossamer
gossamer train vision quick --method rigl --sparsity 0.95
gossamer train vision fashion-mnist --data-dir FOLDER --method gmp --checkpoint run.pt --save model.gossamer
python -m gossamer_vision.train cifar-10 --accelerator cuda --precision bf16-mixed --method rigl
torchrun --nproc-per-node 2 -m gossamer_vision.train fashion-mnist
"""

import copy
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import gossamer as gs
from gossamer.checkpoints import Checkpoint
from gossamer.errors import InputError
from gossamer.paths import refuse_unwritable
from gossamer_vision.budget import keep_to_budget
from gossamer_vision.classifier import Classifier, evaluated
from gossamer_vision.config import Config
from gossamer_vision.methods import pattern
from gossamer_vision.pruning import moving_steps
from gossamer_vision.run import Log, Run
from gossamer_vision.start import load_data

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHOSEN_AFTER = ("method", "sparsity", "pattern", "distribution", "fine_tune")
FEWEST_STEPS = 200
LINES = 25
SKIPPED = 5


def train(config: Config, log: Log = lambda line: None) -> Run:
    """Train the network of `config`, or the rest of it from its checkpoint; the same numbers on every call."""
    if config.save:
        refuse_unwritable(config.save)
    run = Run(config, load_data(config), log)
    board = board_at(config.tensorboard)
    rehearse(run)
    with Checkpoint(config.checkpoint, run.save) as checkpoint:
        begin(run)
        while not run.done:
            if run.step():
                report(run, board)
            checkpoint.step()
    if board:
        board.close()
    if config.save and run.fabric.is_global_zero:
        size = classifier(run).save(config.save)
        log(f"wrote {config.save}: {size:,} bytes; look at pictures by")
        log(f"  gossamer vision predict {shlex.quote(str(config.save))} PICTURE …")
    return run


def rehearse(run: Run) -> None:
    """Raise `InputError` now for what would fail only after hours of training."""
    config, network = run.config, copy.deepcopy(run.network)
    if run.settings.shift >= min(run.data.shape[1:]):
        raise InputError(f"shift is {run.settings.shift}, as large as the images; choose less.")
    try:
        with torch.no_grad(), evaluated(network):
            outputs = network(run.data.scaled(run.batches.images[:1]))
    except (RuntimeError, AssertionError, ValueError) as error:
        size = "×".join(map(str, run.data.shape))
        raise InputError(
            f"{config.model} with stem {run.settings.stem} does not take images of {size} ({error}); choose a smaller "
            "--stem, a larger --image-size (224 is what most of torchvision's take) or another --model."
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (1, len(run.data.classes)):
        raise InputError(f"{config.model} does not give one score a class; choose another --model.")
    if run.method.moves:
        moving_steps(run.cycles[-1].epochs * run.batches.steps, run.settings.every)
    if run.method.after:
        distribution = config.distribution or run.method.distribution
        gs.sparsify(network, run.settings.sparsity, pattern=pattern(config.pattern), distribution=distribution)


def begin(run: Run) -> None:
    """Go on from where the run, or the dense one that it prunes, was kept; else say how it starts."""
    config, log = run.config, run.log
    for reason in run.data.skipped[:SKIPPED]:
        log(f"skipped: {reason}")
    if (more := len(run.data.skipped) - SKIPPED) > 0:
        log(f"skipped: {more:,} more")
    if config.checkpoint and config.checkpoint.exists():
        run.restore(config.checkpoint)
        log(f"going on after epoch {len(run.progress.held_out)}, step {run.progress.step}")
        return
    if config.trained and config.trained.exists() and run.method.after and not run.method.rewinds:
        run.restore(config.trained, but=CHOSEN_AFTER)
        log(f"going on from {config.trained}")
        return
    keep_to_budget(run)
    parts = (len(part) for part in (run.data.train, run.data.held_out, run.data.test))
    if config.data == "folder":
        log("{:,} pictures to train on, {:,} held out to choose by, {:,} to test".format(*parts))
    chosen = {
        "image_size": run.data.frame.size,
        "fit": run.data.frame.fit,
        "normalise": run.data.normalise,
    } | run.settings.chosen
    for name, reason in {**run.data.frame.reasons, **run.settings.reasons}.items():
        log(f"  --{name.replace('_', '-')} {chosen[name]}: {reason}")
    if run.data.flips and not config.mirror:
        log("  --no-mirror: left and right may matter; --mirror where they do not")
    total = run.epochs * run.batches.steps
    if total < FEWEST_STEPS:
        log(
            f"warning: {total} steps are few to learn by ({run.epochs} epochs of {len(run.data.train)} images in steps "
            f"of {run.batches.size}); give a smaller --batch or more --epochs"
        )


def classifier(run: Run) -> Classifier:
    """The trained network with all that it takes to look at pictures."""
    data, config = run.data, run.config
    masks = {name: mask.cpu() for name, mask in run.masks.items()}
    folder = str(config.data_dir.resolve()) if config.data_dir else None
    trained = {"data": config.data, "data_dir": folder, "pattern": config.pattern}
    network = run.network.cpu().eval()
    return Classifier(
        network, run.architecture, data.classes, data.mean, data.std, masks, fit=data.frame.fit, trained=trained
    )


def report(run: Run, board: "SummaryWriter | None") -> None:
    """Tell of the epoch just done: a line to the log, and TensorBoard where there is one."""
    progress, total = run.progress, run.epochs
    done, sparsity = len(progress.held_out), run.sparsity
    left = progress.seconds / done * (total - done)
    if done == total or done % -(-total // LINES) == 0:
        run.log(
            f"epoch {done}/{total}  loss {progress.losses[-1]:.3f}  held-out {progress.held_out[-1]:.2%}  "
            f"sparsity {sparsity:.1%}  {progress.seconds:.0f} s, {left:.0f} s to go"
        )
    if board:
        rate = run.optimizer.param_groups[0]["lr"]
        values = {"loss": progress.losses[-1], "held-out": progress.held_out[-1], "rate": rate, "sparsity": sparsity}
        for name, value in values.items():
            board.add_scalar(name, value, done)


def board_at(folder: Path | None) -> "SummaryWriter | None":
    """A writer of TensorBoard's event files, or None where no folder is given."""
    if folder is None:
        return None
    refuse_unwritable(folder / "events")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise InputError("--tensorboard needs the package tensorboard; type: pip install tensorboard") from error
    return SummaryWriter(folder)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("vision")
