"""The inverted index's compiled loops: blocks of postings are built, bounded and scored; twins in `reference`.

Layout of a segment of N documents, in blocks of `BLOCK` that follow each other. Each dimension has one *entry* for each
block in which a document has it: the block's number, the largest impact there, and the number of postings less one. Its
*postings*, entry by entry, are a document's number within the block and its impact; an impact is worth 2^exponent of
its dimension. A query's weights are whole numbers, so that scores are exact sums in any order.
"""

import numpy as np
from numba import njit

BLOCK = 256  # documents, as many as a byte can tell apart
BUCKETS = 256
FIRST = 16  # blocks that are scored before all others, for a threshold


@njit(cache=True, nogil=True)
def build_entries(pointers, documents, impacts):
    """Block, largest impact and count − 1 of each entry, and where each dimension's entries begin (D + 1,)."""
    dimensions = len(pointers) - 1
    starts = np.zeros(dimensions + 1, np.int64)
    for d in range(dimensions):
        last = -1
        for p in range(pointers[d], pointers[d + 1]):
            block = documents[p] // BLOCK
            if block != last:
                starts[d + 1] += 1
                last = block
        starts[d + 1] += starts[d]
    blocks = np.empty(starts[-1], np.uint16)
    largest = np.zeros(starts[-1], np.uint8)
    counts = np.zeros(starts[-1], np.uint8)
    for d in range(dimensions):
        entry, last = starts[d] - 1, -1
        for p in range(pointers[d], pointers[d + 1]):
            block = documents[p] // BLOCK
            if block != last:
                entry += 1
                blocks[entry] = block
                last = block
            else:
                counts[entry] += 1
            largest[entry] = max(largest[entry], impacts[p])
    return blocks, largest, counts, starts


@njit(cache=True, nogil=True)
def posting_documents(entry_pointers, blocks, counts, offsets):
    """The document of each posting (P,)."""
    documents = np.empty(len(offsets), np.int32)
    p = 0
    for entry in range(entry_pointers[-1]):
        for _ in range(np.int64(counts[entry]) + 1):
            documents[p] = np.int32(blocks[entry]) * BLOCK + offsets[p]
            p += 1
    return documents


@njit(cache=True, nogil=True, inline="always")
def _worse(score, document, other_score, other_document):
    return score < other_score or (score == other_score and document > other_document)


@njit(cache=True, nogil=True)
def _place(scores, documents, size, score, document):
    """Put a hit into a heap with its worst at the top, in place of that where the heap is full; the heap's size."""
    if size < len(scores):
        i = size
        size += 1
        while i > 0:
            parent = (i - 1) // 2
            if not _worse(score, document, scores[parent], documents[parent]):
                break
            scores[i], documents[i] = scores[parent], documents[parent]
            i = parent
    else:
        i = 0
        while True:
            child = 2 * i + 1
            if child >= size:
                break
            if child + 1 < size and _worse(scores[child + 1], documents[child + 1], scores[child], documents[child]):
                child += 1
            if not _worse(scores[child], documents[child], score, document):
                break
            scores[i], documents[i] = scores[child], documents[child]
            i = child
    scores[i], documents[i] = score, document
    return size


@njit(cache=True, nogil=True)
def best(
    weights, dimensions, pointers, entry_pointers, entry_blocks, entry_largest, entry_counts, offsets, impacts,
    gone, base, first, slack, scores, documents, size,
):  # fmt: skip
    """Offer a segment's best to a heap (scores, documents; `size` of them there): its new size, −1 if damaged.

    weights (T,) and dimensions (T,): the query; gone: 1 for documents that are deleted, a whole number of blocks;
    base: what each document's score begins with, as many numbers as `gone`, or none;
    first: the number of the segment's first document; slack: 1 is exact, below 1 a block is skipped as soon as `slack`
    of its bound is below the worst of the heap. A block's bound is Σ_t weight_t · largest impact of t there (block-max
    pruning, Mallia et al. 2024): some of the highest are scored first, then in their order all that may hold a better
    document than the heap's worst.
    """
    terms, blocks, k = len(weights), len(gone) // BLOCK, len(scores)
    bounds = np.zeros(blocks, np.int64)
    if len(base):
        for block in range(blocks):
            bounds[block] = base[block * BLOCK : (block + 1) * BLOCK].max()
    places = np.full((blocks, terms), -1, np.int64)  # where the postings of a block begin · 256 + their number − 1
    for t in range(terms):
        dimension, weight = dimensions[t], weights[t]
        p = pointers[dimension]
        for entry in range(entry_pointers[dimension], entry_pointers[dimension + 1]):
            block = entry_blocks[entry]
            if block >= blocks:
                return -1
            bounds[block] += weight * entry_largest[entry]
            places[block, t] = p << 8 | entry_counts[entry]
            p += np.int64(entry_counts[entry]) + 1
        if p != pointers[dimension + 1]:
            return -1
    sums = np.zeros(BLOCK, np.int64)
    for block in _highest(bounds):
        size = _score(block, weights, places, offsets, impacts, sums, gone, base, first, scores, documents, size)
        bounds[block] = 0
    for block in range(blocks):
        if bounds[block] > 0 and (size < k or bounds[block] * slack >= scores[0]):
            size = _score(block, weights, places, offsets, impacts, sums, gone, base, first, scores, documents, size)
    return size


@njit(cache=True, nogil=True)
def _score(block, weights, places, offsets, impacts, sums, gone, base, first, scores, documents, size):
    """Offer a block's documents to the heap; `sums` (BLOCK,) is zero before and after. The heap's size."""
    if len(base):
        sums[:] = base[block * BLOCK : (block + 1) * BLOCK]
    for t in range(len(weights)):
        place = places[block, t]
        if place >= 0:
            start, weight = place >> 8, weights[t]
            for p in range(start, start + (place & 255) + 1):
                sums[offsets[p]] += weight * impacts[p]
    reached = np.int64(0)
    for j in range(BLOCK):  # few blocks reach the heap: this loop has no branch, and is compiled to wide instructions
        reached = max(reached, sums[j])
    k = len(scores)
    if size < k or reached >= scores[0]:
        for j in range(BLOCK):
            own = block * BLOCK + j
            if sums[j] > 0 and (size < k or _worse(scores[0], documents[0], sums[j], first + own)) and not gone[own]:
                size = _place(scores, documents, size, sums[j], first + own)
    sums[:] = 0
    return size


@njit(cache=True, nogil=True)
def _highest(bounds):
    """Blocks among those with the highest bounds, at most `FIRST`, by buckets of bounds."""
    step = bounds.max() // BUCKETS + 1 if len(bounds) else 1
    counts = np.zeros(BUCKETS, np.int64)
    for bound in bounds:
        if bound > 0:
            counts[bound // step] += 1
    bucket, held = BUCKETS - 1, counts[BUCKETS - 1]
    while bucket > 0 and held + counts[bucket - 1] <= FIRST:
        bucket -= 1
        held += counts[bucket]
    found = np.empty(min(held, FIRST), np.int64)
    size = 0
    for block in range(len(bounds)):
        if size < len(found) and bounds[block] > 0 and bounds[block] // step >= bucket:
            found[size] = block
            size += 1
    return found


@njit(cache=True, nogil=True)
def cosines(query, scale, vectors, worth, scores):
    """scores[i] = rint(scale · worth[i] · ⟨query, vectors[i]⟩) where that is above 0, else 0.

    query (D,) and vectors (N, D): whole numbers whose product fits 32 bits; worth (N,); scores (N or more,).
    """
    for i in range(len(vectors)):
        total = np.int32(0)
        for j in range(len(query)):
            total += np.int32(query[j]) * np.int32(vectors[i, j])
        scores[i] = np.int64(np.rint(total * (scale * worth[i]))) if total > 0 else 0
