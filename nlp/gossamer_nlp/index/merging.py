"""Several segments as one, without the documents that are gone."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.index.kernels import BLOCK
from gossamer_nlp.index.segment import CHUNK, MOST, Segment, invert, store

MANY = 12  # segments from which on some are merged
COST = 64  # bytes that merging takes for each non-zero
MERGED = 8  # segments that become one, the smallest


def chosen(segments: Sequence[Segment], room: int) -> list[Segment]:
    """The segments that should become one now, in `room` bytes; none where there are few, or two take more."""
    if len(segments) < MANY:
        return []
    smallest = sorted(segments, key=lambda segment: segment.alive)[:MERGED]
    while sum(s.alive for s in smallest) > MOST or sum(COST * len(s.postings["impacts"]) for s in smallest) > room:
        smallest.pop()
    own = {segment.name for segment in smallest}
    return [segment for segment in segments if segment.name in own] if len(own) > 1 else []


def together(
    segments: Sequence[Segment],
) -> tuple[scipy.sparse.csr_array, NDArray[np.uint64], list[NDArray[np.int64]]]:
    """The vectors of documents that are not gone (N, D), their dimensions' keys (D,), and each segment's numbers."""
    keys = np.unique(np.concatenate([segment.postings["keys"] for segment in segments]))
    kept = [np.flatnonzero(segment.gone[: segment.count] == 0) for segment in segments]
    rows = []
    for segment, own in zip(segments, kept, strict=True):
        vectors, dimensions = segment.vectors()
        vectors = vectors[own]
        columns = np.searchsorted(keys, dimensions)[vectors.indices]
        rows.append(scipy.sparse.csr_array((vectors.data, columns, vectors.indptr), (len(own), len(keys))))
    return scipy.sparse.csr_array(scipy.sparse.vstack(rows, format="csr")), keys, kept


def merged(segments: Sequence[Segment], name: str) -> tuple[Segment, list[np.ndarray]]:
    """The documents of segments that are not gone, as one; and for each segment its documents' new numbers, or −1."""
    vectors, keys, kept = together(segments)
    ids, fields, dense, numbers, count = [], [], [], [], 0
    for segment, own in zip(segments, kept, strict=True):
        for start in range(0, len(own), 64 * CHUNK):
            part = own[start : start + 64 * CHUNK].tolist()
            ids += [segment.id(document) for document in part]
            fields += segment.fields(part)
        if "vectors" in segment.stored:
            dense.append(segment.stored["vectors"][own])
        number = np.full(len(segment.gone) // BLOCK * BLOCK, -1, np.int64)
        number[own] = np.arange(count, count + len(own))
        numbers.append(number)
        count += len(own)
    stored = store(ids, fields, np.concatenate(dense) if dense else None)
    return Segment(name, count, invert(vectors, keys), stored), numbers
