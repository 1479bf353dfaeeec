"""The training images that a step sees: in which order, changed in which ways, and shared over the processes."""

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer_vision import augment
from gossamer_vision import data as datasets
from gossamer_vision.config import Config
from gossamer_vision.data import Data
from gossamer_vision.settings import Settings


class Batches:
    """Images [n, channels, h, w] and labels [n] on a device, in steps of `size` over all processes."""

    def __init__(
        self, config: Config, settings: Settings, data: Data, device: torch.device, generator: torch.Generator
    ) -> None:
        part = datasets.share(data.train, config.share, config.seed)
        self.config, self.data, self.shift, self.generator = config, data, settings.shift, generator
        self.images, self.labels = part.images.to(device), part.labels.to(device)
        self.size = min(settings.batch, len(data.train))
        self.steps = len(data.train) // self.size  # fewer training images are repeated, and change nothing else
        self.order = torch.empty(0, dtype=torch.long)

    def check(self, processes: int) -> None:
        """Raise `InputError` where other processes train than the configuration says, or they can't share a step."""
        asked = self.config.processes
        if asked != processes:
            raise InputError(
                f"processes is {asked}, and {processes} train; start them by "
                f"torchrun --nproc-per-node {asked} -m gossamer_vision.train …"
            )
        if self.size % processes:
            raise InputError(f"batch is {self.size}, which {processes} processes can't share equally; give a multiple.")

    def shuffle(self) -> None:
        """Draw the images of the next epoch: whole passes in random order, as many as the steps need."""
        count, own = self.steps * self.size, len(self.labels)
        passes = [torch.randperm(own, generator=self.generator) for _ in range(-(-count // own))]
        self.order = torch.cat(passes)[:count]

    def at(self, step: int, process: int, processes: int) -> tuple[Tensor, Tensor]:
        """A process's part of a step's images, changed at random as the whole step's are, and their labels."""
        indices = self.order[step * self.size :][: self.size]
        images, own = self.changed(self.images[indices], self.generator), slice(process, None, processes)
        return images[own], self.labels[indices][own]

    def changed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images, each changed at random as the configuration says; policies follow torch's own random numbers."""
        config = self.config
        if self.data.flips and config.mirror:
            images = augment.mirrored(images, generator)
        if config.augment == "distort":
            images = augment.distorted(images, self.shift, generator)
        elif self.shift:
            images = augment.shifted(images, self.shift, generator)
        if config.augment in augment.POLICIES:
            images = augment.by_policy(images, config.augment)
        return augment.spoilt(images, config.harden, generator) if config.harden else images

    def some(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """So many steps' images as they are, scaled, chosen at random, and their labels."""
        order = torch.randperm(len(self.images), generator=self.generator)[: count * self.size]
        return [(self.data.scaled(self.images[i]), self.labels[i]) for i in order.split(self.size)]
