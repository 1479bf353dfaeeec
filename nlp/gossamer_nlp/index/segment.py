"""A segment: documents that never change, an inverted index with their ids and stored fields, in one mapped file."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer import InputError
from gossamer_nlp import arrays
from gossamer_nlp.index import dense, kernels
from gossamer_nlp.index.kernels import BLOCK
from gossamer_nlp.keys import hashed

FORMAT = 1
MOST = 2**16 * BLOCK  # documents of a segment
CHUNK = 32  # documents whose stored fields are compressed together
FIXED = 32  # binary places of a score


@dataclass
class Segment:
    """N documents: `postings` (see `kernels`), `stored` ids and fields, and `gone` (whole blocks,), 1 where deleted.

    An index with an encoder stores `vectors` (N, D) of whole numbers too, and their `worth` (N,): see `dense`.
    """

    name: str
    count: int
    postings: dict[str, NDArray[Any]]
    stored: dict[str, NDArray[Any]]
    gone: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.gone = np.zeros(-(-self.count // BLOCK) * BLOCK, np.uint8)

    @property
    def alive(self) -> int:
        """How many documents are not deleted."""
        return self.count - int(self.gone.sum())

    @classmethod
    def of(cls, vectors: scipy.sparse.csr_array) -> "Segment":
        """A segment in memory of vectors alone (N, D), whose columns' numbers are their keys."""
        count, dimensions = cast(tuple[int, int], vectors.shape)
        return cls("memory", count, invert(vectors, np.arange(dimensions, dtype=np.uint64)), {})

    def save(self, path: Path) -> None:
        """Write the segment, durably; deletions are the manifest's."""
        arrays.write(path, {**self.postings, **self.stored}, {"format": FORMAT, "documents": self.count})

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """A segment from its file, mapped; `InputError` where it is damaged or newer than this program."""
        found, about = arrays.open_mapped(path)
        if about.get("format", 0) > FORMAT:
            raise InputError(f"{path} was written by a newer Gossamer (format {about['format']}); upgrade this one.")
        try:
            postings = {name: found.pop(name) for name in POSTINGS}
            segment = cls(path.stem, int(about["documents"]), postings, found)
            segment.check()
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error!r}); restore it, or index the folder anew.") from error
        return segment

    def check(self) -> None:
        """`ValueError` where sizes disagree, so that no kernel reads beyond an array."""
        p, s = self.postings, self.stored
        for name, pointers, target in (
            ("pointers", p["pointers"], p["offsets"]),
            ("entry_pointers", p["entry_pointers"], p["entry_blocks"]),
            ("id_pointers", s["id_pointers"], s["ids"]),
            ("chunk_pointers", s["chunk_pointers"], s["chunks"]),
        ):
            if pointers[0] != 0 or pointers[-1] != len(target) or (np.diff(pointers) < 0).any():
                raise ValueError(f"{name} do not fit")
        same = (
            len(p["offsets"]) == len(p["impacts"]),
            len(p["entry_blocks"]) == len(p["entry_largest"]) == len(p["entry_counts"]),
            len(p["pointers"]) == len(p["entry_pointers"]) == len(p["keys"]) + 1 == len(p["exponents"]) + 1,
            len(s["id_pointers"]) == self.count + 1 and len(s["id_hashes"]) == len(s["id_order"]) == self.count,
            self.count == 0 or int(s["id_order"].max()) < self.count,
            "vectors" not in s or (s["vectors"].ndim == 2 and len(s["vectors"]) == len(s["worth"]) == self.count),
        )
        if not all(same):
            raise ValueError("sizes disagree")

    def places(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of each dimension here, by its key; −1 where no document has it."""
        own = self.postings["keys"]
        if not len(own):
            return np.full(len(keys), -1)
        found = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        return np.where(own[found] == keys, found, -1)

    def held(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many documents have each dimension, deleted ones among them."""
        pointers = self.postings["pointers"]
        return np.where(places >= 0, pointers[places + 1] - pointers[places], 0)

    def best(
        self, keys: NDArray[np.uint64], weights: NDArray[np.float64], base: NDArray[np.int64], first: int, slack: float,
        scores: NDArray[np.int64], documents: NDArray[np.int64], size: int,
    ) -> int:  # fmt: skip
        """Offer this segment's best documents to a heap, as `kernels.best`; the heap's size."""
        places = self.places(keys)
        known = places >= 0
        places = places[known]
        p = self.postings
        whole = fixed(weights[known], p["exponents"][places])
        if float(whole.sum()) * 255 > 2.0**53:
            raise InputError("the scores of this query are above 2²¹; scale the vectors' values down.")
        size = kernels.best(
            whole, places, p["pointers"], p["entry_pointers"], p["entry_blocks"], p["entry_largest"],
            p["entry_counts"], p["offsets"], p["impacts"], self.gone, base, first, slack, scores, documents, size,
        )  # fmt: skip
        if size < 0:
            raise InputError(f"the segment {self.name} is damaged; restore it from a copy, or index the folder anew.")
        return size

    def cosines(self, query: NDArray[np.int16], scale: float, rows: slice = slice(None)) -> NDArray[np.int64]:
        """What vectors add to the score of each document (whole blocks,), or of some rows; empty without a query."""
        if not len(query):
            return NONE
        vectors = self.stored.get("vectors", np.zeros((0, len(query)), np.int8))[rows]
        if vectors.shape[1] != len(query):
            raise InputError(f"a query's vector has {len(query)} numbers, a document's {vectors.shape[1]}.")
        found = np.zeros(len(self.gone) if rows == slice(None) else len(vectors), np.int64)
        kernels.cosines(query, scale, vectors, self.stored.get("worth", np.zeros(0, np.float32))[rows], found)
        return found

    def parts(self, document: int, keys: NDArray[np.uint64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each dimension of a query adds to a document's score: exact numbers, whose sum is the score."""
        places, p = self.places(keys), self.postings
        found = np.zeros(len(keys))
        for i, place in enumerate(places.tolist()):
            if place < 0:
                continue
            entries = slice(p["entry_pointers"][place], p["entry_pointers"][place + 1])
            blocks = p["entry_blocks"][entries]
            entry = int(np.searchsorted(blocks, document // BLOCK))
            if entry == len(blocks) or blocks[entry] != document // BLOCK:
                continue
            counts = p["entry_counts"][entries][: entry + 1].astype(np.int64) + 1
            start = p["pointers"][place] + counts[:-1].sum()
            own = np.flatnonzero(p["offsets"][start : start + counts[-1]] == document % BLOCK)
            if len(own):
                whole = fixed(weights[i : i + 1], p["exponents"][place : place + 1])[0]
                found[i] = int(whole) * int(p["impacts"][start + own[0]]) / 2**FIXED
        return found

    def vectors(self) -> tuple[scipy.sparse.csr_array, NDArray[np.uint64]]:
        """The documents' vectors as they are stored (N, D), and the dimensions' keys."""
        p = self.postings
        documents = kernels.posting_documents(p["entry_pointers"], p["entry_blocks"], p["entry_counts"], p["offsets"])
        worth = np.repeat(np.exp2(p["exponents"].astype(np.float32)), np.diff(p["pointers"]))
        shape = (self.count, len(p["keys"]))
        by_dimension = scipy.sparse.csc_array((p["impacts"] * worth, documents, p["pointers"]), shape=shape)
        return scipy.sparse.csr_array(by_dimension), np.array(p["keys"])

    def postings_of(self, key: np.uint64) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The documents that have a dimension, ascending, deleted ones among them, and their values."""
        (place,), p = self.places(np.array([key])).tolist(), self.postings
        if place < 0:
            return NONE, np.zeros(0, np.float32)
        entries, own = (slice(*p[name][place : place + 2]) for name in ("entry_pointers", "pointers"))
        blocks = np.repeat(p["entry_blocks"][entries].astype(np.int64), p["entry_counts"][entries].astype(np.int64) + 1)
        values = np.ldexp(p["impacts"][own].astype(np.float32), int(p["exponents"][place]))
        return blocks * BLOCK + p["offsets"][own], values

    def id(self, document: int) -> str:
        """A document's id."""
        start, end = self.stored["id_pointers"][document : document + 2]
        return self.stored["ids"][start:end].tobytes().decode("utf-8", "surrogatepass")

    def find(self, name: str) -> int:
        """The number of the document with that id that is not deleted, −1 where there is none."""
        hashes = self.stored["id_hashes"]
        value = hashed([name])[0]
        place = int(np.searchsorted(hashes, value))
        while place < len(hashes) and hashes[place] == value:
            document = int(self.stored["id_order"][place])
            if not self.gone[document] and self.id(document) == name:
                return document
            place += 1
        return -1

    def fields(self, documents: Sequence[int]) -> list[dict[str, Any]]:
        """The stored fields of documents."""
        chunks: dict[int, list[dict[str, Any]]] = {}
        for chunk in {document // CHUNK for document in documents}:
            start, end = self.stored["chunk_pointers"][chunk : chunk + 2]
            content = zlib.decompress(self.stored["chunks"][start:end].tobytes())
            chunks[chunk] = json.loads(content.decode("utf-8", "surrogatepass"))
        return [chunks[document // CHUNK][document % CHUNK] for document in documents]


NONE = np.zeros(0, np.int64)
POSTINGS = (
    "keys", "pointers", "exponents", "entry_pointers", "entry_blocks", "entry_largest", "entry_counts", "offsets",
    "impacts",
)  # fmt: skip


def fixed(weights: NDArray[np.float64], exponents: NDArray[np.int8]) -> NDArray[np.int64]:
    """A query's weights as whole numbers, of which each dimension's impacts are worth 2^exponent."""
    return np.rint(np.ldexp(np.asarray(weights, np.float64), exponents.astype(np.int64) + FIXED)).astype(np.int64)


def invert(vectors: scipy.sparse.csr_array, keys: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """The postings of documents' vectors (N, D), whose columns have these keys; values are kept to 7 to 8 bits.

    Each dimension's largest value is worth 128 to 255; a value above 0 is worth 1 at least.
    """
    if not np.isfinite(vectors.data).all() or (vectors.data < 0).any():
        raise InputError("a document's vector holds a negative, infinite or undefined value; index values from 0 up.")
    used = np.flatnonzero(np.bincount(vectors.indices[vectors.data > 0], minlength=len(keys)))
    used = used[np.argsort(keys[used], kind="stable")]
    by_dimension = scipy.sparse.csc_array(vectors[:, used])
    by_dimension.eliminate_zeros()
    by_dimension.sort_indices()
    pointers = by_dimension.indptr.astype(np.int64)
    peaks = np.maximum.reduceat(by_dimension.data, pointers[:-1]) if len(used) else np.zeros(0)
    exponents = np.clip(np.ceil(np.log2(peaks / 255)), -100, 100).astype(np.int8)
    scaled = np.ldexp(by_dimension.data, -np.repeat(exponents.astype(np.int32), np.diff(pointers)))
    impacts = np.clip(np.rint(scaled), 1, 255).astype(np.uint8)
    documents = by_dimension.indices.astype(np.int32)
    blocks, largest, counts, starts = kernels.build_entries(pointers, documents, impacts)
    return {
        "keys": keys[used], "pointers": pointers, "exponents": exponents, "entry_pointers": starts,
        "entry_blocks": blocks, "entry_largest": largest, "entry_counts": counts,
        "offsets": (documents % BLOCK).astype(np.uint8), "impacts": impacts,
    }  # fmt: skip


def store(
    ids: Sequence[str], fields: Sequence[Mapping[str, Any]], vectors: NDArray[np.int8] | None = None
) -> dict[str, NDArray[Any]]:
    """Ids, found again by their hash, stored fields, and vectors (N, D) where there are some, as arrays."""
    names = [name.encode("utf-8", "surrogatepass") for name in ids]
    hashes = hashed(ids)
    order = np.argsort(hashes, kind="stable")
    chunks = [
        zlib.compress(json.dumps(fields[start : start + CHUNK], ensure_ascii=False).encode("utf-8", "surrogatepass"), 1)
        for start in range(0, len(fields), CHUNK)
    ]
    return {
        "ids": np.frombuffer(b"".join(names), np.uint8),
        "id_pointers": np.cumsum([0, *map(len, names)]).astype(np.int64),
        "id_hashes": hashes[order],
        "id_order": order.astype(np.uint32),
        "chunks": np.frombuffer(b"".join(chunks), np.uint8),
        "chunk_pointers": np.cumsum([0, *map(len, chunks)]).astype(np.int64),
        **({} if vectors is None else {"vectors": vectors, "worth": dense.worth(vectors)}),
    }
