"""The Common Index File Format (Lin et al. 2020), which Lucene, PISA, JASSv2 and Terrier read: delimited protobuf.

A header, then a PostingsList for each term in their order, then a DocRecord for each document; each message behind its
length as a varint.
"""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.export.exported import Exported

LARGEST = 2**16 - 1  # the impact of the largest value


def write(found: Exported, path: Path) -> None:
    """Write an index whose term frequencies are impacts, rint(65,535 · value / largest value); gzip by the suffix .gz.

    Queries' terms then count once for each time they stand in the query, and scores are sums of impacts.
    """
    from gossamer.paths import writing_atomically

    with writing_atomically(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                packed.writelines(messages(found))
        else:
            file.writelines(messages(found))


def messages(found: Exported) -> Iterator[bytes]:
    """The file, message by message."""
    held, largest = np.zeros(len(found.terms), np.int64), 0.0
    for part in found.parts():
        held += np.bincount(part.indices, minlength=len(held))
        largest = max(largest, float(part.data.max(initial=0.0)))
    scale = LARGEST / (largest or 1.0)
    lengths: list[int] = []
    for part in found.parts():
        impacts = scipy.sparse.csr_array((impact(part.data, scale), part.indices, part.indptr), part.shape)
        lengths += np.asarray(impacts.sum(1)).astype(np.int64).tolist()
    order = sorted(np.flatnonzero(held).tolist(), key=lambda i: found.terms[i].encode("utf-8", "surrogatepass"))
    header = [number(1, 1), number(2, len(order)), number(3, len(found)), number(4, len(order))]
    header += [number(5, len(found)), number(6, sum(lengths))]
    header.append(b"\x39" + struct.pack("<d", sum(lengths) / max(len(lengths), 1)))
    header.append(text(8, "Gossamer's impacts: a query's weights and the idf are in the documents'"))
    yield delimited(b"".join(header))
    for column in order:
        documents, own = found.postings(column)
        gaps, values = np.diff(documents, prepend=0).tolist(), impact(own, scale).tolist()
        postings = (inner(4, number(1, gap) + number(2, value)) for gap, value in zip(gaps, values, strict=True))
        yield delimited(
            text(1, found.terms[column]) + number(2, len(gaps)) + number(3, sum(values)) + b"".join(postings)
        )
    for i, (name, length) in enumerate(zip(found.ids, lengths, strict=True)):
        yield delimited(number(1, i) + text(2, name) + number(3, length))


def impact(values: Any, scale: float) -> NDArray[np.int64]:
    """Values (n,) as whole numbers, 1 at least."""
    return np.maximum(np.rint(values * scale), 1).astype(np.int64)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have the eighth set."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """A whole number of a message, left out where it is 0, as proto3 has it."""
    return varint(field << 3) + varint(value) if value else b""


def inner(field: int, content: bytes) -> bytes:
    """A message, or text, within a message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field: int, value: str) -> bytes:
    """Text within a message."""
    return inner(field, value.encode("utf-8", "replace"))


def delimited(message: bytes) -> bytes:
    """A message behind its length."""
    return varint(len(message)) + message
