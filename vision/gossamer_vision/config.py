"""The configuration of one run, and the presets.

A field that may be None is chosen where it is: from the number and the size of the images (`gossamer_vision.settings`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from gossamer.devices import PRECISIONS
from gossamer.errors import InputError, at_least, learning_rate, one_of, positive, share, within
from gossamer_vision.methods import METHODS, PATTERNS, density

DATA = ("digits", "mnist", "fashion-mnist", "kmnist", "cifar-10", "cifar-100", "svhn", "imagenette", "folder")
STORAGES = ("masks", "sparse")
FITS = ("crop", "pad", "stretch")
NORMALISERS = ("data", "picture")
POLICIES = ("distort", "trivial", "rand")


@dataclass(frozen=True)
class Config:
    """One run: the network, the data, the method and the training."""

    method: str = "dense"
    """dense, small-dense, wired (model inception only), magnitude, magnitude-finetune, random-pruned, random-finetune,
    lottery, static-random, snip, grasp, synflow, gmp, set, rigl, granet, srigl, fixed (the masks that --from brings)"""
    seed: int = 1
    """of the weights, the order of the images and everything random in the method; the split is always the same"""
    sparsity: float | None = 0.95
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
    fit: str | None = None
    """how one's own pictures are made square: crop (to the middle), pad (with white) or stretch; chosen if not given"""
    normalise: str | None = "data"
    """by whose mean and deviation images are scaled: the training part's (data), or each picture's own (picture)"""
    mirror: bool = True
    """mirror images at random, where the data set is one whose images may be; not for text, signs, left and right"""
    augment: str | None = None
    """how images are changed at random: distort (turned, stretched and shifted a little), or by torchvision's policies
    trivial (TrivialAugmentWide) and rand (RandAugment); where this is not given, only shifted"""
    harden: float = 0.0
    """share of the training images that get noise, blur or less contrast, of random strength, in [0, 1]"""
    start: Annotated[Path | None, arg(name="from")] = None
    """a file of --save whose network, classes, masks and image size are gone on from"""
    model: str = "resnet8"
    """resnetN, wrn-D-K, vgg, mobilenet, inception, or torchvision:NAME"""
    weights: str | None = None
    """trained weights for torchvision:NAME: default (torchvision downloads them), or a file of its (.pth)"""
    freeze: bool = False
    """train the classifier alone, and keep the rest of the network as --from or --weights brought it"""
    width: float | None = 16
    """channels of the first stage"""
    stem: int | None = 1
    """stride of the first convolution, whose kernel is 2 · stride + 1 wide"""
    epochs: int | None = 20
    """passes over the training images"""
    fine_tune: int | None = 10
    """passes after the pruning, for magnitude-finetune and random-finetune"""
    batch: int | None = 64
    """images in a step, over all processes"""
    learning_rate: float | None = 0.1
    """the peak of the one-cycle schedule, in (0, 10]; SGD with Nesterov momentum 0.9"""
    weight_decay: float = 5e-4
    """of all parameters"""
    label_smoothing: float = 0.1
    """share of the target spread over all classes"""
    shift: int | None = 2
    """images are shifted at random by up to so many pixels"""
    ema: float = 0.0
    """decay of the averaged weights that are evaluated and saved, in [0, 1); 0 evaluates the weights themselves"""
    every: int | None = 20
    """steps between two moves of the topology"""
    fraction: float = 0.3
    """share of the living weights that moves at first, in [0, 1]"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""
    precision: str = "32-true"
    """what Lightning Fabric calls it: 32-true, bf16-mixed, 16-mixed"""
    processes: int = 1
    """how many train together: as many as torchrun has started, whose sums are rounded otherwise than one's"""
    threads: int | None = None
    """threads that compute; torch's own number where this is not given"""
    time_budget: float | None = None
    """seconds that the training may take: it gets fewer epochs where a few steps on trial say that it takes longer, and
    leaves out steps where it is late all the same"""
    checkpoint: Path | None = None
    """file to keep the run's state in, from which the same command goes on"""
    trained: Path | None = None
    """checkpoint of the same run by method dense, from which methods that prune after training go on where it exists"""
    save: Path | None = None
    """file to write the trained network to, for gossamer vision predict"""
    tensorboard: Path | None = None
    """folder for TensorBoard's event files"""

    def __post_init__(self) -> None:
        if self.processes == 1:  # set here and not as the default, so that it is told apart in a result's name
            object.__setattr__(self, "processes", int(os.environ.get("WORLD_SIZE", 1)))
        one_of(METHODS, method=self.method)
        one_of(PATTERNS, pattern=self.pattern)
        one_of(STORAGES, storage=self.storage)
        one_of(PRECISIONS, precision=self.precision)
        one_of(FITS, fit=self.fit)
        one_of(NORMALISERS, normalise=self.normalise)
        one_of(POLICIES, augment=self.augment)
        share(sparsity=self.sparsity, ema=self.ema, label_smoothing=self.label_smoothing)
        within(0, 1, share=self.share, fraction=self.fraction, harden=self.harden)
        positive(share=self.share, width=self.width, time_budget=self.time_budget)
        at_least(0, shift=self.shift, weight_decay=self.weight_decay)
        whole = ("stem", "epochs", "fine_tune", "batch", "every", "image_size", "processes", "threads")
        at_least(1, **{name: getattr(self, name) for name in whole})
        learning_rate(learning_rate=self.learning_rate)
        check_data(self.data, self.data_dir)
        self._check_method()
        self._check_start()

    def _check_method(self) -> None:
        """Raise `InputError` for a method that what is beside it does not suit."""
        method = METHODS[self.method]
        if self.method == "wired" and self.model != "inception":
            raise InputError(f"method 'wired' is for the model 'inception', not {self.model!r}.")
        if self.method == "srigl" and self.pattern != "fan-in":
            raise InputError(f"method 'srigl' needs the pattern 'fan-in', not {self.pattern!r}.")
        if self.storage == "sparse" and (not method.before or method.moves):
            raise InputError(
                "storage 'sparse' is for topologies that stand before training and stay (static-random, snip, grasp, "
                f"synflow), not for method {self.method!r}; choose storage 'masks'."
            )
        if method.starts_at is not None and (only := density(self.pattern)):
            raise InputError(
                f"method {self.method!r} raises the sparsity step by step, and the pattern {self.pattern!r} has one "
                f"only, {1 - only:g}; choose rigl or set, or another pattern."
            )
        if method.rewinds and self.epochs is not None and self.epochs < 2:
            raise InputError(
                f"epochs is {self.epochs}, and method {self.method!r} rewinds to the end of the first; give more."
            )

    def _check_start(self) -> None:
        """Raise `InputError` where what the network starts from, and what is asked of it, do not go together."""
        if self.start and self.weights:
            raise InputError("--from and --weights both bring weights; give one of them.")
        if self.weights and not self.model.startswith("torchvision:"):
            raise InputError(
                f"weights are for models of torchvision's, not {self.model!r}; give --model torchvision:NAME."
            )
        if self.freeze and not (self.start or self.weights):
            raise InputError("freeze keeps what --from or --weights brings; give one of them.")
        if self.freeze and self.method not in ("dense", "fixed"):
            raise InputError(
                f"method {self.method!r} changes what freeze keeps; choose dense, or fixed for the masks of --from."
            )
        if self.method == "fixed" and not self.start:
            raise InputError("method 'fixed' keeps the masks that --from brings; give --from FILE.")
        if (self.start or self.weights) and self.method in ("small-dense", "wired"):
            raise InputError(f"method {self.method!r} makes a network of its own; leave --from and --weights out.")

    @property
    def places(self) -> tuple[str, ...]:
        """The fields that say where files lie or how many cores work; one's own folder says what is learned."""
        where = ("threads", "checkpoint", "trained", "save", "tensorboard")
        return where if self.data == "folder" else ("data_dir", *where)


def check_data(name: str, data_dir: Path | None) -> None:
    """Raise `InputError` where there is no such data set, or where it and the folder do not belong together."""
    one_of(DATA, data=name)
    if name == "digits" and data_dir is not None:
        raise InputError(
            f"--data-dir {data_dir} does not belong to 'digits', which comes with scikit-learn, but to another data "
            f"set: name it by --data ({', '.join(DATA[1:])}), or leave --data-dir out."
        )


PRESETS = {
    "quick": Config(width=8, stem=2, batch=32, learning_rate=0.4, every=10),
    "folder": Config(
        data="folder",
        method="granet",
        sparsity=None,
        model="vgg",
        width=None,
        stem=None,
        normalise=None,
        mirror=False,
        augment="distort",
        epochs=None,
        fine_tune=None,
        batch=None,
        learning_rate=None,
        shift=None,
        every=None,
    ),
    "fashion-mnist": Config(
        data="fashion-mnist",
        model="vgg",
        sparsity=0.9,
        width=48,
        stem=2,
        epochs=12,
        fine_tune=6,
        batch=128,
        learning_rate=0.2,
        shift=1,
        every=100,
    ),
    "cifar-10": Config(
        data="cifar-10", model="wrn-22-2", sparsity=0.8, epochs=100, fine_tune=50, batch=128, shift=4, every=100
    ),
}
