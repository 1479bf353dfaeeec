"""The files of an index: segments and what is deleted of them, mapped, written and removed."""

import contextlib
import shutil
from pathlib import Path

import numpy as np

from gossamer_nlp import arrays
from gossamer_nlp.index.manifest import Manifest, said
from gossamer_nlp.index.segment import Segment

TEMPORARY = "temporary-"  # how the names of folders begin that are gone when their work is done


def last(folder: Path) -> int:
    """The highest number that a segment or a log of the index has had; -1 where there is none."""
    return max((int(path.name[:6]) for path in folder.glob("*/[0-9]*")), default=-1)


def opened(folder: Path, name: str, deletions: str) -> Segment:
    """A segment mapped from its file, with the documents that a file of deletions marks as gone."""
    segment = Segment.open(folder / "segments" / f"{name}.segment")
    if deletions:
        found, _ = arrays.open_mapped(folder / "segments" / deletions)
        segment.gone[:] = np.unpackbits(found["gone"], count=len(segment.gone))
    return segment


def saved(folder: Path, segment: Segment) -> Segment:
    """A segment written, and mapped from its file."""
    with said(folder):
        segment.save(folder / "segments" / f"{segment.name}.segment")
    return opened(folder, segment.name, "")


def save_deletions(folder: Path, segment: Segment, generation: int) -> str:
    """Write what is deleted of a segment; the file's name, empty where nothing is."""
    if not segment.gone.any():
        return ""
    name = f"{segment.name}.{generation:06d}.gone"
    arrays.write(folder / "segments" / name, {"gone": np.packbits(segment.gone)}, {})
    return name


def remove(*paths: Path) -> None:
    """Remove files that no state names any more; one that cannot be removed is left to `clean`."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def clean(folder: Path, manifest: Manifest) -> None:
    """Remove files that the state does not name, which a process left that was killed."""
    kept = {manifest.log, manifest.model, *manifest.deletions, *(f"{name}.segment" for name in manifest.segments)}
    for kind in ("segments", "logs"):
        for path in (folder / kind).iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
