"""A network in training, a step at a time: the one-cycle loop, and how its whole state is kept and restored."""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

import gossamer as gs
from gossamer import checkpoints, devices
from gossamer.errors import InputError
from gossamer.lottery import Rewinding
from gossamer.processes import averaged
from gossamer.results import plain
from gossamer_vision import metrics
from gossamer_vision.batches import Batches
from gossamer_vision.batchnorm import share_statistics
from gossamer_vision.classifier import masking_of
from gossamer_vision.config import Config
from gossamer_vision.data import Data
from gossamer_vision.methods import Cycle, cycles, pattern
from gossamer_vision.progress import Progress, averaging, late, one_cycle
from gossamer_vision.pruning import NEEDING_DATA, criterion, measure_statistics, movement
from gossamer_vision.settings import settings
from gossamer_vision.start import head, method_of, start
from gossamer_vision.storage import bytes_held, store_sparsely

Log = Callable[[str], None]
SCORE_BATCHES = 4


def order(network: nn.Module) -> torch.memory_format:
    """How images lie in memory while the network trains: channels last, which is faster, where that is safe.

    On a CPU without AVX-512 the gradient of a strided convolution of single pixels writes beyond its memory there, of
    fewer than eight channels (oneDNN in PyTorch 2.11).
    """
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) != m.stride]
    return torch.contiguous_format if any(m.in_channels < 8 for m in strided) else torch.channels_last


class Run:
    """A network in training: everything that changes, and how it is kept and restored."""

    def __init__(self, config: Config, data: Data, log: Log = lambda line: None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data, self.method, self.log = config, data, method_of(config), log
        self.settings = settings(config, data)
        self.generator = torch.Generator().manual_seed(config.seed)
        begun = start(config, self.settings, data)
        self.fabric = devices.fabric(config.accelerator, config.precision)
        self.batches = Batches(config, self.settings, data, self.fabric.device, self.generator)
        self.batches.check(self.fabric.world_size)
        self.network, self.architecture, self.given = begun.network, begun.architecture, begun.masks
        self.order = order(self.network)
        self.network.to(memory_format=self.order)  # pyright: ignore[reportCallIssue]
        if config.freeze:
            self.network.requires_grad_(False)
            head(self.network)[1].requires_grad_(True)
        self.set_up()
        self.masking: gs.Masking | None = None
        self.stored: dict[str, Tensor] = {}
        self.movement: gs.Method | None = None
        self.average: AveragedModel | None = None
        self.rewinding = Rewinding(self.network)
        self.training_bytes = 0
        self.progress = Progress(self.settings.epochs)
        self.clock = time.monotonic()

    def set_up(self) -> None:
        """Give the network, as it is now, its optimizer, and both to Fabric."""
        rate, decay = self.settings.learning_rate, self.config.weight_decay
        self.optimizer = torch.optim.SGD(self.network.parameters(), rate, 0.9, weight_decay=decay, nesterov=True)
        self.model, self.stepper = self.fabric.setup(self.network, self.optimizer)

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
    def distribution(self) -> str:
        """How the sparsity is shared out over the layers."""
        return self.config.distribution or self.method.distribution

    @property
    def cycles(self) -> list[Cycle]:
        """The trainings that the method consists of, with the epochs that the time budget leaves."""
        epochs, whole = self.progress.epochs, self.settings
        fine_tune = max(1, round(whole.fine_tune * epochs / whole.epochs))
        return cycles(self.method, whole.sparsity, epochs, fine_tune, self.config.pattern)

    @property
    def epochs(self) -> int:
        """Epochs of all the trainings together."""
        return sum(cycle.epochs - cycle.rewound for cycle in self.cycles)

    @property
    def done(self) -> bool:
        """Whether all the trainings are over."""
        return self.progress.cycle >= len(self.cycles)

    def begin(self, cycle: Cycle) -> None:
        """Prune, and rewind where the method says so; then make ready for the training that follows."""
        if self.given and not self.masking:
            self.masking = masking_of(self.network, self.given, self.config.pattern)
        elif cycle.sparsity is not None:
            if self.masking:
                self.masking.prune("magnitude", cycle.sparsity, distribution=self.distribution)
            else:
                self.masking = self.sparsified(cycle.sparsity)
            if self.config.storage == "sparse":
                self.stored, self.masking = dict(self.masking.masks), None
        if self.progress.cycle:
            self.log(f"pruned to a sparsity of {self.sparsity:.1%}: held-out {self.accuracy_held_out():.2%}")
        if cycle.rewound:
            self.rewinding.rewind()
        self.optimizer.state.clear()
        self.prepare(cycle)
        self.progress.epoch, self.progress.step, self.progress.started = int(cycle.rewound), 0, True

    def prepare(self, cycle: Cycle) -> None:
        """Attach the masking, or store the non-zeros alone; make what moves the topology and averages the weights."""
        config = self.config
        share_statistics(self.network, self.fabric.world_size > 1)
        if self.stored:
            store_sparsely(self.network, self.stored)
            self.set_up()
        elif self.masking:
            self.masking.attach(self.optimizer)
            self.movement = movement(
                self.method,
                self.masking,
                self.settings.sparsity,
                cycle.epochs * self.batches.steps,
                every=self.settings.every,
                fraction=config.fraction,
                distribution=self.distribution,
                generator=self.generator,
            )
        if config.ema:
            self.average = AveragedModel(self.network, multi_avg_fn=averaging(config.ema), use_buffers=True)

    def sparsified(self, sparsity: float, score: str | None = None) -> gs.Masking:
        """The network's masking at that sparsity, chosen by the method's score or by another."""
        config, name = self.config, score or self.method.score
        batches: list[tuple[Tensor, Tensor]] = []
        if name in NEEDING_DATA:
            batches = self.batches.some(SCORE_BATCHES)
            measure_statistics(self.network, [images for images, _ in batches])
        asked = self.distribution
        return gs.sparsify(
            self.network,
            sparsity,
            pattern=pattern(config.pattern),
            distribution="erk" if (name, asked) == ("random", "global") else asked,  # chance ranks no layers
            score=criterion(name, batches, self.data.scaled(self.batches.images[:1])),
            generator=self.generator,
        )

    def step(self) -> bool:
        """One step of the optimizer, with all that precedes and follows it; whether it ended an epoch."""
        progress, cycle = self.progress, self.cycles[self.progress.cycle]
        if not progress.started:
            self.begin(cycle)
        begin = time.perf_counter()
        if progress.epoch < cycle.epochs:
            if progress.step == 0:
                self.batches.shuffle()
                progress.loss = 0.0
            loss, skipped = self.train_step(cycle), self.catch_up()
            progress.loss += loss * (1 + skipped) / self.batches.steps
            progress.step += 1 + skipped
        progress.seconds += time.perf_counter() - begin
        ended = progress.step == self.batches.steps
        if ended:
            progress.epoch, progress.step = progress.epoch + 1, 0
            progress.losses.append(progress.loss)
            progress.held_out.append(self.accuracy_held_out())
            if self.method.rewinds and not self.rewinding.early:
                self.rewinding.keep()
        if progress.epoch >= cycle.epochs:
            self.finish()
        return ended

    def train_step(self, cycle: Cycle) -> float:
        """One step; returns its loss, over all processes. Raises `InputError` where that is no number any more."""
        progress = self.progress
        part = (progress.epoch + progress.step / self.batches.steps) / cycle.epochs
        rate = self.settings.learning_rate * one_cycle(part)
        self.optimizer.param_groups[0]["lr"] = rate
        images, labels = self.batches.at(progress.step, self.fabric.global_rank, self.fabric.world_size)
        self.train_mode()
        memory_format = torch.contiguous_format if self.stored else self.order
        outputs = self.model(self.data.scaled(images).contiguous(memory_format=memory_format))
        loss = cross_entropy(outputs, labels, label_smoothing=self.config.label_smoothing)
        value = float(averaged(loss.detach()))
        if not math.isfinite(value):
            raise InputError(self.diverged(value, rate))
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        self.stepper.step()
        progress.steps += 1
        if self.movement:
            self.movement.step()
        if self.average:
            self.average.update_parameters(self.network)
            if self.masking:
                self.masking.apply(self.average.module)
        return value

    def catch_up(self) -> int:
        """Leave out steps after the one just done, where the time budget asks for it; return how many.

        Never the first of an epoch, nor one after which the topology moves, which counts those left out as done.
        """
        progress, movement, in_epoch, begun = self.progress, self.movement, self.batches.steps, self.clock
        self.clock = time.monotonic()
        progress.spent += self.clock - begun
        if not self.config.time_budget:
            return 0
        past = self.cycles[: progress.cycle + 1]
        epochs = sum(c.epochs - c.rewound for c in past) - past[-1].epochs + progress.epoch
        done = epochs * in_epoch + progress.step + 1
        skipped = late(progress.spent, self.config.time_budget, done, self.epochs * in_epoch)
        skipped = self.fabric.broadcast(min(skipped, in_epoch - progress.step - 1))
        if movement and skipped:
            moves = (step for step in range(skipped) if movement.due(movement.seen + step + 1))
            skipped = next(moves, skipped)
            movement.masking.steps += skipped
            movement.step()
        progress.skipped += skipped
        return skipped

    def train_mode(self) -> None:
        """Training mode, but for what is frozen: its statistics stay as well."""
        self.network.train()
        if self.config.freeze:
            for module in self.network.modules():
                if not any(p.requires_grad for p in module.parameters()):
                    module.eval()

    def diverged(self, loss: float, rate: float) -> str:
        """What to say when the loss is NaN or infinite."""
        path = self.config.checkpoint
        last = f"the last good checkpoint is {path}" if path and path.exists() else "no checkpoint was kept"
        return (
            f"the loss is {loss} at step {self.progress.steps}, at a learning rate of {rate:.4g}; {last}. "
            f"Train with a --learning-rate below {self.settings.learning_rate:g}."
        )

    def finish(self) -> None:
        """End a training: the averaged weights, where there are some, become the network's."""
        if self.average:
            self.network.load_state_dict(self.average.module.state_dict())
        held = bytes_held(self.network, self.optimizer) + sum(mask.nbytes for mask in self.masks.values())
        self.training_bytes = max(self.training_bytes, held)
        gs.nn.convert(self.network)  # sparse storage, where there is some, becomes dense again
        share_statistics(self.network, False)
        self.movement = self.average = None
        self.progress.cycle += 1
        self.progress.epoch, self.progress.started = 0, False

    def accuracy_held_out(self) -> float:
        """The accuracy on the held-out part now, of the averaged weights where there are some."""
        network = self.average.module if self.average else self.network
        outputs = metrics.logits(network, self.data.held_out.images, self.data.scaled)
        return metrics.accuracy(outputs, self.data.held_out.labels)

    def save(self, path: Path) -> None:
        """Write all that the run goes on from."""
        if not all(p.isfinite().all() for p in self.network.parameters()):
            raise InputError(self.diverged(math.nan, self.optimizer.param_groups[0]["lr"]))
        checkpoints.save(
            path,
            config=plain(self.config),
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average and self.average.state_dict(),
            masking=self.masking and self.masking.state_dict(),
            stored=self.stored,
            movement=self.movement and self.movement.state_dict(),
            early=self.rewinding.early,
            order=self.batches.order,
            training_bytes=self.training_bytes,
            rng=checkpoints.rng_state(run=self.generator),
            progress=asdict(self.progress),
        )

    def restore(self, path: Path, but: Collection[str] = ()) -> None:
        """Go on from what `save` wrote, to the numbers of a run that was never interrupted.

        Raises `InputError` where the saved run is another, by fields of its configuration but those named.
        """
        state = checkpoints.load(path)
        checkpoints.same_run(state["config"], self.config, path, but)
        self.progress = Progress(**state["progress"])
        if state["masking"]:
            self.masking = (
                masking_of(self.network, self.given, self.config.pattern)
                if self.given
                else self.sparsified(self.settings.sparsity, "random")
            )
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
        self.rewinding.early, self.batches.order = state["early"], state["order"]
        self.training_bytes = state["training_bytes"]
        checkpoints.restore_rng(state["rng"], run=self.generator)
