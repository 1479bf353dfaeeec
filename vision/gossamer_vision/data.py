"""Data sets by name or folder: bytes in memory, split into parts to train on, to choose by and to report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from gossamer.errors import InputError
from gossamer.paths import cache, folder
from gossamer_vision.config import check_data
from gossamer_vision.readers import Frame
from gossamer_vision.scaling import Moments, moments, scaled, tint
from gossamer_vision.sources import SOURCES, Part, Raw, Source

SPLIT_SEED = 0


@dataclass(frozen=True)
class Data:
    """A data set, ready to use. Whatever chooses anything looks at `held_out`; `test` is for the report alone."""

    name: str
    classes: tuple[str, ...]
    train: Part
    held_out: Part
    test: Part
    mean: Moments
    std: Moments
    flips: bool
    frame: Frame
    skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def normalise(self) -> str:
        """Whose moments scale the images: data, or picture."""
        return "data" if self.mean else "picture"

    @property
    def twins(self) -> int:
        """How many images of the test part are, byte for byte, among those to train on."""
        seen = {image.numpy().tobytes() for image in self.train.images}
        return sum(image.numpy().tobytes() in seen for image in self.test.images)

    def scaled(self, images: Tensor) -> Tensor:
        """Bytes [n, channels, h, w] as floats of mean 0 and deviation 1: over the training part, or each picture."""
        return scaled(images, self.mean, self.std)


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
    fit: str | None = None,
    normalise: str | None = "data",
) -> Data:
    """The data set of that name, from `data_dir` or else from the cache, downloaded there where it is not.

    `size`, `fit` (crop, pad or stretch, for pictures that are not square) and `channels` (1 or 3) bring the images to
    another side and to grey or colour. `normalise` says whose moments scale them, the training part's (data) or each
    picture's own (picture); None chooses. The split is always the same. Raises `InputError` for an unknown name and for
    a folder that is missing, empty, damaged or another data set's.
    """
    check_data(name, data_dir)
    source = SOURCES[name]
    home = _folder(name, source, data_dir)
    chosen = source.survey(home) if source.survey and not (size and fit) else Frame(source.size)
    given = {"image_size": size, "fit": fit}
    reasons = {name: reason for name, reason in chosen.reasons.items() if given[name] is None}
    frame = Frame(size or chosen.size, fit or chosen.fit, reasons)
    raw = source.read(home, frame)
    train, held_out, test = (_brought(part, frame.size, channels) for part in _parts(raw, source))
    if normalise is None:
        share, by_chance = tint(train.images, train.labels)
        normalise = "picture" if by_chance else "data"
        words = "hardly tell the class" if by_chance else "help to tell the class"
        reasons["normalise"] = f"tint and contrast alone {words} ({share:.0%} right by the nearest picture)"
    mean, std = moments(train.images) if normalise == "data" else ((), ())
    return Data(name, raw.classes, train, held_out, test, mean, std, source.flips, frame, raw.skipped)


def share(part: Part, amount: float, seed: int) -> Part:
    """A share of the examples, in (0, 1], the same of every class (at least one), chosen by `seed`."""
    if amount >= 1:
        return part
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    labels = part.labels[order]
    chosen = [order[labels == label] for label in labels.unique()]
    return part.take(torch.cat([own[: max(1, round(amount * len(own)))] for own in chosen]))


def _folder(name: str, source: Source, data_dir: Path | None) -> Path:
    """Where the data set is, once it is there."""
    if data_dir is not None:
        return folder(data_dir, "the one of your pictures" if name == "folder" else f"the one that holds {name}")
    if name == "folder":
        raise InputError("data is 'folder', but no --data-dir says which one.")
    home = cache("vision") / name
    if source.fetch is None:
        return home
    home.mkdir(parents=True, exist_ok=True)
    try:
        source.fetch(home)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error) else type(error).__name__
        raise InputError(
            f"{name} cannot be downloaded ({reason}); give the folder that holds it by --data-dir."
        ) from None
    return home


def _parts(raw: Raw, source: Source) -> tuple[Part, Part, Part]:
    """What to train on, to choose by and to report: always the same."""
    if raw.places is None:
        rest, test = (raw.train, raw.test) if raw.test else _divide(raw.train, source.test)
        return *_divide(rest, source.held_out), test
    shares = [share for share, own in ((source.test, raw.test), (source.held_out, raw.held_out)) if own is None]
    train, *cut = _by_place(raw.train, raw.places, shares, raw.classes)
    held_out = raw.held_out or cut.pop()
    return train, held_out, raw.test or cut.pop()


def _by_place(part: Part, places: Tensor, shares: Sequence[float], classes: Sequence[str]) -> list[Part]:
    """The rest and a part for each share, every class in each: the places below the first share are the first part's.

    So no example changes its part where others are added, but in a class so small that a part would lack it.
    """
    chosen: list[list[Tensor]] = [[] for _ in (None, *shares)]
    for label, name in enumerate(classes):
        own = (part.labels == label).nonzero().flatten()
        own = own[places[own].argsort(stable=True)]
        if len(own) < len(chosen):
            raise InputError(
                f"the class {name!r} has too few readable pictures, {len(own)}: each class needs {len(chosen)}, one in "
                "each part (to train on, to choose by, to test); add pictures, or take the class away."
            )
        start = 0
        for number, edge in enumerate(accumulate(shares), 1):
            below = int((places[own] < edge).sum())
            end = min(max(below, start + 1), len(own) - len(shares) + number - 1)
            chosen[number].append(own[start:end])
            start = end
        chosen[0].append(own[start:])
    return [part.take(torch.cat(indices).sort().values) for indices in chosen]


def _divide(part: Part, second: float) -> tuple[Part, Part]:
    """The part in two, always the same two; the second has that many examples, or that share where below 1."""
    count = round(second * len(part)) if second < 1 else min(int(second), len(part) // 2)
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return part.take(order[count:].sort().values), part.take(order[:count].sort().values)


def _brought(part: Part, size: int, channels: int | None) -> Part:
    """The part with square images of that side and that many channels."""
    images = part.images
    if images.shape[-2:] != (size, size):
        images = v2.functional.resize(images, [size, size], antialias=True)
    if channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    elif channels == 1 and images.shape[1] == 3:
        images = v2.functional.rgb_to_grayscale(images)
    return Part(images, part.labels)
