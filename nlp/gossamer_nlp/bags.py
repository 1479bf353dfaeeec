"""Texts as numbers: a vocabulary, and term frequencies by field that become batches for the models."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.keys import hashed
from gossamer_nlp.phrases import followed
from gossamer_nlp.text import Analyzer

if TYPE_CHECKING:
    from torch import Tensor

Fields = Sequence[str]  # the texts of a document, field by field


class Batch(NamedTuple):
    """Some texts as bags of terms, ready for a model; P pairs of text and term, E entries of pair and field.

    terms and rows (P,): the term and the text of each pair, text by text; pairs, fields and frequencies (E,): how often
    the pair's term stands in that field; lengths (B, F): the number of all terms of each field. What a network reads
    besides: sequences (B, T), its numbers of the first terms, or vectors (P, D), one of each pair.
    """

    terms: "Tensor"
    rows: "Tensor"
    pairs: "Tensor"
    fields: "Tensor"
    frequencies: "Tensor"
    lengths: "Tensor"
    sequences: "Tensor | None" = None
    vectors: "Tensor | None" = None


@dataclass(frozen=True)
class Bags:
    """Many texts as bags of terms: `pointers` (N + 1,) into terms (P,), `entry_pointers` (P + 1,) into fields (E,).

    phrases: the same texts as bags of phrases (see `phrases`), whose lengths are those of the words. sequences and
    vectors: as `Batch` has them, of all texts; context: what a network has made of them (N, terms).
    """

    pointers: NDArray[np.int64]
    terms: NDArray[np.int64]
    entry_pointers: NDArray[np.int64]
    fields: NDArray[np.int64]
    frequencies: NDArray[np.float32]
    lengths: NDArray[np.float32]
    phrases: "Bags | None" = None
    sequences: NDArray[np.int32] | None = None
    vectors: NDArray[np.int8] | None = None
    context: scipy.sparse.csr_array | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The texts numbered `rows`, in that order."""
        import torch

        pairs, texts = ranges(self.pointers, rows)
        entries, owners = ranges(self.entry_pointers, pairs)
        return Batch(
            torch.from_numpy(self.terms[pairs]),
            torch.from_numpy(texts),
            torch.from_numpy(owners),
            torch.from_numpy(self.fields[entries]),
            torch.from_numpy(self.frequencies[entries]),
            torch.from_numpy(self.lengths[rows]),
            None if self.sequences is None else torch.from_numpy(self.sequences[rows]),
            None if self.vectors is None else torch.from_numpy(self.vectors[pairs]),
        )

    def counts(self, terms: int) -> scipy.sparse.csr_array:
        """How often each of the first `terms` terms stands in each text, all fields together (N, terms)."""
        sums = np.add.reduceat(self.frequencies, self.entry_pointers[:-1]) if len(self.terms) else self.frequencies
        return scipy.sparse.csr_array((sums, self.terms, self.pointers), shape=(len(self), terms))


def ranges(pointers: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All indices in [pointers[r], pointers[r + 1]) for each r of rows, and the position in rows that each is from."""
    counts = pointers[rows + 1] - pointers[rows]
    starts = np.cumsum(counts) - counts
    owners = np.repeat(np.arange(len(rows)), counts)
    return np.arange(len(owners)) + (pointers[rows] - starts)[owners], owners


class Vocabulary(dict[str, int]):
    """Terms by number, 0, 1, 2, …; `bags(…, grow=True)` gives new terms the next numbers."""

    _hashed: NDArray[np.uint64] = np.zeros(0, np.uint64)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The key of each term, by its number."""
        if len(self._hashed) < len(self):
            new = list(itertools.islice(self, len(self._hashed), None))
            self._hashed = np.concatenate([self._hashed, hashed(new)])
        return self._hashed

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


def bags(
    texts: Iterable[Fields],
    analyzer: Analyzer,
    vocabulary: Vocabulary,
    fields: int,
    grow: bool = False,
    phrases: bool = False,
) -> Bags:
    """Texts of `fields` fields each as bags of terms; terms that the vocabulary lacks count in the lengths alone.

    With `grow`, the vocabulary learns them instead; with `phrases`, the phrases within a field are gathered too.
    """
    numbers: list[int] = []
    lengths: list[int] = []
    find = vocabulary.__getitem__ if grow else lambda term: vocabulary.get(term, -1)
    for text in texts:
        for own in text:
            terms = analyzer.terms(own)
            numbers += map(find, terms)
            lengths.append(len(terms))
    stream, sizes = np.array(numbers, np.int64), np.array(lengths, np.int64).reshape(-1, fields)
    found = gathered(stream, sizes)
    if not phrases:
        return found
    return replace(found, phrases=gathered(followed(stream, sizes, vocabulary.hashes), sizes))


def gathered(numbers: NDArray[np.int64], lengths: NDArray[np.int64]) -> Bags:
    """The bags of a stream of term numbers, cut into texts and fields by `lengths` (N, F); −1 is no known term."""
    count, fields = lengths.shape
    places = np.repeat(np.arange(count * fields), lengths.ravel())
    places, numbers = places[numbers >= 0], numbers[numbers >= 0]
    order = np.lexsort((places % fields, numbers, places // fields))
    rows, columns, terms = places[order] // fields, places[order] % fields, numbers[order]
    if not len(terms):
        none = np.zeros(0, np.int64)
        empty = np.zeros(count + 1, np.int64)
        return Bags(empty, none, np.zeros(1, np.int64), none, none.astype(np.float32), lengths.astype(np.float32))
    new_pair = np.r_[True, (np.diff(rows) != 0) | (np.diff(terms) != 0)]
    starts = np.flatnonzero(new_pair | np.r_[True, np.diff(columns) != 0])
    frequencies = np.diff(np.r_[starts, len(terms)]).astype(np.float32)
    firsts = np.flatnonzero(new_pair)
    return Bags(
        np.r_[0, np.cumsum(np.bincount(rows[firsts], minlength=count))],
        terms[firsts],
        np.r_[np.searchsorted(starts, firsts), len(starts)],
        columns[starts],
        frequencies,
        lengths.astype(np.float32),
    )


def joined(parts: Sequence[Bags]) -> Bags:
    """Bags one after the other."""
    if len(parts) == 1:
        return parts[0]
    pairs = np.cumsum([0, *(len(part.terms) for part in parts)])
    entries = np.cumsum([0, *(len(part.fields) for part in parts)])
    return Bags(
        np.concatenate([[0], *(part.pointers[1:] + start for part, start in zip(parts, pairs[:-1], strict=True))]),
        np.concatenate([part.terms for part in parts]),
        np.concatenate(
            [[0], *(part.entry_pointers[1:] + start for part, start in zip(parts, entries[:-1], strict=True))]
        ),
        np.concatenate([part.fields for part in parts]),
        np.concatenate([part.frequencies for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        joined(within) if len(within := [part.phrases for part in parts if part.phrases]) == len(parts) else None,
        context=stacked([part.context for part in parts if part.context is not None]),
    )


def stacked(parts: Sequence[scipy.sparse.csr_array]) -> scipy.sparse.csr_array | None:
    """Matrices one below the other, of the widest's width; None where there are none."""
    if not parts:
        return None
    shapes = [cast(tuple[int, int], part.shape) for part in parts]
    width = max(columns for _, columns in shapes)
    same = [
        scipy.sparse.csr_array((part.data, part.indices, part.indptr), (rows, width))
        for part, (rows, _) in zip(parts, shapes, strict=True)
    ]
    return scipy.sparse.csr_array(scipy.sparse.vstack(same, format="csr"))
