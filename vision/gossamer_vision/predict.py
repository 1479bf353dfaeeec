"""Say what pictures show, by a trained network compiled for the CPU.

gossamer vision predict model.gossamer PICTURE … FOLDER …
gossamer vision predict model.gossamer FOLDER --to predictions.csv
gossamer vision predict model.gossamer --onnx model.onnx
"""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional, arg

from gossamer.errors import InputError, at_least
from gossamer.paths import refuse_unwritable, write_atomically

if TYPE_CHECKING:
    import torch

    from gossamer_vision.classifier import Classifier

TOGETHER = 256


@dataclass(frozen=True)
class Options:
    """What to look at, and with what."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    images: Positional[Annotated[tuple[Path, ...], arg(metavar="PICTURE …")]] = ()
    """pictures of any size and mode, and folders of them"""
    top: int = 3
    """how many classes to print for each"""
    to: Path | None = None
    """write the probabilities of all classes there: .csv or .json"""
    onnx: Path | None = None
    """write the network there for other runtimes: it takes pictures as they are, and gives probabilities and names"""


def predict(classifier: "Classifier", images: Sequence[Path]) -> "tuple[dict[Path, torch.Tensor], list[str]]":
    """The probabilities [classes] of each picture, and what is wrong with those that cannot be read."""
    import torch

    found, problems = {}, []
    for start in range(0, len(images), TOGETHER):
        pixels = {}
        for path in images[start : start + TOGETHER]:
            try:
                pixels[path] = classifier.picture(path)
            except InputError as error:
                problems.append(str(error))
        if pixels:
            found |= dict(zip(pixels, classifier.probabilities(torch.stack([*pixels.values()])), strict=True))
    return found, problems


def pictures_of(paths: Sequence[Path]) -> list[Path]:
    """The pictures named, and for each folder those below it. Raises `InputError` for a folder without any."""
    from gossamer_vision.readers import pictures_below

    found: dict[Path, None] = {}
    for path in paths:
        below = pictures_below(path) if path.is_dir() else [path]
        if not below:
            raise InputError(f"the folder {path} holds no pictures; give one that does.")
        found |= dict.fromkeys(below)
    return list(found)


def table(found: "Mapping[Path, torch.Tensor]", classes: Sequence[str], top: int) -> Table:
    """The likeliest classes of each picture."""
    top = min(top, len(classes))
    shown = Table(*(Column(name, overflow="fold") for name in ("picture", *["class", "probability"] * top)))
    for path, probabilities in found.items():
        best = probabilities.topk(top)
        cells = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        shown.add_row(escape(str(path)), *(text for p, i in cells for text in (escape(str(classes[i])), f"{p:.1%}")))
    return shown


def written(found: "Mapping[Path, torch.Tensor]", classes: Sequence[str], kind: str) -> str:
    """The probabilities of all classes as CSV (a line a picture) or JSON (a list of objects), likeliest class named."""
    rows = [(str(path), classes[int(p.argmax())], [round(v, 6) for v in p.tolist()]) for path, p in found.items()]
    if kind == ".json":
        objects = [
            {"picture": path, "class": best, "probabilities": dict(zip(classes, values, strict=True))}
            for path, best, values in rows
        ]
        return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["picture", "class", *classes], *([path, best, *values] for path, best, values in rows)]
    )
    return text.getvalue()


def main(options: Options) -> int:
    """The command. Exit status 1 where some pictures could not be read."""
    from gossamer_vision.classifier import load

    if not options.images and options.onnx is None:
        raise InputError("there is no PICTURE to look at; name one or more, a folder of them, or --onnx FILE.")
    at_least(1, top=options.top)
    if options.to:
        if options.to.suffix not in (".csv", ".json"):
            raise InputError(f"--to is {options.to}; its name must end with .csv or .json.")
        refuse_unwritable(options.to)
    classifier = load(options.model)
    if options.onnx:
        print(f"wrote {options.onnx}: {classifier.export_onnx(options.onnx):,} bytes")
    images = pictures_of(options.images)
    found, problems = predict(classifier, images)
    if problems and not found:
        raise InputError(problems[0])
    if options.to:
        write_atomically(options.to, written(found, classifier.classes, options.to.suffix).encode())
        print(f"wrote {options.to}: {len(found)} pictures")
    elif found:
        Console(width=None if sys.stdout.isatty() else 160).print(table(found, classifier.classes, options.top))
    if not problems:
        return 0
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        error.print(problem, markup=False)
    error.print(f"{len(problems)} of {len(images)} pictures could not be read.")
    return 1


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("vision", "predict")
