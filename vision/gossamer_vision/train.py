"""Train a convolutional network for image classification, dense or sparse.

gossamer train vision quick --seed 1
gossamer train vision quick --method rigl --sparsity 0.95
gossamer train vision fashion-mnist --data-dir FOLDER --method gmp --checkpoint run.pt --save model.gossamer
python -m gossamer_vision.train cifar-10 --accelerator cuda --precision bf16-mixed --method rigl
torchrun --nproc-per-node 2 -m gossamer_vision.train fashion-mnist
"""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import gossamer as gs
from gossamer.domains import nearest
from gossamer.results import refuse_unwritable
from gossamer_vision import data as datasets
from gossamer_vision.classifier import Classifier
from gossamer_vision.data import Data
from gossamer_vision.methods import METHODS, PATTERNS
from gossamer_vision.run import Log, Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
POSITIVE = ("width", "stem", "epochs", "fine_tune", "batch", "learning_rate", "every", "image_size", "time_budget")
CHOSEN_AFTER = ("method", "sparsity", "pattern", "distribution", "fine_tune")


@dataclass(frozen=True)
class Config:
    """One run: the network, the data, the method and the training."""

    method: str = "dense"
    """dense, small-dense, wired (model inception only), magnitude, magnitude-finetune, random-pruned, random-finetune,
    lottery, static-random, snip, grasp, synflow, gmp, set, rigl, granet, srigl"""
    seed: int = 1
    """of the weights, the order of the images and everything random in the method; the split is always the same"""
    sparsity: float = 0.95
    """share of the masked weights that are zero, in [0, 1); for wired, of the channels that a path does not read"""
    pattern: str = "unstructured"
    """which weights live and die together: unstructured, block-4x1, 2:4, 1:4, 1:8, 1:16, fan-in, channel"""
    distribution: str | None = None
    """how much each layer keeps: uniform, er, erk, global, lamp; the method's own where this is not given"""
    storage: str = "masks"
    """how a sparse network is held in training: masks, or sparse (its non-zeros alone; topologies that stay only)"""
    data: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, cifar-10, cifar-100, svhn, imagenette, or folder (of your own pictures)"""
    data_dir: Path | None = None
    """the folder that holds the data set; without it torchvision downloads it"""
    share: float = 1.0
    """share of the training images to train on, in (0, 1]"""
    image_size: int | None = None
    """the side to which images are brought, in pixels; the data set's own where this is not given"""
    model: str = "resnet8"
    """resnetN, wrn-D-K, vgg, mobilenet, inception, or torchvision:NAME"""
    width: float = 16
    """channels of the first stage"""
    stem: int = 1
    """stride of the first convolution, whose kernel is 2 · stride + 1 wide"""
    epochs: int = 20
    """passes over the training images"""
    fine_tune: int = 10
    """passes after the pruning, for magnitude-finetune and random-finetune"""
    batch: int = 64
    """images in a step"""
    learning_rate: float = 0.1
    """the peak of the one-cycle schedule; SGD with Nesterov momentum 0.9"""
    weight_decay: float = 5e-4
    """of all parameters"""
    label_smoothing: float = 0.1
    """share of the target spread over all classes"""
    shift: int = 2
    """images are shifted at random by up to so many pixels"""
    ema: float = 0.0
    """decay of the averaged weights that are evaluated and saved, in [0, 1); 0 evaluates the weights themselves"""
    every: int = 20
    """steps between two moves of the topology"""
    fraction: float = 0.3
    """share of the living weights that moves at first, in [0, 1]"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""
    precision: str = "32-true"
    """what Lightning Fabric calls it: 32-true, bf16-mixed, 16-mixed"""
    time_budget: float | None = None
    """seconds that the training may take: it gets fewer epochs where a few steps on trial say that it takes longer"""
    checkpoint: Path | None = None
    """file to write the run's state to after every epoch, and to go on from where it exists"""
    trained: Path | None = None
    """checkpoint of the same run by method dense, from which methods that prune after training go on where it exists"""
    save: Path | None = None
    """file to write the trained network to, for gossamer_vision.predict"""
    tensorboard: Path | None = None
    """folder for TensorBoard's event files"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise gs.InputError(
                f"method is {self.method!r}{nearest(self.method, METHODS)}; there are {', '.join(METHODS)}."
            )
        if self.pattern not in PATTERNS:
            raise gs.InputError(
                f"pattern is {self.pattern!r}{nearest(self.pattern, PATTERNS)}; there are {', '.join(PATTERNS)}."
            )
        if self.method == "wired" and self.model != "inception":
            raise gs.InputError(f"method 'wired' is for the model 'inception', not {self.model!r}.")
        if self.method == "srigl" and self.pattern != "fan-in":
            raise gs.InputError(f"method 'srigl' needs the pattern 'fan-in', not {self.pattern!r}.")
        if self.storage not in ("masks", "sparse"):
            raise gs.InputError(f"storage is {self.storage!r}; choose masks or sparse.")
        if self.storage == "sparse" and (not METHODS[self.method].before or METHODS[self.method].moves):
            raise gs.InputError(
                "storage 'sparse' is for topologies that stand before training and stay (static-random, snip, grasp, "
                f"synflow), not for method {self.method!r}; choose storage 'masks'."
            )
        if METHODS[self.method].starts_at is not None and (density := PATTERNS[self.pattern].density):
            raise gs.InputError(
                f"method {self.method!r} raises the sparsity step by step, and the pattern {self.pattern!r} has one "
                f"only, {1 - density:g}; choose rigl or set, or another pattern."
            )
        if METHODS[self.method].rewinds and self.epochs < 2:
            raise gs.InputError(
                f"epochs is {self.epochs}, and method {self.method!r} rewinds to the end of the first; give more."
            )
        if self.precision not in PRECISIONS:
            raise gs.InputError(f"precision is {self.precision!r}; choose {', '.join(PRECISIONS)}.")
        for name, low, high in (("sparsity", 0, 1), ("ema", 0, 1), ("label_smoothing", 0, 1)):
            if not low <= getattr(self, name) < high:
                raise gs.InputError(f"{name} is {getattr(self, name)}; it must be in [{low}, {high}).")
        if not 0 < self.share <= 1:
            raise gs.InputError(f"share is {self.share}; it must be in (0, 1].")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise gs.InputError(f"{name} is {value}; it must be above 0 and finite.")
        for name in ("shift", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise gs.InputError(f"{name} is {getattr(self, name)}; it must be at least 0 and finite.")
        datasets.check(self.data, self.data_dir)

    @property
    def places(self) -> tuple[str, ...]:
        """The fields that say where files lie, which is no part of what is run; one's own folder says what it holds."""
        return (*(() if self.data == "folder" else ("data_dir",)), "checkpoint", "trained", "save", "tensorboard")


def load_data(config: Config) -> Data:
    """The data set that a configuration asks for; grey images as colour ones for a network of torchvision's."""
    channels = 3 if config.model.startswith("torchvision:") else None
    return datasets.load(config.data, config.data_dir, size=config.image_size, channels=channels)


def train(config: Config, log: Log = lambda line: None) -> Run:
    """Train the network of `config`, or the rest of it from its checkpoint; the same numbers on every call."""
    for path in (config.checkpoint, config.save):
        if path:
            refuse_unwritable(path)
    run = Run(config, load_data(config))
    rehearse(run)
    for path in run.data.skipped:
        log(f"skipped {path}, which cannot be read")
    if config.checkpoint and config.checkpoint.exists():
        run.restore(config.checkpoint)
        log(f"going on after epoch {len(run.progress.held_out)}")
    elif config.trained and config.trained.exists() and run.method.after and not run.method.rewinds:
        run.restore(config.trained, but=CHOSEN_AFTER)
        log(f"going on from {config.trained}")
    else:
        run.keep_to_budget(log)
    progress, board = run.progress, board_at(config.tensorboard)
    total = sum(cycle.epochs - cycle.rewound for cycle in run.cycles)
    while progress.cycle < len(run.cycles):
        cycle = run.cycles[progress.cycle]
        if not progress.started:
            run.start(cycle)
        while progress.epoch < cycle.epochs:
            start = time.perf_counter()
            progress.losses.append(run.train_epoch(cycle))
            progress.epoch += 1
            progress.seconds += time.perf_counter() - start
            progress.held_out.append(run.accuracy_held_out())
            if run.method.rewinds and not run.early:
                run.early = copy.deepcopy(run.network.state_dict())
            report(run, total, log, board)
            if config.checkpoint and run.fabric.is_global_zero:
                run.save(config.checkpoint)
        run.finish()
    if board:
        board.close()
    if config.save and run.fabric.is_global_zero:
        size = classifier(run).save(config.save)
        log(f"wrote {config.save}: {size:,} bytes")
    return run


def rehearse(run: Run) -> None:
    """Raise `InputError` now for what would fail only after hours of training."""
    config, network = run.config, copy.deepcopy(run.network).eval()
    if config.shift >= min(run.data.shape[1:]):
        raise gs.InputError(f"shift is {config.shift}, as large as the images; choose less.")
    try:
        with torch.no_grad():
            network(run.data.scaled(run.images[:1]))
    except RuntimeError as error:
        size = "×".join(map(str, run.data.shape))
        raise gs.InputError(
            f"{config.model} with stem {config.stem} does not take images of {size} ({error}); choose a smaller "
            "--stem, a larger --image-size or another --model."
        ) from error
    if run.method.after:
        pattern, distribution = PATTERNS[config.pattern], config.distribution or run.method.distribution
        gs.sparsify(network, config.sparsity, pattern=pattern, distribution=distribution)


def classifier(run: Run) -> Classifier:
    """The trained network with all that it takes to look at pictures."""
    network, data = run.network.cpu().eval(), run.data
    masks = {name: mask.cpu() for name, mask in run.masks.items()}
    return Classifier(network, run.architecture, data.classes, data.mean, data.std, masks)


def report(run: Run, total: int, log: Log, board: "SummaryWriter | None") -> None:
    """Tell of the epoch just done: a line to `log`, and TensorBoard where there is one."""
    progress = run.progress
    done, sparsity = len(progress.held_out), run.sparsity
    left = progress.seconds / done * (total - done)
    log(
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
        raise gs.InputError("--tensorboard needs the package tensorboard; type: pip install tensorboard") from error
    return SummaryWriter(folder)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("vision")
