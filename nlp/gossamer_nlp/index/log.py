"""The write-ahead log: what is in it is on the disk before it is acknowledged, and comes back after a crash."""

import base64
import contextlib
import json
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gossamer import InputError

HEADER = 8  # bytes: the length of a record and its CRC-32, little-endian
LONGEST = 2**31


class Log:
    """An append-only file of JSON records with length and checksum; a torn last record counts as not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        if path.exists():
            with open(path, "rb") as file:
                self.end = sum(HEADER + len(payload) for payload in _payloads(file))
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.close = weakref.finalize(self, os.close, self.file)
        self._cut()

    def append(self, record: Any) -> None:
        """Write a record; when this returns it is on the disk, and where it raises nothing of it counts."""
        try:
            payload = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"a field of a document cannot be stored ({error}); give what JSON holds: texts, numbers, lists."
            ) from error
        if len(payload) >= LONGEST:
            raise InputError(
                f"a batch of {len(payload):,} bytes is too large for the log; add fewer documents at once."
            )
        data = _header(payload) + payload
        try:
            self._cut()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.file, rest) :]
            os.fsync(self.file)
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next append, or the next to open the log, cuts it off
                self._cut()
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}): this batch was not added, what was added before is "
                "safe. Make room on the disk and add it again."
            ) from error
        self.end += len(data)

    def _cut(self) -> None:
        """Take off what a write that failed, or a crash, has left behind the last whole record."""
        if os.fstat(self.file).st_size != self.end:
            os.ftruncate(self.file, self.end)


class Follower:
    """A log as another process reads it while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last, self._header = 0, b""  # where the last record that was read begins, and how

    def new(self) -> list[Any] | None:
        """The records since this was last asked, up to the first that is torn; `FileNotFoundError` without a log.

        None where the last one is no more: its writer could not make it durable, and all is to be read anew.
        """
        with open(self.path, "rb") as file:
            file.seek(self._last)
            if self._header:
                if file.read(HEADER) != self._header:
                    return None
                file.seek(_length(self._header), os.SEEK_CUR)
            records, place = [], file.tell()
            for payload in _payloads(file):
                records.append(json.loads(payload.decode("utf-8", "surrogatepass")))
                self._last, self._header = place, _header(payload)
                place += HEADER + len(payload)
            return records


def text(array: NDArray[Any]) -> str:
    """The numbers of an array as text, for a record."""
    return base64.b85encode(np.ascontiguousarray(array).tobytes()).decode()


def numbers(content: str, kind: Any) -> NDArray[Any]:
    """The array of `text`, flat."""
    return np.frombuffer(base64.b85decode(content), kind)


def _header(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little")


def _length(header: bytes) -> int:
    return int.from_bytes(header[:4], "little")


def _payloads(file: BinaryIO) -> Iterator[bytes]:
    while len(header := file.read(HEADER)) == HEADER:
        payload = file.read(_length(header)) if _length(header) < LONGEST else b""
        if not payload or header != _header(payload):  # zeros, too, a crash may leave
            return
        yield payload
