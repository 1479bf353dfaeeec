"""The manifest, which says what an index consists of, and the lock, which says who writes it."""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gossamer import InputError
from gossamer.paths import write_atomically

FORMAT = 2  # 1 where there is no encoder
NAME = "index.json"


@dataclass(frozen=True)
class Manifest:
    """One consistent state: segments in order, the file of each one's deletions ("" for none), the log that goes on.

    lengths: how many terms each field of all documents added so far holds, and `documents` their number. encoder,
    encoder_sha256, dimensions: what makes documents' vectors (see `dense`), none where empty.
    """

    generation: int = 0
    segments: tuple[str, ...] = ()
    deletions: tuple[str, ...] = ()
    log: str = "000000.log"
    model: str = "model-0.gossamer"
    lengths: tuple[float, ...] = ()
    documents: int = 0
    encoder: str = ""
    encoder_sha256: str = ""
    dimensions: int = 0
    format: int = 1

    def save(self, folder: Path) -> None:
        """Make this the index's state, all at once."""
        content = json.dumps(dataclasses.asdict(self), indent=1).encode()
        try:
            write_atomically(folder / NAME, content)
        except OSError as error:
            raise InputError(
                f"{folder / NAME} cannot be written ({error.strerror}): nothing is lost; make room on the disk."
            ) from error

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """The state of the index in a folder; `InputError` where there is none, or one of a newer version."""
        try:
            found = json.loads((folder / NAME).read_bytes())
            if found["format"] > FORMAT:
                raise InputError(
                    f"{folder} was written by a newer Gossamer (index format {found['format']}, this one reads up to "
                    f"{FORMAT}); upgrade this one."
                )
            for name in ("segments", "deletions", "lengths"):
                found[name] = tuple(found[name])
            return cls(**found)
        except FileNotFoundError:
            raise InputError(
                f"{folder} holds no index; make one by `gossamer nlp index FOLDER`, or Index.create(folder)."
            ) from None
        except OSError as error:
            raise InputError(f"{folder / NAME} cannot be read ({error.strerror}).") from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{folder / NAME} is damaged ({error!r}); restore it, or index the folder anew."
            ) from error


class Lock:
    """The right to write an index: held by one process, freed by the system when that process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        import fcntl  # POSIX's: readers need no lock, and run anywhere

        self.file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        self.release = weakref.finalize(self, os.close, self.file)  # to be called, or else when nobody holds the lock
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self.file, 1000, 0).decode(errors="replace").strip() or "another process"
            self.release()
            raise InputError(
                f"{folder} is being written by {holder}; wait until it ends, or stop it. Searching works meanwhile."
            ) from None
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        name = " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:3]])
        with contextlib.suppress(OSError):  # a full disk keeps nobody from being the writer
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, f"process {os.getpid()} on {socket.gethostname()} ({name}) since {since}".encode(), 0)


@contextlib.contextmanager
def said(folder: Path) -> Iterator[None]:
    """Turns an `OSError` of writing into an `InputError` that says what is kept."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}): what was acknowledged is safe; make room on the disk and "
            "go on."
        ) from error
