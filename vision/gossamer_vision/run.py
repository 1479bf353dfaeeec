"""A network in training: the one-cycle loop, and how its whole state is kept and restored."""

import copy
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gossamer as gs
from gossamer import checkpoints, distributions
from gossamer.dynamic import SET
from gossamer.masking import Masking
from gossamer.results import plain
from gossamer_vision import data as datasets
from gossamer_vision import evaluate, models
from gossamer_vision.data import Data
from gossamer_vision.methods import METHODS, NEEDING_DATA, PATTERNS, Cycle, criterion, cycles, movement
from gossamer_vision.storage import bytes_held, store_densely, store_sparsely

if TYPE_CHECKING:
    from gossamer_vision.train import Config

Log = Callable[[str], None]
SCORE_BATCHES = 4


@dataclass
class Progress:
    """How far a run is: the training it is in, the epochs of that one, and what the epochs so far gave."""

    epochs: int
    cycle: int = 0
    epoch: int = 0
    started: bool = False
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


def one_cycle(progress: float, warm_up: float = 0.2) -> float:
    """The learning rate's share of its peak: linear from 0.04 to 1, then half a cosine to 0 (Smith & Topin 2018)."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


def architecture(config: "Config", data: Data) -> dict[str, Any]:
    """What `models.build` needs; for small-dense, the width of as many parameters as the sparse one has non-zeros."""
    density = 1 - config.sparsity if config.method == "wired" else 1.0
    asked: dict[str, Any] = {"name": config.model, "shape": list(data.shape), "classes": len(data.classes)}
    asked |= {"width": config.width, "stem": config.stem, "density": density, "seed": config.seed}
    if config.method == "small-dense":
        if config.model.startswith("torchvision:"):
            raise gs.InputError(f"{config.model} has no width, so small-dense cannot narrow it; choose another model.")
        sparse = models.build(**asked)
        masking = gs.sparsify(sparse, config.sparsity, pattern=PATTERNS[config.pattern])
        dead = sum(int((~mask).sum()) for mask in masking.masks.values())
        alive = sum(p.numel() for p in sparse.parameters()) - dead
        asked["width"] = models.width_of_size(lambda w: models.build(**{**asked, "width": w}), alive, config.width)
        small = sum(p.numel() for p in models.build(**asked).parameters())
        if abs(small - alive) > 0.15 * alive:
            raise gs.InputError(
                f"no {config.model} has about {alive} parameters, as many as the sparse one has non-zeros: the nearest "
                f"has {small}; lower --sparsity or raise --width."
            )
    return asked


def averaging(decay: float) -> Callable[..., None]:
    """How averaged weights follow the weights: a ← decay · a + (1 − decay) · w; whole numbers are copied."""
    average = get_ema_multi_avg_fn(decay)

    def follow(averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        if averaged[0].is_floating_point():
            average(averaged, current, count)
        else:
            for target, source in zip(averaged, current, strict=True):
                target.copy_(source)

    return follow


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Give normalisation the mean statistics of the batches, for scores, which are taken in evaluation mode."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class Run:
    """A network in training: everything that changes, and how it is kept and restored."""

    def __init__(self, config: "Config", data: Data) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data, self.method = config, data, METHODS[config.method]
        self.generator = torch.Generator().manual_seed(config.seed)
        self.architecture = architecture(config, data)
        try:
            self.fabric = Fabric(
                accelerator=config.accelerator,
                precision=config.precision,  # pyright: ignore[reportArgumentType]
                devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
                num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
            )
        except (ValueError, RuntimeError, MisconfigurationException) as error:
            raise gs.InputError(
                f"accelerator {config.accelerator!r} with precision {config.precision!r}: {error}"
            ) from error
        self.fabric.launch()
        self.network = models.build(**self.architecture)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.set_up()
        part = datasets.share(data.train, config.share, config.seed)
        self.images, self.labels = part.images.to(self.fabric.device), part.labels.to(self.fabric.device)
        self.masking: Masking | None = None
        self.stored: dict[str, Tensor] = {}
        self.movement: SET | None = None
        self.average: AveragedModel | None = None
        self.early: dict[str, Tensor] = {}
        self.training_bytes = 0
        self.progress = Progress(config.epochs)

    def set_up(self) -> None:
        """Give the network, as it is now, its optimizer, and both to Fabric."""
        config = self.config
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), config.learning_rate, 0.9, weight_decay=config.weight_decay, nesterov=True
        )
        self.model, self.stepper = self.fabric.setup(self.network, self.optimizer)

    @property
    def batch(self) -> int:
        """Images in a step, over all processes."""
        return min(self.config.batch, len(self.data.train))

    @property
    def steps(self) -> int:
        """Steps in an epoch; fewer training images are repeated, so that their number changes nothing else."""
        return len(self.data.train) // self.batch

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by parameter name, whatever the storage; empty where nothing is masked."""
        return self.masking.masks if self.masking else self.stored

    @property
    def sparsity(self) -> float:
        """The share of the masked weights that are dead, in [0, 1)."""
        whole = sum(mask.numel() for mask in self.masks.values())
        return 1 - sum(int(mask.sum()) for mask in self.masks.values()) / whole if whole else 0.0

    @property
    def cycles(self) -> list[Cycle]:
        """The trainings that the method consists of, with the epochs that the time budget leaves."""
        config, epochs = self.config, self.progress.epochs
        fine_tune = max(1, round(config.fine_tune * epochs / config.epochs))
        return cycles(self.method, config.sparsity, epochs, fine_tune, PATTERNS[config.pattern])

    def keep_to_budget(self, log: Log) -> None:
        """Cut the epochs to what the time budget holds, by the time of a few steps on a copy of the network."""
        if self.config.time_budget is None:
            return
        network, seconds = copy.deepcopy(self.network), []
        images, labels = self.images[: self.batch], self.labels[: self.batch]
        for _ in range(6):
            start = time.perf_counter()
            cross_entropy(network(self.data.scaled(images)), labels).backward()
            seconds.append(time.perf_counter() - start)
        whole = sum(cycle.epochs for cycle in self.cycles) * self.steps * sorted(seconds)[2] * 1.1
        share = min(1.0, self.config.time_budget / whole)
        fewest = 2 if self.method.rewinds else 1
        self.progress.epochs = self.fabric.broadcast(max(fewest, int(self.config.epochs * share)))
        log(f"a budget of {self.config.time_budget:g} s holds {self.progress.epochs} of {self.config.epochs} epochs")

    def start(self, cycle: Cycle) -> None:
        """Prune, and rewind where the method says so; then make ready for the training that follows."""
        if cycle.sparsity is not None:
            if self.masking:
                self.masking.prune("magnitude", cycle.sparsity)
            else:
                self.masking = self.sparsified(cycle.sparsity)
            if self.config.storage == "sparse":
                self.stored, self.masking = dict(self.masking.masks), None
        if cycle.rewound:
            self.network.load_state_dict(self.early)
        self.optimizer.state.clear()
        self.prepare(cycle)
        self.progress.epoch, self.progress.started = int(cycle.rewound), True

    def prepare(self, cycle: Cycle) -> None:
        """Attach the masking, or store the non-zeros alone; make what moves the topology and averages the weights."""
        config = self.config
        if self.stored:
            store_sparsely(self.network, self.stored)
            self.set_up()
        elif self.masking:
            self.masking.attach(self.optimizer)
            options = {"fraction": config.fraction, "generator": self.generator}
            steps = cycle.epochs * self.steps
            self.movement = movement(self.method, self.masking, config.sparsity, steps, config.every, **options)
        if config.ema:
            self.average = AveragedModel(self.network, multi_avg_fn=averaging(config.ema), use_buffers=True)

    def sparsified(self, sparsity: float, score: str | None = None) -> Masking:
        """The network's masking at that sparsity, chosen by the method's score or by another."""
        config, name = self.config, score or self.method.score
        batches: list[tuple[Tensor, Tensor]] = []
        if name in NEEDING_DATA:
            order = torch.randperm(len(self.images), generator=self.generator)[: SCORE_BATCHES * self.batch]
            batches = [(self.data.scaled(self.images[i]), self.labels[i]) for i in order.split(self.batch)]
            measure_statistics(self.network, [images for images, _ in batches])
        asked = config.distribution or self.method.distribution
        masking = gs.sparsify(
            self.network,
            sparsity,
            pattern=PATTERNS[config.pattern],
            distribution="erk" if (name, asked) == ("random", "global") else asked,  # chance ranks no layers
            score=criterion(name, batches, self.data.scaled(self.images[:1])),
            generator=self.generator,
        )
        masking.distribution = distributions.distribution(asked)
        return masking

    def order(self) -> Tensor:
        """The images of the next epoch for this process: whole passes in random order, as many as the steps need."""
        count = self.steps * self.batch
        passes = [
            torch.randperm(len(self.labels), generator=self.generator) for _ in range(-(-count // len(self.labels)))
        ]
        return torch.cat(passes)[:count][self.fabric.global_rank :: self.fabric.world_size]

    def train_epoch(self, cycle: Cycle) -> float:
        """One epoch; returns its mean loss. Raises `InputError` where the loss is no number any more."""
        config, progress, total = self.config, self.progress, 0.0
        self.network.train()
        for step, indices in enumerate(self.order().tensor_split(self.steps)):
            now = (progress.epoch + step / self.steps) / cycle.epochs
            rate = config.learning_rate * one_cycle(now)
            self.optimizer.param_groups[0]["lr"] = rate
            images = datasets.augmented(self.images[indices], config.shift, self.data.flips, self.generator)
            outputs = self.model(self.data.scaled(images).contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(outputs, self.labels[indices], label_smoothing=config.label_smoothing)
            value = loss.item()
            if not math.isfinite(value):
                raise gs.InputError(self.diverged(value, rate))
            self.stepper.zero_grad()
            self.fabric.backward(loss)
            self.stepper.step()
            progress.steps += 1
            total += value / self.steps
            if self.movement:
                self.movement.step()
            if self.average:
                self.average.update_parameters(self.network)
                if self.masking:
                    self.masking.apply(self.average.module)
        return total

    def diverged(self, loss: float, rate: float) -> str:
        """What to say when the loss is NaN or infinite."""
        path = self.config.checkpoint
        last = f"the last good checkpoint is {path}" if path and path.exists() else "no checkpoint was kept"
        return (
            f"the loss is {loss} at step {self.progress.steps}, at a learning rate of {rate:.4g}; {last}. "
            f"Train with a --learning-rate below {self.config.learning_rate:g}."
        )

    def finish(self) -> None:
        """End a training: the averaged weights, where there are some, become the network's."""
        if self.average:
            self.network.load_state_dict(self.average.module.state_dict())
        held = bytes_held(self.network, self.optimizer) + sum(mask.nbytes for mask in self.masks.values())
        self.training_bytes = max(self.training_bytes, held)
        store_densely(self.network)
        self.movement = self.average = None
        self.progress.cycle += 1
        self.progress.epoch, self.progress.started = 0, False

    def accuracy_held_out(self) -> float:
        """The accuracy on the held-out part now, of the averaged weights where there are some."""
        network = self.average.module if self.average else self.network
        outputs = evaluate.logits(network, self.data.held_out.images, self.data.scaled)
        return evaluate.accuracy(outputs, self.data.held_out.labels)

    def save(self, path: Path) -> None:
        """Write all that the run goes on from."""
        if not all(p.isfinite().all() for p in self.network.parameters()):
            raise gs.InputError(self.diverged(math.nan, self.optimizer.param_groups[0]["lr"]))
        checkpoints.save(
            path,
            config=plain(self.config),
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average and self.average.state_dict(),
            masking=self.masking and self.masking.state_dict(),
            stored=self.stored,
            movement=self.movement and self.movement.state_dict(),
            early=self.early,
            rng=checkpoints.rng_state(run=self.generator),
            progress=asdict(self.progress),
        )

    def restore(self, path: Path, but: Collection[str] = ()) -> None:
        """Go on from what `save` wrote, to the numbers of a run that was never interrupted.

        Raises `InputError` where the saved run is another, by fields of its configuration but those named.
        """
        state = checkpoints.load(path)
        own = {name: value for name, value in plain(self.config).items() if name not in but}
        if changed := [name for name, value in own.items() if state["config"].get(name) != value]:
            raise gs.InputError(f"{path} is of a run with other {', '.join(changed)}; name another --checkpoint.")
        self.progress = Progress(**state["progress"])
        if state["masking"]:
            self.masking = self.sparsified(self.config.sparsity, "random")
            self.masking.load_state_dict(state["masking"])
        self.stored = state["stored"]
        if self.progress.started:
            self.prepare(self.cycles[self.progress.cycle])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.movement:
            self.movement.load_state_dict(state["movement"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.early = state["early"]
        checkpoints.restore_rng(state["rng"], run=self.generator)
