"""Evaluate a trained network on its data set's test part: each class, calibration, and under corruption.

gossamer vision evaluate model.gossamer
gossamer vision evaluate model.gossamer --data fashion-mnist --data-dir FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional

from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer_vision.classifier import Classifier
    from gossamer_vision.data import Data


@dataclass(frozen=True)
class Options:
    """What to evaluate, and on what."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    data: str | None = None
    """the data set whose test part is looked at; the one that the network was trained on where this is not given"""
    data_dir: Path | None = None
    """the folder that holds it; the one of the training, or torchvision downloads it"""


def data_of(classifier: "Classifier", name: str | None, folder: Path | None) -> "Data":
    """The data set of that name, or the one that the network was trained on, as the network takes it.

    Raises `InputError` where its classes are not the network's.
    """
    from gossamer_vision import data as datasets

    trained = classifier.trained
    if folder is None and name in (None, trained.get("data")) and trained.get("data_dir"):
        folder = Path(trained["data_dir"])
    channels, size, _ = classifier.architecture["shape"]
    name = name or str(trained.get("data", "digits"))
    data = datasets.load(name, folder, size=size, channels=channels, fit=classifier.fit)
    if data.classes != classifier.classes:
        raise InputError(
            f"the network knows the classes {', '.join(classifier.classes)}, and {name} has "
            f"{', '.join(data.classes)}; name the data set that it was trained on by --data."
        )
    return data


def table(classifier: "Classifier", data: "Data") -> Table:
    """The accuracy of each class on the test part; below it, of all, their calibration, and under corruption."""
    from gossamer_vision import metrics
    from gossamer_vision.corruptions import MEANING, STRENGTHS

    images, labels = data.test.images, data.test.labels
    outputs = metrics.logits(classifier.network, images, classifier.scaled)
    counts = metrics.confusion(outputs, labels)
    shown = Table(Column("class", overflow="fold"), "images", "accuracy", box=box.MARKDOWN)
    for name, row, share in zip(data.classes, counts, metrics.per_class(counts), strict=True):
        shown.add_row(escape(name), str(int(row.sum())), f"{share:.1%}")
    shown.add_row("all", str(len(labels)), f"{metrics.accuracy(outputs, labels):.2%}")
    for name, share in metrics.under_corruption(classifier.network, images, labels, classifier.scaled).items():
        shown.add_row(f"all, {name} ({MEANING[name].format(STRENGTHS[name])})", str(len(labels)), f"{share:.2%}")
    shown.add_row("calibration error", str(len(labels)), f"{metrics.calibration_error(outputs, labels):.2%}")
    return shown


def main(options: Options) -> None:
    """The command."""
    from gossamer_vision.classifier import load

    classifier = load(options.model)
    data = data_of(classifier, options.data, options.data_dir)
    Console(width=None if sys.stdout.isatty() else 160).print(table(classifier, data))


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("vision", "evaluate")
