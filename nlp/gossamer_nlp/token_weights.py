"""What each term of a document counts by its context: a small head on the token vectors of a given encoder."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gossamer_nlp.bags import Bags, Batch, Fields, Vocabulary
from gossamer_nlp.index.dense import MINILM, PEAK, Dense, quantised
from gossamer_nlp.text import Analyzer

if TYPE_CHECKING:
    from gossamer_nlp.config import Config

INNER = 64
KEPT = 256  # texts whose vectors are in one file of the cache
Entries = tuple[Tensor, Tensor, Tensor]


class Reweighing(nn.Module):
    """m_t = 2 σ(w · gelu(W h_t + c) + a), by which a document's weight of its term t is multiplied; 1 at the start.

    h_t is the mean of the encoder's contextual vectors of the tokens that t's occurrences among the first `longest`
    tokens are made of; a term beyond them keeps its weight. (Dai & Callan 2020, DeepCT, whose weights are regressed on
    what queries ask for; here, as in uniCOIL, Lin & Ma 2021, they learn by telling right documents from others.)

    encoder, sha256: the encoder's name and that of its weights.
    """

    kind = "token-weights"

    def __init__(self, dimensions: int, longest: int, encoder: str, sha256: str) -> None:
        super().__init__()
        self.settings = {"dimensions": dimensions, "longest": longest, "encoder": encoder, "sha256": sha256}
        self.longest = longest
        self.dense = Dense(encoder, sha256, dimensions)
        self.head = nn.Sequential(nn.Linear(dimensions, INNER), nn.GELU(), nn.Linear(INNER, 1))

    @classmethod
    def start(cls, config: "Config") -> "Reweighing":
        """A head that leaves each weight as it is, over the encoder of the extra `encoder`."""
        dense = Dense.of(MINILM)
        network = cls(dense.dimensions, config.longest, dense.name, dense.sha256)
        network.dense = dense
        generator = torch.Generator().manual_seed(config.seed)
        with torch.no_grad():
            for part in (network.head[0], network.head[2]):
                assert isinstance(part, nn.Linear)
                part.weight.normal_(0, dense.dimensions**-0.5, generator=generator)
                part.bias.zero_()
            network.head[2].weight.zero_()  # pyright: ignore[reportCallIssue]
        return network

    def read(self, texts: Sequence[Fields], counted: Bags, analyzer: Analyzer, vocabulary: Vocabulary) -> Bags:
        """The bags of texts with the vector of each pair of text and term (P, D), zeros where there is none.

        Vectors are kept in the cache as they are made, in 8 bits: 384 bytes for each pair.
        """
        from gossamer_nlp.encoder import remembered

        found = [np.zeros((0, self.dense.dimensions), np.int8)]
        for start in range(0, len(texts), KEPT):
            own = ["\n".join(field for field in text if field) for text in texts[start : start + KEPT]]
            pointers = counted.pointers[start : start + len(own) + 1]
            terms = counted.terms[pointers[0] : pointers[-1]]
            head = [self.kind, self.dense.sha256, str(self.longest), analyzer.language]
            content = "\x1e".join([*head, *own]).encode("utf-8", "surrogatepass") + terms.tobytes()

            def make(own=own, pointers=pointers, terms=terms) -> NDArray[np.int8]:
                return self._vectors(own, pointers - pointers[0], terms, analyzer, vocabulary)

            found.append(remembered(content, make).reshape(len(terms), self.dense.dimensions))
        return replace(counted, vectors=np.concatenate(found))

    def _vectors(
        self,
        texts: Sequence[str],
        pointers: NDArray[np.int64],
        terms: NDArray[np.int64],
        analyzer: Analyzer,
        vocabulary: Vocabulary,
    ) -> NDArray[np.int8]:
        """The vector of each pair of text and term (P, D)."""
        sums = np.zeros((len(terms), self.dense.dimensions), np.float32)
        for row, places, hidden in self.dense.tokens(texts, self.longest):
            end = int(places.max(initial=0))
            spans = list(itertools.takewhile(lambda span: span[0] < end, analyzer.spans(texts[row])))  # noqa: B023
            starts = np.array([start for start, _, _ in spans], np.int64)
            real = np.flatnonzero(places[:, 1] > places[:, 0])
            owners = np.searchsorted(starts, places[real, 0], "right") - 1
            real, owners = real[owners >= 0], owners[owners >= 0]
            words = np.zeros((len(spans), hidden.shape[1]), np.float32)
            np.add.at(words, owners, hidden[real])
            words /= np.maximum(np.bincount(owners, minlength=len(spans)), 1)[:, None]
            pairs = [(vocabulary.get(t, -1), i) for i, (_, _, own) in enumerate(spans) for t in own]
            numbers, sources = np.array(pairs, np.int64).reshape(-1, 2).T
            first, last = pointers[row : row + 2]
            columns = first + np.searchsorted(terms[first:last], numbers)
            known = (
                (columns < last) & (terms[np.minimum(columns, max(last - 1, 0))] == numbers) if last else columns < 0
            )
            np.add.at(sums, columns[known], words[sources[known]])
        return quantised(sums, PEAK).astype(np.int8)

    def forward(self, vectors: Tensor) -> Tensor:
        """Term vectors (P, D) as 8-bit numbers to factors in (0, 2) (P,); 1 for a vector of zeros."""
        factors = 2 * torch.sigmoid(self.head(vectors.float() / PEAK)[:, 0])
        return torch.where(vectors.any(1), factors, torch.ones_like(factors))

    def entries(self, weights: Tensor, batch: Batch) -> Entries:
        """The weights, terms and rows of documents' non-zeros."""
        assert batch.vectors is not None
        return weights * self(batch.vectors), batch.terms, batch.rows

    @torch.no_grad()
    def context(self, counted: Bags, terms: int) -> scipy.sparse.csr_array:
        """The factors of texts that have been read, by pair (N, terms)."""
        assert counted.vectors is not None
        parts = [self(part).numpy() for part in torch.from_numpy(counted.vectors).split(2**14)]
        data = np.concatenate([np.zeros(0, np.float32), *parts])
        return scipy.sparse.csr_array((data, counted.terms, counted.pointers), (len(counted), terms))

    def applied(self, words: scipy.sparse.csr_array, context: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
        """The vectors of words, each number times its factor; both have the same places (N, terms)."""
        words.data *= context.data
        return words
