"""What a network starts from: nothing, the trained weights of torchvision's, or a network of ours with its masks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

import gossamer as gs
from gossamer.errors import InputError
from gossamer_vision import data as datasets
from gossamer_vision import models
from gossamer_vision.classifier import Classifier, load
from gossamer_vision.config import Config
from gossamer_vision.data import Data
from gossamer_vision.methods import METHODS, Method, pattern
from gossamer_vision.settings import Settings

KEEPING = ("fixed", "set", "rigl", "srigl", "gmp", "granet")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Start:
    """A network, the keywords by which `models.build` makes it again, and its masks where it came with some."""

    network: nn.Module
    architecture: dict[str, Any]
    masks: Mapping[str, Tensor] = field(default_factory=dict)


def load_data(config: Config) -> Data:
    """The data set that a configuration asks for, brought to what the network that it starts from takes.

    A network of torchvision's takes grey images as colour ones. The moments are those that trained weights know.
    """
    size, fit = config.image_size, config.fit
    if config.start:
        before = load(config.start)
        channels, own, _ = before.architecture["shape"]
        found = datasets.load(config.data, config.data_dir, size=size or own, channels=channels, fit=fit or before.fit)
        return replace(found, mean=before.mean, std=before.std)
    channels = 3 if config.model.startswith("torchvision:") else None
    normalise = "data" if config.weights else config.normalise
    found = datasets.load(config.data, config.data_dir, size=size, channels=channels, fit=fit, normalise=normalise)
    return replace(found, mean=IMAGENET[0], std=IMAGENET[1]) if config.weights else found


def method_of(config: Config) -> Method:
    """The method asked; on trained weights, one that moves starts from their magnitudes and not from chance."""
    method = METHODS[config.method]
    if (config.start or config.weights) and method.moves and method.before == "random":
        return replace(method, before="magnitude", starts_at=None if method.starts_at is None else 0.0)
    return method


def start(config: Config, settings: Settings, data: Data) -> Start:
    """The network to train. Raises `InputError` where what it starts from does not fit the configuration."""
    if config.start:
        return _of_ours(config, config.start, data)
    asked = architecture(config, settings, data)
    network = models.build(**asked)
    if config.weights:
        _fill(network, config.model.removeprefix("torchvision:"), config.weights)
    return Start(network, asked)


def architecture(config: Config, settings: Settings, data: Data) -> dict[str, Any]:
    """What `models.build` needs; for small-dense, the width of as many parameters as the sparse one has non-zeros."""
    density = 1 - settings.sparsity if config.method == "wired" else 1.0
    asked: dict[str, Any] = {"name": config.model, "shape": list(data.shape), "classes": len(data.classes)}
    asked |= {"width": settings.width, "stem": settings.stem, "density": density, "seed": config.seed}
    if config.method == "small-dense":
        if config.model.startswith("torchvision:"):
            raise InputError(f"{config.model} has no width, so small-dense cannot narrow it; choose another model.")
        sparse = models.build(**asked)
        masking = gs.sparsify(sparse, settings.sparsity, pattern=pattern(config.pattern))
        dead = sum(int((~mask).sum()) for mask in masking.masks.values())
        alive = sum(p.numel() for p in sparse.parameters()) - dead
        asked["width"] = models.width_of_size(lambda w: models.build(**{**asked, "width": w}), alive, settings.width)
        small = sum(p.numel() for p in models.build(**asked).parameters())
        if abs(small - alive) > 0.15 * alive:
            raise InputError(
                f"no {config.model} has about {alive} parameters, as many as the sparse one has non-zeros: the nearest "
                f"has {small}; lower --sparsity or raise --width."
            )
    return asked


def head(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The name and the module of the last layer with weights, which gives the classes."""
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _of_ours(config: Config, path: Path, data: Data) -> Start:
    """The network of a file of `--save`, with a new last layer where the classes are others."""
    before: Classifier = load(path)
    network, masks = before.network, dict(before.masks)
    if masks and config.method not in KEEPING:
        raise InputError(
            f"{path} is sparse, and method {config.method!r} does not keep its masks; choose {', '.join(KEEPING)}."
        )
    if config.method == "fixed" and not masks:
        raise InputError(f"{path} has no masks to keep; choose method dense, or one that prunes.")
    if masks and before.trained.get("pattern", config.pattern) != config.pattern:
        raise InputError(
            f"pattern is {config.pattern!r}, and the masks of {path} are of {before.trained['pattern']!r}; "
            f"give --pattern {before.trained['pattern']}."
        )
    if before.classes != data.classes:
        name, last = head(network)
        masks.pop(f"{name}.weight", None)
        network.set_submodule(name, _like(last, len(data.classes)))
    return Start(network, {**before.architecture, "shape": list(data.shape), "classes": len(data.classes)}, masks)


def _like(layer: nn.Linear | nn.Conv2d, outputs: int) -> nn.Module:
    """A new last layer for so many classes."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, outputs, bias)
    return nn.Conv2d(layer.in_channels, outputs, 1, bias=bias)


def _fill(network: nn.Module, name: str, weights: str) -> None:
    """Give a network of torchvision's trained weights, all but those of a last layer for other classes."""
    state = _downloaded(name) if weights == "default" else _read(Path(weights))
    own = network.state_dict()
    last, _ = head(network)
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    odd = [k for k in own if k not in fits and not k.startswith(f"{last}.")]
    if odd:
        raise InputError(
            f"weights {weights} are not those of {name}: they have no {odd[0]} of shape {tuple(own[odd[0]].shape)} "
            f"({len(odd)} such); name the model that they belong to by --model."
        )
    network.load_state_dict(fits, strict=False)


def _downloaded(name: str) -> Mapping[str, Tensor]:
    """torchvision's own weights for that model, from its cache or the network."""
    try:
        found = torchvision.models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
        return found.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the weights of {name} cannot be downloaded ({error}); give the file that holds them by --weights FILE."
        ) from error


def _read(path: Path) -> Mapping[str, Tensor]:
    """A file of weights, of safetensors or of torch.save's; nothing in it is run."""
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"weights are {path}, which does not exist; give a file, or default.") from error
    except Exception as error:  # torch and safetensors raise many kinds on a damaged file
        raise InputError(
            f"{path} holds no weights that load without running code; give a file of safetensors, or one that "
            "torch.save(model.state_dict(), FILE) wrote."
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no state dict of tensors; give one that torch.save(model.state_dict()) wrote.")
    return found
