"""Convolutional networks of any width: residual, plain, depthwise, and one whose sparsity is in its wiring."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import gossamer as gs
from gossamer.errors import InputError, nearest

Shape = tuple[int, int, int]


def scaled(channels: float) -> int:
    """A whole number of channels, at least one."""
    return max(1, round(channels))


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (divided by the stride) and its batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


def head(channels: int, classes: int) -> list[nn.Module]:
    """The mean over the image and a linear classifier."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


class Residual(nn.Module):
    """relu(x + F(x)), F two 3×3 convolutions; a 1×1 convolution on x where the shape changes (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h / stride, w / stride]."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class PreActivation(nn.Module):
    """x + F(x) with normalisation and relu before each convolution of F (He et al. 2016b), as wide networks use it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h / stride, w / stride]."""
        active = torch.relu(self.norm(x))
        skipped = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(active)
        return skipped + self.second(torch.relu(self.first(active)))


def resnet(shape: Shape, classes: int, width: float, stem: int, blocks: Sequence[int]) -> nn.Module:
    """A residual network: a stem, then stages that double the channels and halve the image, `blocks` in each."""
    channels = scaled(width)
    layers: list[nn.Module] = [*convolution(shape[0], channels, 2 * stem + 1, stem), nn.ReLU()]
    for stage, count in enumerate(blocks):
        outputs = scaled(width * 2**stage)
        for block in range(count):
            layers.append(Residual(channels, outputs, 2 if stage and not block else 1))
            channels = outputs
    return nn.Sequential(*layers, *head(channels, classes))


def wide_resnet(shape: Shape, classes: int, width: float, stem: int, blocks: int, factor: int) -> nn.Module:
    """WRN-(6·blocks + 4)-factor: three stages of pre-activation blocks, `factor` times as wide as the stem."""
    channels = scaled(width)
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 2 * stem + 1, stem, stem, bias=False)]
    for stage in range(3):
        outputs = scaled(width * factor * 2**stage)
        for block in range(blocks):
            layers.append(PreActivation(channels, outputs, 2 if stage and not block else 1))
            channels = outputs
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), *head(channels, classes))


def vgg(shape: Shape, classes: int, width: float, stem: int) -> nn.Module:
    """A plain network of 3×3 convolutions, two a stage, with max pooling between (Simonyan & Zisserman 2015)."""
    layers: list[nn.Module] = [*convolution(shape[0], scaled(width), 2 * stem + 1, stem), nn.ReLU()]
    channels = scaled(width)
    for stage in range(3):
        for _ in range(2):
            outputs = scaled(width * 2**stage)
            layers += [*convolution(channels, outputs), nn.ReLU()]
            channels = outputs
        if stage < 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *head(channels, classes))


def mobilenet(shape: Shape, classes: int, width: float, stem: int) -> nn.Module:
    """Depthwise 3×3 and pointwise 1×1 convolutions in turn (Howard et al. 2017), for small images."""
    channels = scaled(width)
    layers: list[nn.Module] = [*convolution(shape[0], channels, 2 * stem + 1, stem), nn.ReLU()]
    for multiple, stride in ((2, 1), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1)):
        outputs = scaled(width * multiple)
        layers += [*convolution(channels, channels, 3, stride, groups=channels), nn.ReLU()]
        layers += [*convolution(channels, outputs, 1), nn.ReLU()]
        channels = outputs
    return nn.Sequential(*layers, *head(channels, classes))


PATHS = (1, 3, 3, 5, 1, 3, 3, 5)


def inception_block(inputs: int, outputs: int, density: float, generator: torch.Generator) -> nn.Sequential:
    """Parallel paths of 1×1, 3×3 and 5×5 convolutions (Szegedy et al. 2015), side by side, each on its own channels.

    Below a `density` of 1, each path is wired to that share of the input channels (at least one), drawn so that every
    channel is read as often as any other.
    """
    sizes = [outputs * (p + 1) // len(PATHS) - outputs * p // len(PATHS) for p in range(len(PATHS))]
    reads = scaled(density * inputs)
    order: list[int] = []
    while len(order) < reads * len(PATHS):
        begun = order[len(order) - len(order) % reads :]  # what the path in hand reads already comes last
        order += sorted(torch.randperm(inputs, generator=generator).tolist(), key=begun.__contains__)
    wiring = None
    if reads < inputs:
        wiring = [sorted(order[p * reads : (p + 1) * reads]) for p in range(len(PATHS))]
    paths = [
        nn.Conv2d(len(wiring[p]) if wiring else inputs, size, kernel, padding=kernel // 2, bias=False)
        for p, (kernel, size) in enumerate(zip(PATHS, sizes, strict=True))
    ]
    return nn.Sequential(gs.nn.Branches(paths, wiring), nn.BatchNorm2d(outputs), nn.ReLU())


def inception(shape: Shape, classes: int, width: float, stem: int, density: float, seed: int) -> nn.Module:
    """Three Inception blocks with max pooling between; the wiring is drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    channels = max(len(PATHS), scaled(width))
    layers: list[nn.Module] = [*convolution(shape[0], channels, 2 * stem + 1, stem), nn.ReLU()]
    for stage in range(3):
        outputs = max(len(PATHS), scaled(width * 2**stage))
        layers.append(inception_block(channels, outputs, density, generator))
        channels = outputs
        if stage < 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *head(channels, classes))


FAMILIES = (
    "resnetN (N = 6n + 2: resnet8, resnet20, …)",
    "resnet18",
    "wrn-D-K (D = 6n + 4)",
    "vgg",
    "mobilenet",
    "inception",
    "torchvision:NAME",
)
EXAMPLES = ("resnet8", "resnet20", "resnet32", "resnet56", "resnet18", "wrn-22-2", "vgg", "mobilenet", "inception")


def build(
    name: str, shape: Shape, classes: int, *, width: float = 16, stem: int = 1, density: float = 1.0, seed: int = 0
) -> nn.Module:
    """A new network for images of `shape` (channels, height, width), with the weights that torch's own seed gives.

    `width` is the number of channels of the first stage (fractions fine-tune the later ones); `stem` the stride of the
    first convolution, whose kernel is 2 · stem + 1 wide; `density` and `seed` wire `inception`. `torchvision:NAME` is a
    network of torchvision's as it is. Raises `InputError` for a name that is none of these.
    """
    if match := re.fullmatch(r"resnet(\d+)", name):
        depth = int(match[1])
        if depth == 18:
            return resnet(shape, classes, width, stem, (2, 2, 2, 2))
        if depth >= 8 and depth % 6 == 2:
            return resnet(shape, classes, width, stem, (depth // 6,) * 3)
    elif match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        depth, factor = int(match[1]), int(match[2])
        if depth >= 10 and depth % 6 == 4 and factor:
            return wide_resnet(shape, classes, width, stem, depth // 6, factor)
    elif name == "inception":
        return inception(shape, classes, width, stem, density, seed)
    elif name in PLAIN:
        return PLAIN[name](shape, classes, width, stem)
    elif name.startswith("torchvision:"):
        return _torchvision(name.removeprefix("torchvision:"), classes)
    raise InputError(f"model is {name!r}{nearest(name, EXAMPLES)}; there are {', '.join(FAMILIES)}.")


PLAIN: dict[str, Callable[[Shape, int, float, int], nn.Module]] = {"vgg": vgg, "mobilenet": mobilenet}


def _torchvision(name: str, classes: int) -> nn.Module:
    """A classifier of torchvision's by its name there, without trained weights and without auxiliary classifiers."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise InputError(
            f"model is 'torchvision:{name}'{nearest(name, known)}; torchvision has {len(known)}, resnet18 for one."
        )
    helped: dict[str, Any] = (
        {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    )
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **helped)


def width_of_size(make: Callable[[float], nn.Module], parameters: int, widest: float) -> float:
    """The width, up to `widest`, whose network has the number of parameters nearest to `parameters`.

    Widths are tried to an eighth of a channel of the first stage, on torch's meta device, so that nothing is computed.
    """

    def size(eighths: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in make(eighths / 8).parameters())

    low, high = 1, max(2, round(widest * 8))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= parameters else (low, middle)
    return min(low, high, key=lambda eighths: abs(size(eighths) - parameters)) / 8
