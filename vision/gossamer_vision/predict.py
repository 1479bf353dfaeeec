"""Say what pictures show, by a trained network compiled for the CPU.

python -m gossamer_vision.predict model.gossamer IMAGE …
python -m gossamer_vision.predict model.gossamer --onnx model.onnx
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional

import gossamer as gs
from gossamer.cli import plain_errors
from gossamer_vision.classifier import Classifier, load


@dataclass(frozen=True)
class Options:
    """What to look at, and with what."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    images: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE …")]] = ()
    """pictures of any size and mode"""
    top: int = 3
    """how many classes to print for each"""
    onnx: Path | None = None
    """write the network there for other runtimes"""


def predict(classifier: Classifier, images: tuple[Path, ...]) -> tuple[dict[Path, torch.Tensor], list[str]]:
    """The probabilities [classes] of each picture, and what is wrong with those that cannot be read."""
    pixels, problems = {}, []
    for path in images:
        try:
            pixels[path] = classifier.picture(path)
        except gs.InputError as error:
            problems.append(str(error))
    if not pixels:
        return {}, problems
    return dict(zip(pixels, classifier.probabilities(torch.stack([*pixels.values()])), strict=True)), problems


def _table(found: dict[Path, torch.Tensor], classes: tuple[str, ...], top: int) -> Table:
    """The likeliest classes of each picture."""
    top = min(top, len(classes))
    table = Table(*(Column(name, overflow="fold") for name in ("picture", *["class", "probability"] * top)))
    for path, probabilities in found.items():
        best = probabilities.topk(top)
        cells = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        table.add_row(escape(str(path)), *(text for p, i in cells for text in (escape(classes[i]), f"{p:.1%}")))
    return table


def main(arguments: list[str] | None = None) -> None:
    """The command. Exit status 2 where nothing could be done, 1 where some pictures could not be read."""
    with plain_errors():
        options = tyro.cli(Options, args=arguments, prog="python -m gossamer_vision.predict", description=__doc__)
        if not options.images and options.onnx is None:
            raise gs.InputError("there is no IMAGE to look at; name one or more, or --onnx FILE.")
        if options.top < 1:
            raise gs.InputError(f"--top is {options.top}; it is how many classes to print, 1 or more.")
        classifier = load(options.model)
        if options.onnx:
            print(f"wrote {options.onnx}: {classifier.export_onnx(options.onnx):,} bytes")
        found, problems = predict(classifier, options.images)
        if problems and not found:
            raise gs.InputError(problems[0])
        if found:
            Console(width=None if sys.stdout.isatty() else 160).print(_table(found, classifier.classes, options.top))
    if problems:
        error = Console(stderr=True, highlight=False, soft_wrap=True)
        for problem in problems:
            error.print(problem, markup=False)
        error.print(f"{len(problems)} of {len(options.images)} pictures could not be read.")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
