"""Where files lie: written whole or not at all, kept below one cache folder, refused by name."""

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gossamer.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between."""
    with writing_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece, which is at `path`, whole, once this ends; where it raises, the old one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk names no file
            error.filename = str(path)
        raise
    if os.name == "posix":  # the rename itself lasts only once the folder is on the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def refuse_unwritable(path: Path) -> None:
    """Raise `InputError` now where no file could be written at `path` later; make the folder that it is to lie in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            reason = "it is a folder" if path.is_dir() else None
    except OSError as error:
        reason = error.strerror
    if reason:
        raise InputError(f"{path} cannot be written ({reason}); name another file.")


def cache(name: str = "") -> Path:
    """The folder of that cache, `gossamer/NAME` below $XDG_CACHE_HOME or ~/.cache; it may not be there yet.

    Without a name, the folder of all of them. Raises `OSError` where this user has no home.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "there is no home; set XDG_CACHE_HOME", "~") from error
    return home / "gossamer" / name


def folder(path: Path, what: str) -> Path:
    """The folder at `path`, or an `InputError` that says what was expected there: `what` follows the word "give"."""
    if not path.is_dir():
        state = "is a file and no folder" if path.exists() else "does not exist"
        raise InputError(f"the folder {path} {state}; give {what}.")
    if not any(path.iterdir()):
        raise InputError(f"the folder {path} is empty; give {what}.")
    return path
