"""Say what pictures show, by a trained network compiled for the CPU.

python -m gossamer_vision.predict model.gossamer IMAGE …
python -m gossamer_vision.predict model.gossamer --onnx model.onnx
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
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


def main(arguments: list[str] | None = None) -> None:
    """The command. Exit status 2 where nothing could be done, 1 where some pictures could not be read."""
    with plain_errors():
        options = tyro.cli(Options, args=arguments, prog="python -m gossamer_vision.predict", description=__doc__)
        if not options.images and options.onnx is None:
            raise gs.InputError("there is no IMAGE to look at; name one or more, or --onnx FILE.")
        classifier = load(options.model)
        if options.onnx:
            print(f"wrote {options.onnx}: {classifier.export_onnx(options.onnx):,} bytes")
        found, problems = predict(classifier, options.images)
        if problems and not found:
            raise gs.InputError(problems[0])
        table = Table("picture", *["class", "probability"] * min(options.top, len(classifier.classes)))
        for path, probabilities in found.items():
            best = probabilities.topk(min(options.top, len(classifier.classes)))
            cells = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            table.add_row(str(path), *(text for p, i in cells for text in (classifier.classes[i], f"{p:.1%}")))
        if found:
            Console().print(table)
    if problems:
        error = Console(stderr=True, highlight=False, soft_wrap=True)
        for problem in problems:
            error.print(problem, markup=False)
        error.print(f"{len(problems)} of {len(options.images)} pictures could not be read.")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
