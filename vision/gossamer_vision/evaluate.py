"""From a model and images to numbers: accuracy, calibration, classes, corruptions, confidence.

python -m gossamer_vision.evaluate model.gossamer --data fashion-mnist --data-dir FOLDER
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import torch
import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from scipy import stats
from torch import Tensor, nn
from torchvision.transforms import v2
from tyro.conf import Positional

from gossamer import InputError
from gossamer.cli import plain_errors

if TYPE_CHECKING:
    from gossamer_vision.classifier import Classifier
    from gossamer_vision.data import Data

SEVERITY = {"noise": 0.15, "blur": 0.06, "contrast": 0.35}


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, scaled: Callable[[Tensor], Tensor], batch: int = 500) -> Tensor:
    """The model's outputs [n, classes] on the CPU for bytes [n, channels, h, w], in evaluation mode.

    `scaled` makes floats of bytes; it and the model run on the device where the model is.
    """
    mode, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        parts = [model(scaled(part.to(device))).float().cpu() for part in images.split(batch)]
    finally:
        model.train(mode)
    return torch.cat(parts)


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """The share of examples whose highest output is their class, in [0, 1]."""
    return float((outputs.argmax(1) == labels).double().mean())


def confusion(outputs: Tensor, labels: Tensor) -> Tensor:
    """Counts [classes, classes]: row, the true class; column, the predicted one."""
    classes = outputs.shape[1]
    return (labels * classes + outputs.argmax(1)).bincount(minlength=classes**2).reshape(classes, classes)


def per_class(counts: Tensor) -> list[float]:
    """The accuracy within each true class of a confusion matrix; NaN for a class without examples."""
    return (counts.diagonal().double() / counts.sum(1).double()).tolist()


def calibration_error(outputs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins (Guo et al. 2017).

    The confidence of an example is its highest softmax output, in (0, 1].
    """
    confidence, predicted = outputs.double().softmax(1).max(1)
    right = (predicted == labels).double()
    bin_ = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_, right - confidence)
    return float(gaps.abs().sum() / len(labels))


def interval(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's confidence interval of the mean over seeds; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def mean_and_interval(values: Sequence[float]) -> str:
    """`93.1 ± 0.2 %` of shares in [0, 1]; the mean alone for one value."""
    if len(values) < 2:
        return f"{100 * fmean(values):.2f} %"
    return f"{100 * fmean(values):.2f} ± {100 * interval(values):.2f} %"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the (cost, value) pairs than which no other has more value at no more cost, cheapest first."""
    best, front = -math.inf, []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front


def lost_first(dense: Sequence[Sequence[int]], sparse: Sequence[Sequence[int]], count: int) -> list[tuple[int, float]]:
    """Of what every dense network gets right, the examples that most of the sparse ones get wrong, with that share.

    Each network is given as the indices of the examples that it gets wrong.
    """
    hard = {index for wrong in dense for index in wrong}
    lost = Counter(index for wrong in sparse for index in wrong if index not in hard)
    ordered = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    return [(index, number / len(sparse)) for index, number in ordered[:count]]


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of deviation 0.15 of the range."""
    noise = torch.randn(images.shape, generator=generator) * SEVERITY["noise"] * 255
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur whose deviation is 6 % of the image's side."""
    sigma = SEVERITY["blur"] * images.shape[-1]
    size = 2 * max(1, round(2 * sigma)) + 1
    return v2.functional.gaussian_blur(images, [size, size], [sigma, sigma])


def faded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast brought to 35 %, around each image's mean."""
    return v2.functional.adjust_contrast(images, SEVERITY["contrast"])


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noise": noisy,
    "blur": blurred,
    "contrast": faded,
}


def under_corruption(
    model: nn.Module, images: Tensor, labels: Tensor, scaled: Callable[[Tensor], Tensor], seed: int = 0
) -> dict[str, float]:
    """The accuracy under each corruption; the noise is the same for every model."""
    return {
        name: accuracy(logits(model, corrupt(images, torch.Generator().manual_seed(seed)), scaled), labels)
        for name, corrupt in CORRUPTIONS.items()
    }


@dataclass(frozen=True)
class Options:
    """What to evaluate, and on what."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    data: str = "digits"
    """the data set whose test part is looked at"""
    data_dir: Path | None = None
    """the folder that holds it; without it torchvision downloads it"""


def table(classifier: "Classifier", data: "Data") -> Table:
    """The accuracy of each class on the test part; below it, of all, their calibration, and under corruption."""
    images, labels = data.test.images, data.test.labels
    outputs = logits(classifier.network, images, classifier.scaled)
    counts = confusion(outputs, labels)
    shown = Table(Column("class", overflow="fold"), "images", "accuracy", box=box.MARKDOWN)
    for name, row, share in zip(data.classes, counts, per_class(counts), strict=True):
        shown.add_row(escape(name), str(int(row.sum())), f"{share:.1%}")
    shown.add_row("all", str(len(labels)), f"{accuracy(outputs, labels):.2%}")
    for name, share in under_corruption(classifier.network, images, labels, classifier.scaled).items():
        shown.add_row(f"all, {name}", str(len(labels)), f"{share:.2%}")
    shown.add_row("calibration error", str(len(labels)), f"{calibration_error(outputs, labels):.2%}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    from gossamer_vision import data as datasets
    from gossamer_vision.classifier import load

    with plain_errors():
        prog = "python -m gossamer_vision.evaluate"
        options = tyro.cli(Options, args=arguments, prog=prog, description=__doc__)
        classifier = load(options.model)
        channels, size, _ = classifier.architecture["shape"]
        data = datasets.load(options.data, options.data_dir, size=size, channels=channels)
        if data.classes != classifier.classes:
            raise InputError(
                f"{options.model} knows the classes {', '.join(classifier.classes)}, and {options.data} has "
                f"{', '.join(data.classes)}; name the data set that it was trained on by --data."
            )
        Console(width=None if sys.stdout.isatty() else 160).print(table(classifier, data))


if __name__ == "__main__":
    main()
