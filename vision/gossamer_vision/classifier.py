"""A trained network in one file, with all that it takes to look at pictures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.results import refuse_unwritable
from gossamer_vision import models, readers
from gossamer_vision.data import scaled

KEYS = {"architecture", "classes", "mean", "std"}


@dataclass(frozen=True)
class Classifier:
    """A network in evaluation mode, its classes, the moments of the images it was trained on, and its masks."""

    network: nn.Module
    architecture: Mapping[str, Any]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def engine(self) -> Any:
        """The network compiled for the CPU, made when first used."""
        return gs.compile(self.network, torch.zeros(1, *self.architecture["shape"]), masks=self.masks)

    def picture(self, path: Path) -> Tensor:
        """A picture of any size and mode as the network takes it: bytes [channels, size, size].

        Its shorter side is brought to the network's and the middle cut out. Raises `InputError` where it is unreadable.
        """
        channels, _, width = self.architecture["shape"]
        return readers.picture(path, width, channels)

    def scaled(self, images: Tensor) -> Tensor:
        """Bytes [n, channels, height, width] as the floats that the network takes."""
        return scaled(images, self.mean, self.std)

    def probabilities(self, images: Tensor) -> Tensor:
        """Bytes [n, channels, height, width] to the probability of each class [n, classes]."""
        if images.dtype != torch.uint8 or list(images.shape[1:]) != list(self.architecture["shape"]):
            raise gs.InputError(
                f"the images are {images.dtype} of shape {tuple(images.shape)}; the network takes bytes (torch.uint8) "
                f"of shape (n, {', '.join(map(str, self.architecture['shape']))})."
            )
        return self.engine(self.scaled(images)).softmax(1)

    def save(self, path: str | Path) -> int:
        """Write the network and its description to one file; return its bytes."""
        described = {
            "architecture": dict(self.architecture),
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
        }
        content = json.dumps(described, sort_keys=True).encode()
        masks = {f"network.{name}": mask for name, mask in self.masks.items()}
        refuse_unwritable(Path(path))
        return gs.save(_described(self.network, content), path, masks=masks)

    def export_onnx(self, path: str | Path) -> int:
        """Write the network, which takes scaled floats, as an ONNX file with an open batch size; return its bytes."""
        refuse_unwritable(Path(path))
        return gs.export_onnx(self.network, path, torch.zeros(1, *self.architecture["shape"]))


def load(path: str | Path) -> Classifier:
    """The classifier that `Classifier.save`, or `--save` in training, wrote; nothing in the file is run.

    Raises `InputError` where the file is missing, damaged or another.
    """
    content = _description(Path(path))
    try:
        found = json.loads(content)
        if not isinstance(found, dict) or set(found) != KEYS:
            raise ValueError(f"its description is not of {', '.join(sorted(KEYS))}")
        network = models.build(**found["architecture"]).eval()
        classes, mean, std = (tuple(found[name]) for name in ("classes", "mean", "std"))
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise gs.InputError(
            f"{path} describes no network of gossamer_vision ({error}). Train with --save again."
        ) from error
    holder = _described(network, content)
    masks = gs.load(path, holder)
    return Classifier(
        network,
        found["architecture"],
        classes,
        mean,
        std,
        {name.removeprefix("network."): mask for name, mask in masks.items()},
    )


def _described(network: nn.Module, description: bytes) -> nn.Module:
    """A module that holds the network and, as a buffer, the bytes of its description."""
    holder = nn.Module()
    holder.add_module("network", network)
    holder.register_buffer("description", torch.frombuffer(bytearray(description), dtype=torch.uint8))
    return holder


def _description(path: Path) -> bytes:
    """The description in a file of `Classifier.save`."""
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            return bytes(file.get_tensor("description").numpy().tobytes())
    except FileNotFoundError as error:
        raise gs.InputError(f"{path} does not exist; give a file that training wrote with --save.") from error
    except (safetensors.SafetensorError, OSError, AttributeError) as error:
        raise gs.InputError(f"{path} is no file of a gossamer_vision network ({error}); train with --save.") from error
