"""A trained network in one file, with all that it takes to look at pictures.

classifier = gossamer_vision.load("model.gossamer")
classifier.probabilities(classifier.picture("cat.jpg")[None])

masking = classifier.masking()                      # to train it further, as sparse as it is
masking.attach(optimizer)                           # an optimizer of classifier.network.parameters()
classifier.save("further.gossamer")
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import files
from gossamer.errors import InputError
from gossamer.paths import refuse_unwritable
from gossamer_vision import models, readers
from gossamer_vision.methods import density, pattern
from gossamer_vision.scaling import Moments, scaled

KEYS = {"architecture", "classes", "mean", "std", "fit", "trained"}


@dataclass(frozen=True)
class Classifier:
    """A network, its classes, the moments of the images it was trained on (none: each picture's own), and its masks.

    `topology` holds the masks by parameter name, or the masking that keeps them; `fit` says how pictures are made
    square; `trained` says on what it was trained (data, data_dir, pattern), where that is known.
    """

    network: nn.Module
    architecture: Mapping[str, Any]
    classes: tuple[str, ...]
    mean: Moments
    std: Moments
    topology: Mapping[str, Tensor] = field(default_factory=dict)
    fit: str = "crop"
    trained: Mapping[str, Any] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """The masks by parameter name, as they are now; empty where the network is dense."""
        return self._made["masking"].masks if "masking" in self._made else self.topology

    @property
    def size(self) -> int:
        """The side of the images that the network takes, in pixels."""
        return self.architecture["shape"][-1]

    @property
    def engine(self) -> Any:
        """The network compiled for the CPU: made when first used, and again where its weights have changed since."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._made.get("state") != state:
            with evaluated(self.network):
                example = torch.zeros(1, *self.architecture["shape"])
                self._made.update(engine=gs.compile(self.network, example, masks=self.masks), state=state)
        return self._made["engine"]

    def masking(self) -> gs.Masking:
        """The masking that keeps the network as sparse as it is while it trains, once attached to an optimizer.

        It is made when first asked; from then on `masks`, and what `save` writes, are its. Raises `InputError` where
        the network is dense.
        """
        if "masking" not in self._made:
            if not self.topology:
                raise InputError("the network has no masks; make it sparse with gossamer.sparsify.")
            kind = self.trained.get("pattern", "unstructured")
            self._made["masking"] = masking_of(self.network, self.topology, kind)
        return self._made["masking"]

    def picture(self, path: str | Path) -> Tensor:
        """A picture of any size and mode as the network takes it: bytes [channels, size, size].

        It is made square as in training. Raises `InputError` where it is unreadable.
        """
        return readers.picture(Path(path), self.size, self.architecture["shape"][0], self.fit)

    def scaled(self, images: Tensor) -> Tensor:
        """Bytes [n, channels, height, width] as the floats that the network takes."""
        return scaled(images, self.mean, self.std)

    def probabilities(self, images: Tensor | np.ndarray) -> Tensor:
        """Bytes [n, channels, height, width], a tensor or an array, to the probability of each class [n, classes]."""
        found = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        if found.dtype != torch.uint8 or list(found.shape[1:]) != list(self.architecture["shape"]):
            kind = str(found.dtype).removeprefix("torch.")
            raise InputError(
                f"the images are {kind} of shape {tuple(found.shape)}; the network takes bytes (uint8) "
                f"of shape (n, {', '.join(map(str, self.architecture['shape']))})."
            )
        return self.engine(self.scaled(found)).softmax(1)

    def save(self, path: str | Path) -> int:
        """Write the network and its description to one file; return its bytes."""
        about = {
            "architecture": dict(self.architecture),
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
            "trained": dict(self.trained),
        }
        refuse_unwritable(Path(path))
        return gs.save(self.network, path, masks=self.masks, about={"vision": about})

    def export_onnx(self, path: str | Path) -> int:
        """Write an ONNX file that takes pictures as they are and gives probabilities and names; return its bytes."""
        from gossamer_vision.export import export_onnx

        return export_onnx(self, Path(path))


def load(path: str | Path) -> Classifier:
    """The classifier that `Classifier.save`, or `--save` in training, wrote; nothing in the file is run.

    Raises `InputError` where the file is missing, damaged or another.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist; give a file that training wrote with --save.")
    found = files.about(path).get("vision")
    try:
        if not isinstance(found, dict) or set(found) != KEYS:
            raise ValueError(f"its description is not of {', '.join(sorted(KEYS))}")
        network = models.build(**found["architecture"]).eval()
        classes, mean, std = (tuple(found[name]) for name in ("classes", "mean", "std"))
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise InputError(
            f"{path} describes no network of gossamer_vision ({error}). Train with --save again."
        ) from error
    masks = gs.load(path, network)
    return Classifier(network, found["architecture"], classes, mean, std, masks, found["fit"], found["trained"])


def masking_of(network: nn.Module, masks: Mapping[str, Tensor], kind: str) -> gs.Masking:
    """The masking of a network by the masks that it came with, of that pattern."""
    names = [name.removesuffix(".weight") for name in masks]
    only = density(kind)
    masking = gs.sparsify(network, 1 - only if only else 0.0, pattern=pattern(kind), include=names)
    masking.update(masks)
    return masking


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode for a while."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
