"""Data sets by name or folder: bytes in memory, split into parts to train on, to choose by and to report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import v2

from gossamer import InputError
from gossamer_vision.sources import SOURCES, Part, Raw, Source

CACHE = Path.home() / ".cache" / "gossamer" / "vision"
SPLIT_SEED = 0


@dataclass(frozen=True)
class Data:
    """A data set, ready to use. Whatever chooses anything looks at `held_out`; `test` is for the report alone."""

    name: str
    classes: tuple[str, ...]
    train: Part
    held_out: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: bool
    skipped: tuple[Path, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def scaled(self, images: Tensor) -> Tensor:
        """Bytes [n, channels, …] as floats of mean 0 and deviation 1 over the training part, a channel."""
        return scaled(images, self.mean, self.std)


def scaled(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(bytes / 255 − mean) / std for each channel."""
    return v2.functional.normalize(v2.functional.to_dtype(images, torch.float32, scale=True), list(mean), list(std))


def check(name: str, data_dir: Path | None) -> None:
    """Raise `InputError` where there is no such data set, or where it and the folder do not belong together."""
    if name not in SOURCES:
        from gossamer.domains import nearest

        raise InputError(f"data is {name!r}{nearest(name, SOURCES)}; choose one of {', '.join(SOURCES)}.")
    if name == "digits" and data_dir is not None:
        owners = ", ".join(other for other in SOURCES if other != "digits")
        raise InputError(
            f"--data-dir {data_dir} does not belong to 'digits', which comes with scikit-learn, but to another data "
            f"set: name it by --data ({owners}), or leave --data-dir out."
        )
    if name == "folder" and data_dir is None:
        raise InputError("data is 'folder', but no --data-dir says which one.")


def load(name: str, data_dir: Path | None = None, *, size: int | None = None, channels: int | None = None) -> Data:
    """The data set of that name, from `data_dir` or else from the cache, downloaded there where it is not.

    `size` and `channels` (1 or 3) bring the images to another side and to grey or colour. The split is always the same.
    Raises `InputError` for an unknown name and for a folder that is missing, empty, damaged or another data set's.
    """
    check(name, data_dir)
    source = SOURCES[name]
    raw = source.read(_folder(name, source, data_dir), size or source.size)
    train, held_out, test = (_brought(part, size or source.size, channels) for part in _parts(raw, source))
    mean, std = _moments(train.images)
    return Data(name, raw.classes, train, held_out, test, mean, std, source.flips, raw.skipped)


def share(part: Part, amount: float, seed: int) -> Part:
    """A share of the examples, in (0, 1], the same of every class (at least one), chosen by `seed`."""
    if amount >= 1:
        return part
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    labels = part.labels[order]
    chosen = [order[labels == label] for label in labels.unique()]
    return part.take(torch.cat([own[: max(1, round(amount * len(own)))] for own in chosen]))


def augmented(images: Tensor, shift: int, flips: bool, generator: torch.Generator) -> Tensor:
    """The images [n, channels, h, w], each shifted by up to `shift` pixels (zeros come in), mirrored half the time."""
    n, channels, height, width = images.shape
    device = images.device
    if flips:
        mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored.to(device), images.flip(-1), images)
    if not shift:
        return images
    down, across = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator).to(device)
    rows = (down + torch.arange(height, device=device))[:, None, :, None]
    columns = (across + torch.arange(width, device=device))[:, None, None, :]
    each = torch.arange(n, device=device)[:, None, None, None]
    return pad(images, (shift,) * 4)[each, torch.arange(channels, device=device)[:, None, None], rows, columns]


def _folder(name: str, source: Source, data_dir: Path | None) -> Path:
    """Where the data set is, once it is there."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise InputError(f"--data-dir {data_dir} is no folder; give the folder that holds {name}.")
        if not any(data_dir.iterdir()):
            raise InputError(f"--data-dir {data_dir} is empty; give the folder that holds {name}.")
        return data_dir
    if source.fetch is None:
        return CACHE
    home = CACHE / name
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


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1], from the counts of the 256 levels."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = images[:, channel].flatten().bincount(minlength=256).double()
        mean = float((counts * levels).sum() / counts.sum())
        means.append(mean)
        deviations.append(max(float((counts * (levels - mean) ** 2).sum() / counts.sum()) ** 0.5, 1 / 255))
    return tuple(means), tuple(deviations)
