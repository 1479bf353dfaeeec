"""Three folders as a new user has them, and what one command without options makes of each, beside dense networks.

python vision/studies/folders/measure.py --fashion-mnist FOLDER --to /tmp/folders

Shapes (60 pictures, 4 classes): drawn dark on light, in any place and size and turned a little, on pictures of any
size; with --any-colour in any colours and at any angle. Clothes (600, 10): crops of Fashion-MNIST's training images,
and to test of its test images. Glyphs (6,000, 40): of the installed fonts, a fourth of which is for the test alone.
Each folder has train/ and, to tell accuracies apart, a test/ of 1,000 pictures.
"""

import math
import random
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tyro
from PIL import Image, ImageDraw, ImageFont

from gossamer.paths import write_atomically
from gossamer.runs import Run, execute
from gossamer_vision import data
from gossamer_vision.classifier import load
from gossamer_vision.config import PRESETS
from gossamer_vision.study import published, read_results

GLYPHS = "abcdefghijkmnpqrstuvwxyzABDEFGHJLMNQRT23"
OTHERS = {
    "folder": {},
    "dense": {"method": "dense"},
    "dense, width 16": {"method": "dense", "width": 16.0},
    "dense, resnet8": {"method": "dense", "model": "resnet8"},
    "dense, rate × 2": {"method": "dense", "learning_rate": 0.2},
}


@dataclass(frozen=True)
class Options:
    """What to measure, and where to."""

    fashion_mnist: Path
    """the folder that holds Fashion-MNIST"""
    to: Path
    """the folder to write the pictures to"""
    folders: tuple[str, ...] = ("shapes", "clothes", "glyphs")
    """which of them"""
    settings: tuple[str, ...] = tuple(OTHERS)
    """what to train on each"""
    seed: int = 1
    """of the training; the pictures are always the same"""
    any_colour: bool = False
    """draw the shapes in any colours and at any angle"""
    shapes: int = 60
    """how many shapes to train on"""


def shape(chance: random.Random, kind: str, any_colour: bool) -> Image.Image:
    """One shape of a colour on another: dark on light and turned by up to 17°, or of any colours and angle."""
    width, height = chance.randint(48, 120), chance.randint(48, 120)
    ground, ink = ([chance.randint(*levels) for _ in range(3)] for levels in ((200, 255), (0, 130)))
    if any_colour:
        ground = ink = [chance.randint(0, 255) for _ in range(3)]
        while sum(abs(a - b) for a, b in zip(ground, ink, strict=True)) < 120:
            ink = [chance.randint(0, 255) for _ in range(3)]
    image = Image.new("RGB", (width, height), tuple(ground))
    radius = chance.uniform(0.2, 0.42) * min(width, height)
    x, y = (chance.uniform(radius, side - radius) for side in (width, height))
    turn = chance.uniform(0, 2 * math.pi) if any_colour else chance.uniform(-0.3, 0.3) - math.pi / 2
    draw = ImageDraw.Draw(image)
    if kind == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(ink))
        return image
    corners = {"triangle": 3, "square": 4, "star": 10}[kind]
    points = [
        (x + r * math.cos(turn + 2 * math.pi * k / corners), y + r * math.sin(turn + 2 * math.pi * k / corners))
        for k in range(corners)
        for r in [radius * (0.45 if kind == "star" and k % 2 else 1)]
    ]
    draw.polygon(points, fill=tuple(ink))
    return image


def glyph(chance: random.Random, letter: str, fonts: list[str]) -> Image.Image:
    """One letter of one of the fonts."""
    size = chance.randint(28, 44)
    image = Image.new("L", (48, 48), chance.randint(170, 255))
    font = ImageFont.truetype(chance.choice(fonts), size)
    place = (24 + chance.uniform(-4, 4), 24 + chance.uniform(-4, 4))
    ImageDraw.Draw(image).text(place, letter, fill=chance.randint(0, 90), font=font, anchor="mm")
    return image.rotate(chance.uniform(-12, 12), fillcolor=image.getpixel((0, 0)))


def write(folder: Path, name: str, options: Options) -> None:
    """Make one of the folders, where it is not there."""
    if folder.exists():
        return
    counts = {"shapes": (options.shapes, 1000), "clothes": (600, 1000), "glyphs": (6000, 1000)}[name]
    chance = random.Random(name)
    clothes = data.load("fashion-mnist", options.fashion_mnist)
    fonts = sorted(subprocess.check_output(["fc-list", ":lang=en", "file"], text=True).replace(":", "").split("\n"))
    fonts = [font.strip() for font in fonts if font.strip().endswith((".ttf", ".otf"))]
    garments = [kind.replace("/", " ") for kind in clothes.classes]
    kinds = {"shapes": ["circle", "square", "star", "triangle"], "clothes": garments, "glyphs": list(GLYPHS)}[name]
    for part, count in zip(("train", "test"), counts, strict=True):
        own = [f for i, f in enumerate(fonts) if (i % 4 == 3) == (part == "test")]
        for number in range(count):
            label = number % len(kinds)
            if name == "shapes":
                image = shape(chance, kinds[label], options.any_colour)
            elif name == "glyphs":
                image = glyph(chance, kinds[label], own)
            else:
                source = clothes.train if part == "train" else clothes.test
                index = int((source.labels == label).nonzero()[number // len(kinds)])
                side, left, top = chance.randint(24, 28), chance.randint(0, 2), chance.randint(0, 2)
                image = Image.fromarray(source.images[index, 0].numpy()).crop((left, top, left + side, top + side))
            case = "upper " if kinds[label].isupper() and len(kinds[label]) == 1 else ""
            path = folder / part / f"{case}{kinds[label]}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def differing(model: Path, pictures: list[Path]) -> int:
    """How many pictures the exported network, run by ONNX Runtime, and the compiled one name otherwise."""
    classifier, onnx = load(model), model.with_suffix(".onnx")
    classifier.export_onnx(onnx)
    session = onnxruntime.InferenceSession(onnx)

    def named(path: Path) -> str:
        classes: Any = session.run(["class"], {"images": np.asarray(Image.open(path).convert("RGB"))[None]})[0]
        return classes[0]

    return sum(
        named(path) != classifier.classes[int(classifier.probabilities(classifier.picture(path)[None]).argmax())]
        for path in pictures
    )


def main(options: Options) -> None:
    """Make the folders, train on each, and keep the results beside this script."""
    table = Path(__file__).with_name("results.jsonl")
    results = read_results(table) if table.exists() else []
    for name in options.folders:
        any_colour = options.any_colour and name == "shapes"
        folder = options.to / (f"{options.shapes} shapes of any colour" if any_colour else name)
        write(folder, name, options)
        for setting in options.settings:
            model, begin = options.to / f"{folder.name}.gossamer", time.process_time()
            config = replace(PRESETS["folder"], data_dir=folder, seed=options.seed, **OTHERS[setting])
            own = setting == "folder"
            run = Run("vision", replace(config, save=model if own else None))
            result = execute(run, print if own else lambda line: None)
            extra = result.extra | {"cpu_seconds": time.process_time() - begin}
            if own:
                pictures = sorted((folder / "test").rglob("*.png"))[::5]
                extra["named_otherwise"] = differing(model, pictures)
                print(f"ONNX Runtime names {extra['named_otherwise']} of {len(pictures)} pictures otherwise")
            print(
                f"{folder.name}, {setting}: {result.value:.2%} ({extra['held_out']:.2%} held out), "
                f"{extra['cpu_seconds']:.0f} s of a core, {result.nonzeros:,} of {result.parameters:,}",
                flush=True,
            )
            config = result.config | {"data_dir": folder.name, "save": None}
            results.append(replace(result, data=folder.name, config=config, extra=extra))
            write_atomically(table, published(results).encode())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
