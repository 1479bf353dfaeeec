"""The write-ahead log: what is in it is on the disk before it is acknowledged, and comes back after a crash."""

import contextlib
import json
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossamer import InputError

HEADER = 8  # bytes: the length of a record and its CRC-32, little-endian
LONGEST = 2**31


class Log:
    """An append-only file of JSON records with length and checksum; a torn last record counts as not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = sum(HEADER + len(payload) for payload in _payloads(path))
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
        data = len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload
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


def read(path: Path) -> Iterator[Any]:
    """The records of a log, up to the first that is torn; none where the file is not there."""
    for payload in _payloads(path):
        yield json.loads(payload.decode("utf-8", "surrogatepass"))


def _payloads(path: Path) -> Iterator[bytes]:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        while len(head := file.read(HEADER)) == HEADER:
            length = int.from_bytes(head[:4], "little")
            payload = file.read(length) if length < LONGEST else b""
            if len(payload) < length or zlib.crc32(payload) != int.from_bytes(head[4:], "little"):
                return
            yield payload
