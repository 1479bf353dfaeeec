"""Embeddings of bags of terms: learned term weights, then a projection into a dense or a sparse space."""

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import InputError
from gossamer.nn import TopK
from gossamer_nlp.bags import Batch
from gossamer_nlp.bm25 import BM25

if TYPE_CHECKING:
    from gossamer_nlp.splade import Expansion
    from gossamer_nlp.token_weights import Reweighing


class TermWeights(nn.Module):
    """What a term counts in a document and in a query; starts as the BM25 given and learns from there.

    document: exp(u_t) · f / (f + k₁ (1 − b + b · l / l̄)), with f = Σ_field exp(a_field) · tf_field, and the length l
    weighted alike; query: idf_t · exp(v_t) · tf. With a = u = v = 0 the dot product of both is BM25 (Robertson &
    Zaragoza 2009); a are the field weights of BM25F (Robertson et al. 2004), u and v learned term weights.

    idf: (V,); mean_lengths: terms of each field in the mean document (F,).
    """

    idf: Tensor
    mean_lengths: Tensor

    def __init__(self, idf: Tensor, mean_lengths: Tensor, start: BM25) -> None:
        super().__init__()
        self.register_buffer("idf", idf)
        self.register_buffer("mean_lengths", mean_lengths)
        b = min(max(start.b, 0.02), 0.98)
        self.document = nn.Parameter(torch.zeros_like(idf))
        self.query = nn.Parameter(torch.zeros_like(idf))
        self.field = nn.Parameter(torch.zeros_like(mean_lengths))
        self.log_k1 = nn.Parameter(torch.tensor(math.log(start.k1)))
        self.logit_b = nn.Parameter(torch.tensor(math.log(b / (1 - b))))

    def documents(self, batch: Batch) -> Tensor:
        """The weight of each pair of document and term (P,)."""
        field, b = self.field.exp(), self.logit_b.sigmoid()
        counts = field.new_zeros(len(batch.terms))
        frequency = counts.index_add(0, batch.pairs, batch.frequencies * field[batch.fields])
        length = (batch.lengths @ field) / (self.mean_lengths @ field).clamp_min(1e-6)
        saturation = frequency / (frequency + (self.log_k1.exp() * (1 - b + b * length))[batch.rows])
        return saturation * self.document.exp()[batch.terms]

    def queries(self, batch: Batch) -> Tensor:
        """The weight of each pair of query and term (P,); queries have one field, so entries are pairs."""
        return batch.frequencies * (self.idf * self.query.exp())[batch.terms]


class DenseProjection(nn.Module):
    """y = Σ_t w_t e_t, with a dense vector e_t of `dimensions` numbers for each term.

    Starts as a random projection, N(0, 1 / dimensions), which keeps dot products but for noise (Johnson &
    Lindenstrauss 1984).
    """

    def __init__(self, terms: int, dimensions: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.vectors = nn.Parameter(torch.randn(terms, dimensions, generator=generator) / dimensions**0.5)

    def forward(self, weights: Tensor, terms: Tensor, rows: Tensor, size: int) -> Tensor:
        """(P,) → (size, dimensions)."""
        offsets = torch.searchsorted(rows, torch.arange(size, device=rows.device))
        return F.embedding_bag(terms, self.vectors, offsets, per_sample_weights=weights, mode="sum")


class SparseProjection(nn.Module):
    """y = Σ_t w_t e_t, with sparse vectors e_t of few non-zeros among many `dimensions`; only these are stored.

    places: the dimensions of each term's non-zeros, distinct in a row; values: what they start as; both (V, fan_out).
    """

    places: Tensor

    def __init__(self, places: Tensor, values: Tensor, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.register_buffer("places", places.to(torch.int32))
        self.values = nn.Parameter(values)
        self.documents_only = False

    @classmethod
    def random(cls, terms: int, dimensions: int, fan_out: int, generator: torch.Generator) -> "SparseProjection":
        """Random places, random positive values, each e_t of unit length (compare Dasgupta et al. 2017)."""
        values = 0.75 + 0.5 * torch.rand(terms, fan_out, generator=generator)
        return cls(draw(terms, dimensions, fan_out, generator), F.normalize(values, dim=1), dimensions)

    @classmethod
    def identity(cls, terms: int) -> "SparseProjection":
        """One dimension a term, e_t = 1 in its own."""
        return cls(torch.arange(terms)[:, None], torch.ones(terms, 1), terms)

    @classmethod
    def related(cls, terms: int, others: Tensor, values: Tensor) -> "SparseProjection":
        """Every term's own dimension, and in documents those of the terms that it is related to, both (V, R)."""
        own = torch.arange(terms)[:, None]
        found = cls(torch.cat([own, others], 1), torch.cat([torch.ones(terms, 1), values], 1), terms)
        found.documents_only = True
        return found

    @property
    def sparsity(self) -> float:
        """The share of the matrix (V, dimensions) that is not stored."""
        return 1 - self.values.shape[1] / self.dimensions

    def matrix(self, queries: bool = False) -> scipy.sparse.csr_array:
        """The matrix of all e_t (V, dimensions), as documents use it, or queries."""
        used = slice(0, 1 if queries and self.documents_only else None)
        terms, fan_out = self.values[:, used].shape
        columns = self.places[:, used].cpu().numpy().ravel()
        values = self.values[:, used].detach().cpu().numpy().ravel()
        pointers = np.arange(0, terms * fan_out + 1, fan_out)
        return scipy.sparse.csr_array((values, columns, pointers), shape=(terms, self.dimensions))

    def forward(self, weights: Tensor, terms: Tensor, rows: Tensor, size: int, queries: int = 0) -> Tensor:
        """(P,) → (size, used): the dimensions that a text of this batch uses, in order; all others are zero.

        The first `queries` pairs use their term's first place alone.
        """
        used, columns = self.places[terms].unique(return_inverse=True)
        parts = weights[:, None] * self.values[terms]
        if queries:
            parts = torch.cat([F.pad(parts[:queries, :1], (0, parts.shape[1] - 1)), parts[queries:]])
        flat = weights.new_zeros(size * len(used))
        codes = flat.index_add(0, (rows[:, None] * len(used) + columns).flatten(), parts.flatten())
        return codes.view(size, len(used))


def draw(rows: int, dimensions: int, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` distinct numbers below `dimensions` for each row."""
    if not count <= dimensions:
        raise InputError(f"{count} non-zeros a term were asked of {dimensions} dimensions; raise the sparsity.")
    places = torch.randint(dimensions, (rows, count), generator=generator)
    while (clash := (places[:, :, None] == places[:, None]).sum((1, 2)) > count).any():
        places[clash] = torch.randint(dimensions, (int(clash.sum()), count), generator=generator)
    return places


class Encoder(nn.Module):
    """Term weights, projection, TopK; the score of a query and a document is the dot product of their codes.

    active: how many dimensions of a code may be non-zero, None for all. network: what reads documents besides (see
    `networks`).
    """

    def __init__(
        self,
        weights: TermWeights,
        projection: DenseProjection | SparseProjection,
        active: int | None = None,
        network: "Expansion | Reweighing | None" = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.weights = weights
        self.projection = projection
        self.activation = TopK(active) if active else nn.Identity()
        self.log_scale = nn.Parameter(torch.zeros(()))

    @property
    def flops(self) -> Tensor:
        """Σ_v (mean over the last documents of the network's weight of v)² (Paria et al. 2020); 0 without one."""
        return getattr(self.network, "flops", self.log_scale.new_zeros(()))

    def entries(self, documents: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The weights, terms and rows of documents' words, and of what the network adds to them (E,)."""
        weights = self.weights.documents(documents)
        if self.network is None:
            return weights, documents.terms, documents.rows
        return self.network.entries(weights, documents)

    def forward(self, queries: Batch, documents: Batch) -> Tensor:
        """Logits (queries, documents): the scores, scaled for the softmax of training."""
        first = len(queries.lengths)
        single = {"queries": len(queries.terms)} if getattr(self.projection, "documents_only", False) else {}
        weights, terms, rows = self.entries(documents)
        codes = self.projection(
            torch.cat([self.weights.queries(queries), weights]),
            torch.cat([queries.terms, terms]),
            torch.cat([queries.rows, rows + first]),
            first + len(documents.lengths),
            **single,
        )
        return codes[:first] @ self.activation(codes[first:]).T * self.log_scale.exp()
