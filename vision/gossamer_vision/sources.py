"""Where images come from: for each data set its reader from a folder, and what downloads it where there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision import datasets

from gossamer import InputError
from gossamer_vision import readers
from gossamer_vision.readers import Frame


@dataclass(frozen=True)
class Part:
    """Images as bytes [n, channels, height, width] and their labels [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Part":
        """The examples of these indices."""
        return Part(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Raw:
    """What a source gives: the part to train on, those to report and to choose by where it has them, and the classes.

    `places` are numbers in [0, 1), one for each training example, by which to divide them; without them chance does.
    """

    train: Part
    test: Part | None
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    held_out: Part | None = None
    places: Tensor | None = None


Reader = Callable[[Path, Frame], Raw]


@dataclass(frozen=True)
class Source:
    """A data set: `read(folder, frame)`, and the `fetch(folder)` that fills a folder where the user names none.

    `size` is the side to which images are brought; `held_out` and `test` (where the source has no test part of its
    own) are numbers of examples, or shares of them where below 1; `flips` says that a mirrored image is as good.
    `survey(folder)` chooses the frame where the source has no size of its own.
    """

    read: Reader
    fetch: Callable[[Path], object] | None = None
    size: int = 28
    held_out: float = 0.1
    test: float = 0.2
    flips: bool = False
    survey: Callable[[Path], Frame] | None = None


def file(folder: Path, subfolders: Sequence[str], name: str, remedy: str) -> Path:
    """The file of that name, or its gzipped twin, in the folder or one of its subfolders."""
    for home in (folder, *(folder / sub for sub in subfolders)):
        for found in (home / name, home / f"{name}.gz"):
            if found.is_file():
                return found
    held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    raise InputError(f"{folder} holds no {name} (it holds {held}). {remedy}")


def checked(images: Tensor, labels: Tensor, classes: Sequence[str], where: str, remedy: str) -> Part:
    """The part of these images and labels. Raises `InputError` where they do not fit each other or the classes."""
    fit = images.dim() == 4 and images.shape[1] in (1, 3) and images.numel() and labels.shape == images.shape[:1]
    if not fit or (images.dtype, labels.dtype) != (torch.uint8, torch.int64):
        shapes = f"images of shape {tuple(images.shape)} and labels of shape {tuple(labels.shape)}"
        raise InputError(f"{where} has {shapes} ({images.dtype}, {labels.dtype}), of no one data set. {remedy}")
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < len(classes):
            raise InputError(f"{where} has the label {label}, and the data set {len(classes)} classes. {remedy}")
    return Part(images, labels)


def digits(_: Path, frame: Frame) -> Raw:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels and 17 grey levels (Alpaydin & Kaynak 1998)."""
    found: Any = load_digits()
    images = torch.from_numpy((found.images * 255 / 16).round()).to(torch.uint8)[:, None]
    return Raw(Part(images, torch.from_numpy(found.target).long()), None, tuple("0123456789"))


def idx(kind: type[datasets.MNIST]) -> Reader:
    """Four idx files, gzipped or not, in the folder or where torchvision keeps them in it."""
    name = kind.__name__
    remedy = f"Fetch the four idx files of {name}, or leave out --data-dir to download them."

    def part(folder: Path, prefix: str) -> Part:
        images, labels = (
            readers.idx(file(folder, (f"{name}/raw", "raw"), f"{prefix}-{rest}", remedy))
            for rest in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        images = images[:, None] if images.dim() == 3 else images
        return checked(images, labels.long(), kind.classes, f"{folder} for {prefix}", remedy)

    classes = tuple(str(label) for label in kind.classes)
    return lambda folder, frame: Raw(part(folder, "train"), part(folder, "t10k"), classes)


def cifar(kind: type[datasets.CIFAR10]) -> Reader:
    """CIFAR's pickles, in the folder or where torchvision unpacks them in it; nothing in them is run."""
    remedy = f"Fetch the Python version of {kind.__name__}, or leave out --data-dir to download it."

    def read(folder: Path, name: str) -> dict[str, Any]:
        return readers.cifar(file(folder, (kind.base_folder,), name, remedy))

    def part(folder: Path, files: Sequence[Sequence[str]], classes: tuple[str, ...]) -> Part:
        batches = [read(folder, name) for name, _ in files]
        try:
            images = torch.cat([torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32) for batch in batches])
            labels = torch.tensor([label for batch in batches for label in batch.get("labels") or batch["fine_labels"]])
        except Exception as error:  # what is in the pickle may be anything
            raise InputError(f"{folder} holds no batches of {kind.__name__} ({error}). {remedy}") from error
        return checked(images, labels, classes, f"{folder} in {files[0][0]}", remedy)

    def whole(folder: Path, frame: Frame) -> Raw:
        names = read(folder, str(kind.meta["filename"])).get(str(kind.meta["key"]))
        if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
            raise InputError(f"{folder} names no classes in {kind.meta['filename']}. {remedy}")
        classes = tuple(name if isinstance(name, str) else name.decode(errors="replace") for name in names)
        return Raw(part(folder, kind.train_list, classes), part(folder, kind.test_list, classes), classes)

    return whole


def svhn(folder: Path, frame: Frame) -> Raw:
    """Street View House Numbers (Netzer et al. 2011), in its two .mat files."""
    classes = tuple("0123456789")
    remedy = "Fetch SVHN's cropped digits, or leave out --data-dir to download them."

    def part(split: str) -> Part:
        path = file(folder, (), f"{split}_32x32.mat", remedy)
        try:
            found = datasets.SVHN(str(folder), split)
        except Exception as error:  # torchvision and SciPy raise many kinds on a damaged file
            raise InputError(f"{path} cannot be read ({error}). {remedy}") from error
        return checked(torch.from_numpy(found.data), torch.from_numpy(found.labels).long(), classes, str(path), remedy)

    return Raw(part("train"), part("test"), classes)


def folders(path: Path, frame: Frame) -> Raw:
    """Pictures in PATH/CLASS/, or where parts are set aside in PATH/train/CLASS/ and PATH/test or PATH/val, or both.

    With both, val is the held-out part; with one, it is the test part. Names of val are valid and validation too.
    """
    if not (path / "train").is_dir():
        found = readers.pictures(path, frame)
        return Raw(Part(found.images, found.labels), None, found.classes, found.skipped, places=found.places)
    homes = [path / name for name in ("test", "val", "valid", "validation") if (path / name).is_dir()][:2]
    if not homes:
        raise InputError(f"{path} has a folder 'train' but neither 'test' nor 'val' beside it; add one.")
    found, *others = (readers.pictures(home, frame) for home in (path / "train", *homes))
    for home, other in zip(homes, others, strict=True):
        if other.classes != found.classes:
            odd = ", ".join(sorted(set(other.classes) ^ set(found.classes)))
            raise InputError(f"{path / 'train'} and {home} differ in the classes {odd}; give both the same subfolders.")
    test, *held_out = (Part(other.images, other.labels) for other in others)
    skipped = tuple(reason for each in (found, *others) for reason in each.skipped)
    return Raw(
        Part(found.images, found.labels), test, found.classes, skipped, held_out[0] if held_out else None, found.places
    )


def imagenette(path: Path, frame: Frame) -> Raw:
    """Ten classes of ImageNet, the version of 160 pixels, as it unpacks (Howard 2019)."""
    inner = path / "imagenette2-160"
    return replace(folders(inner if inner.is_dir() else path, frame), places=None)


def by(kind: Callable[..., object], *options: dict[str, Any]) -> Callable[[Path], object]:
    """Downloads by torchvision's own class, once with each set of options."""
    return lambda folder: [kind(str(folder), download=True, **chosen) for chosen in options or ({},)]


SVHN_PARTS = ({"split": "train"}, {"split": "test"})
SOURCES: dict[str, Source] = {
    "digits": Source(digits, size=16, held_out=297, test=500),
    "mnist": Source(idx(datasets.MNIST), by(datasets.MNIST), held_out=5000),
    "fashion-mnist": Source(idx(datasets.FashionMNIST), by(datasets.FashionMNIST), held_out=5000, flips=True),
    "kmnist": Source(idx(datasets.KMNIST), by(datasets.KMNIST), held_out=5000),
    "cifar-10": Source(cifar(datasets.CIFAR10), by(datasets.CIFAR10), size=32, held_out=5000, flips=True),
    "cifar-100": Source(cifar(datasets.CIFAR100), by(datasets.CIFAR100), size=32, held_out=5000, flips=True),
    "svhn": Source(svhn, by(datasets.SVHN, *SVHN_PARTS), size=32, held_out=5000),
    "imagenette": Source(imagenette, by(datasets.Imagenette, {"size": "160px"}), size=128, flips=True),
    "folder": Source(folders, flips=True, survey=readers.survey),
}
