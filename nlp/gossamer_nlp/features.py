"""Texts as numbers: a vocabulary, and term frequencies by field that become batches for the models."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer_nlp.data import Collection, Query


class Batch(NamedTuple):
    """Some texts as bags of terms, ready for a model; P pairs of text and term, E entries of pair and field.

    terms and rows (P,): the term and the text of each pair, text by text; pairs, fields and frequencies (E,): how often
    the pair's term stands in that field; lengths (B, F): the number of all terms of each field.
    """

    terms: Tensor
    rows: Tensor
    pairs: Tensor
    fields: Tensor
    frequencies: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Bags:
    """Many texts as bags of terms: `pointers` (N + 1,) into terms (P,), `entry_pointers` (P + 1,) into fields (E,)."""

    pointers: NDArray[np.int64]
    terms: NDArray[np.int64]
    entry_pointers: NDArray[np.int64]
    fields: NDArray[np.int64]
    frequencies: NDArray[np.float32]
    lengths: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, rows: slice) -> "Bags":
        """The texts of a range."""
        first, last, _ = rows.indices(len(self))
        pairs = slice(self.pointers[first], self.pointers[last])
        entries = slice(self.entry_pointers[pairs.start], self.entry_pointers[pairs.stop])
        return Bags(
            self.pointers[first : last + 1] - pairs.start,
            self.terms[pairs],
            self.entry_pointers[pairs.start : pairs.stop + 1] - entries.start,
            self.fields[entries],
            self.frequencies[entries],
            self.lengths[first:last],
        )

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The texts numbered `rows`, in that order."""
        pairs, texts = ranges(self.pointers, rows)
        entries, owners = ranges(self.entry_pointers, pairs)
        return Batch(
            torch.from_numpy(self.terms[pairs]),
            torch.from_numpy(texts),
            torch.from_numpy(owners),
            torch.from_numpy(self.fields[entries]),
            torch.from_numpy(self.frequencies[entries]),
            torch.from_numpy(self.lengths[rows]),
        )


def ranges(pointers: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All indices in [pointers[r], pointers[r + 1]) for each r of rows, and the position in rows that each is from."""
    counts = pointers[rows + 1] - pointers[rows]
    starts = np.cumsum(counts) - counts
    owners = np.repeat(np.arange(len(rows)), counts)
    return np.arange(len(owners)) + (pointers[rows] - starts)[owners], owners


@dataclass(frozen=True)
class Features:
    """A collection as numbers: the vocabulary, the documents, and each split's queries with their judgements."""

    vocabulary: dict[str, int]
    idf: Tensor
    documents: Bags
    queries: dict[str, Bags]
    relevant: dict[str, list[dict[int, float]]]


def features(collection: Collection) -> Features:
    """The features of a collection; the terms known are those of its documents.

    idf(t) = ln(1 + (N − n + ½) / (n + ½)), where n of N documents hold t (Robertson & Spärck Jones 1976, as in Lucene).
    """
    held = Counter(term for document in collection.documents for term in set().union(*document))
    vocabulary = {term: i for i, term in enumerate(sorted(held))}
    n = torch.tensor([held[term] for term in vocabulary], dtype=torch.float64)
    idf = torch.log1p((len(collection.documents) - n + 0.5) / (n + 0.5)).float()
    return Features(
        vocabulary,
        idf,
        bags(collection.documents, vocabulary),
        {split: queries_bags(judged, vocabulary) for split, judged in collection.queries.items()},
        {split: [relevant for _, relevant in judged] for split, judged in collection.queries.items()},
    )


def queries_bags(judged: Sequence[Query], vocabulary: dict[str, int]) -> Bags:
    """Queries as bags of one field."""
    return bags([(terms,) for terms, _ in judged], vocabulary)


def bags(texts: Sequence[Sequence[Sequence[str]]], vocabulary: dict[str, int]) -> Bags:
    """Texts, each a sequence of fields of terms, as bags; unknown terms count in the lengths alone."""
    pointers, terms, entry_pointers, fields, frequencies = [0], [], [0], [], []
    for text in texts:
        counts: dict[int, list[tuple[int, int]]] = {}
        for field, own in enumerate(text):
            for term, count in Counter(own).items():
                if term in vocabulary:
                    counts.setdefault(vocabulary[term], []).append((field, count))
        for term in sorted(counts):
            terms.append(term)
            fields += [field for field, _ in counts[term]]
            frequencies += [count for _, count in counts[term]]
            entry_pointers.append(len(fields))
        pointers.append(len(terms))
    return Bags(
        np.array(pointers),
        np.array(terms, np.int64),
        np.array(entry_pointers),
        np.array(fields, np.int64),
        np.array(frequencies, np.float32),
        np.array([[len(own) for own in text] for text in texts], np.float32),
    )
