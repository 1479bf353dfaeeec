"""Readers of image files: idx, CIFAR's pickles (without running what is in them), and folders of pictures."""

import gzip
import hashlib
import io
import math
import os
import pickle
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from gossamer import InputError

IDX_BYTES = 0x08
ARRAY_PARTS = ("_reconstruct", "ndarray", "dtype")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
PICTURES += (".avif", ".heic", ".heif")  # where Pillow cannot read these, they are named and not passed over


def idx(path: Path) -> Tensor:
    """The tensor of rank 1 to 3 in an idx file of bytes, gzipped or not (LeCun: 0, 0, type, rank, sizes, bytes)."""
    remedy = "Fetch the file again."
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}. {remedy}") from error
    if content[:3] != bytes((0, 0, IDX_BYTES)) or content[3:4] not in (b"\1", b"\2", b"\3"):
        raise InputError(
            f"{path} is no idx file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}. {remedy}"
        )
    rank = content[3]
    sizes = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    expected = 4 + 4 * rank + math.prod(sizes)
    if len(content) != expected:
        raise InputError(f"{path} has {len(content)} bytes where its header promises {expected}. {remedy}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes).copy())


class _Recorded:
    """Stands for what a pickle would make: keeps the arguments and the state, and runs nothing."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArraysOnly(pickle._Unpickler):  # the one in Python: a damaged file can make the one in C ask for any memory
    """Unpickles containers, text and numbers, and records NumPy's arrays; anything else is refused.

    Tuples become lists: to hash deep ones, as keys, overflows the stack.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        pickle.EMPTY_TUPLE[0]: pickle._Unpickler.dispatch[pickle.EMPTY_LIST[0]],
        pickle.TUPLE[0]: pickle._Unpickler.dispatch[pickle.LIST[0]],
        pickle.TUPLE1[0]: lambda self: _gather(self.stack, 1),
        pickle.TUPLE2[0]: lambda self: _gather(self.stack, 2),
        pickle.TUPLE3[0]: lambda self: _gather(self.stack, 3),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in Python 2's protocol
            return lambda text, encoding: text.encode("latin1")
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in ARRAY_PARTS:
            return _Recorded
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")


def _gather(stack: list[Any], count: int) -> None:
    stack[-count:] = [stack[-count:]]


def _plain(value: Any) -> Any:
    """The array of bytes that was recorded, of the state [version, sizes, type, Fortran order, bytes]; or the value."""
    if not isinstance(value, _Recorded):
        return value
    _, sizes, kind, fortran, raw = value.state
    if kind.arguments[0] not in ("u1", b"u1"):
        raise ValueError(f"it holds an array of type {kind.arguments[0]}, not of bytes")
    if len(raw) != math.prod(sizes) or min(sizes, default=0) < 0:
        raise ValueError(f"it holds {len(raw)} bytes for an array of {sizes}")
    return np.frombuffer(bytearray(raw), np.uint8).reshape(sizes, order="F" if fortran else "C")


def cifar(path: Path) -> dict[str, Any]:
    """The dictionary in one of CIFAR's pickles, its keys as text; arrays of bytes and plain values alone are read.

    Raises `InputError` where the file is damaged or asks for anything else.
    """
    try:
        found = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key): _plain(found[key]) for key in found}
    except Exception as error:  # a damaged pickle raises many kinds
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} is no file of CIFAR's: {reason}. Fetch the data set again.") from error


def picture(path: Path, size: int, channels: int = 3, fit: str = "crop") -> Tensor:
    """A picture of any size and mode as bytes [channels, size, size]; transparent parts on white.

    Turned as the camera held it, made square as `fit` says (`squared`) and that brought to `size`. Raises `InputError`
    where it cannot be decoded, or has more pixels than Pillow takes for safe (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; name a picture that is there.")
    try:
        image = squared(_upright(path, 8 * size), fit)
        if image.mode.startswith("I") or image.mode == "F":  # PIL clips these to 255; scale them by their range
            values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
            top = max(0.0, values.max()) if image.mode == "F" else 65535.0
            image = Image.fromarray((values.clip(0, top) / (top or 1) * 255).astype(np.uint8))
        if "A" in image.getbands() or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        array = np.array(image.convert("RGB" if channels == 3 else "L"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = Image.MAX_IMAGE_PIXELS or 0
        raise InputError(
            f"{path} has more pixels than are read ({error}); make it smaller, of at most {most:,} pixels."
        ) from error
    except Exception as error:  # Pillow raises many kinds on a damaged file
        raise InputError(
            f"{path} is no picture that can be read ({error}). Convert it to PNG, or leave it out."
        ) from error
    pixels = torch.from_numpy(array).reshape(*array.shape[:2], channels).permute(2, 0, 1)
    return v2.functional.resize(pixels, [size, size], antialias=True)


def _upright(path: Path, enough: int) -> Image.Image:
    """A picture, turned as its EXIF data say; a JPEG of many times `enough` pixels a side is decoded at a part of it.

    Eight times the side asked leaves no level of the result off by more than one, in a fifth of the time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EXIF data that are damaged
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.draft(None, (enough, enough))
            return ImageOps.exif_transpose(image)


def squared(image: Image.Image, fit: str) -> Image.Image:
    """The square in the picture's middle (crop), or all of it between white bars (pad), or as it is (stretch)."""
    width, height = image.size
    side = min(width, height) if fit == "crop" else max(width, height)
    if fit == "stretch" or width == height:
        return image
    left, top = (width - side) // 2, (height - side) // 2
    if fit == "crop":
        return image.crop((left, top, left + side, top + side))
    if image.mode == "P":
        image = image.convert("RGBA")
    white = {"I;16": 65535, "I": 65535, "F": float(np.max(np.asarray(image))) if image.mode == "F" else 0}
    square = Image.new(image.mode, (side, side), white.get(image.mode, "white"))
    square.paste(image, (-left, -top))
    return square


class Pictures(NamedTuple):
    """A folder's pictures as bytes [n, 3, size, size], their labels [n], and why others were left out.

    `places` [n] are numbers in [0, 1) that follow from each file's name within its class alone.
    """

    images: Tensor
    labels: Tensor
    places: Tensor
    classes: tuple[str, ...]
    skipped: tuple[str, ...]


class Frame(NamedTuple):
    """How pictures are made square, and of how many pixels a side; why, where it was chosen, by the field's name."""

    size: int
    fit: str = "crop"
    reasons: Mapping[str, str] = MappingProxyType({})


def survey(folder: Path) -> Frame:
    """The frame that suits the pictures below a folder, by the sizes of up to 500 of them.

    `size` is the median shorter side, at most 64 and at least 16; `fit` crops where nine pictures in ten lose less than
    a quarter of their longer side by it, and else pads.
    """
    found = pictures_below(folder)
    sides = [_sides(path) for path in found[:: len(found) // 500 + 1]]
    sides = sorted(pair for pair in sides if pair)
    if not sides:
        return Frame(64)
    middle = sides[len(sides) // 2][0]
    size = min(64, max(16, -(-middle // 4) * 4))
    far = sum(short < 0.75 * long for short, long in sides) / len(sides)
    fit = "pad" if far > 0.1 else "crop"
    reasons = {
        "image_size": f"the median picture has {middle} pixels on its shorter side, and 16 to 64 are used",
        "fit": f"{far:.0%} of the pictures would lose more than a quarter of their longer side by a crop",
    }
    return Frame(size, fit, reasons)


def _sides(path: Path) -> tuple[int, int] | None:
    """The shorter and the longer side of a picture in pixels; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return min(image.size), max(image.size)
    except Exception:  # Pillow raises many kinds on a damaged file
        return None


def pictures(folder: Path, frame: Frame) -> Pictures:
    """A folder with one subfolder of pictures a class; what is hidden, or left by macOS, is passed over.

    A picture that cannot be decoded is skipped. Raises `InputError` where a class has none, or there are no two.
    """
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _shown(entry.name)))
    images, labels, places, skipped = [], [], [], []
    for label, name in enumerate(classes):
        for path in pictures_below(folder / name):
            try:
                images.append(picture(path, frame.size, fit=frame.fit))
            except InputError as error:
                skipped.append(str(error))
            else:
                labels.append(label)
                places.append(_place(path.relative_to(folder / name)))
    empty = [name for label, name in enumerate(classes) if label not in set(labels)]
    if empty:
        raise InputError(
            f"{folder} has no readable picture in {', '.join(empty[:5])} ({len(skipped)} files "
            "cannot be read); each subfolder is a class: put pictures into it, or take it away."
        )
    if len(classes) < 2:
        raise InputError(
            f"{folder} holds {len(classes)} subfolders of pictures; it needs one for each of two or more classes."
        )
    return Pictures(
        torch.stack(images), torch.tensor(labels), torch.tensor(places, dtype=torch.float64), classes, tuple(skipped)
    )


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def pictures_below(folder: Path) -> list[Path]:
    """The files below a folder that are pictures by their names, sorted; what is hidden is passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    return sorted(path for path in found if all(map(_shown, path.relative_to(folder).parts)))


def _place(path: Path) -> float:
    """A number in [0, 1) that follows from the path, as if drawn at random."""
    return int.from_bytes(hashlib.sha256(os.fsencode(path.as_posix())).digest()[:4], "big") / 2**32
