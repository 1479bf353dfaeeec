"""Dense vectors as few atoms of a learned dictionary, by matching pursuit; queries by inner products with these."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gossamer import InputError
from gossamer.errors import at_least
from gossamer.nn import pursue

BATCH = 512
LEARNED_FROM = 20_000  # vectors, at most


@dataclass
class PursuitCodes:
    """x ≈ b + Σ_a z_a d_a with z ≥ 0 and at most `active` − 1 of it above 0; documents keep z, queries ask ⟨q, d_a⟩.

    The atoms d_a come from the documents, by turns: z by orthogonal matching pursuit (Pati et al. 1993), d by least
    squares (the method of optimal directions, Engan et al. 1999). A query's weights are ⟨q, d_a⟩ + β, with β so large
    that none is negative, and a document's last dimension holds max ‖z‖₁ − ‖z‖₁, which a query weighs by β: so scores
    are those of ⟨q, x̂⟩, but for a constant of the query, and an inverted index of positive numbers ranks by them.
    """

    dimensions: int = 1024
    active: int = 32
    rounds: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(2, dimensions=self.dimensions, active=self.active)
        at_least(1, rounds=self.rounds)
        self.atoms: Tensor | None = None
        self.mean = torch.zeros(0)
        self.largest = 0.0

    def fit(self, vectors: NDArray[np.float32]) -> "PursuitCodes":
        """Learn the dictionary from documents' vectors (N, inputs)."""
        if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
            raise InputError(f"the vectors' shape is {vectors.shape}; give finite numbers of shape (N, inputs), N > 0.")
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        self.mean = x.mean(0)
        x = x[torch.randperm(len(x), generator=generator)[:LEARNED_FROM]] - self.mean
        start = x[torch.randint(len(x), (self.dimensions - 1,), generator=generator)]
        atoms = F.normalize(start + 0.02 * torch.randn(start.shape, generator=generator), dim=1)
        for _ in range(self.rounds):
            z = self._pursued(x, atoms)
            gram = z.T @ z + 0.05 * torch.eye(len(atoms))
            found = torch.linalg.solve(gram, z.T @ x) + 1e-6 * torch.randn(atoms.shape, generator=generator)
            atoms = F.normalize(found, dim=1)
        self.atoms = atoms
        z = self._pursued(x, atoms).sum(1)
        self.largest = float(z.max())
        return self

    def _pursued(self, x: Tensor, atoms: Tensor) -> Tensor:
        """The coefficients of centred vectors (B, inputs), not below zero (B, atoms)."""
        return pursue(x, atoms, min(self.active - 1, *atoms.shape), signed=False)

    def transform(self, vectors: NDArray[np.float32]) -> scipy.sparse.csr_array:
        """The codes of documents' vectors (N, dimensions), CSR; `InputError` before `fit`."""
        atoms = self._fitted()
        rows = [scipy.sparse.csr_array((0, self.dimensions), dtype=np.float32)]
        for part in torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).split(BATCH):
            z = self._pursued(part - self.mean, atoms)
            rest = (self.largest - z.sum(1, keepdim=True)).clamp_min(0)
            rows.append(scipy.sparse.csr_array(torch.cat([z, rest], 1).numpy()))
        return scipy.sparse.csr_array(scipy.sparse.vstack(rows, format="csr"))

    def transform_queries(self, vectors: NDArray[np.float32]) -> scipy.sparse.csr_array:
        """What queries' vectors ask of each dimension (N, dimensions), CSR: nearly all are above 0."""
        products = vectors @ self._fitted().numpy().T
        shift = np.maximum(-products.min(1, keepdims=True), 0) if len(products) else np.zeros((0, 1), np.float32)
        return scipy.sparse.csr_array(np.concatenate([products + shift, shift], 1).astype(np.float32))

    def _fitted(self) -> Tensor:
        if self.atoms is None:
            raise InputError("the dictionary is not learned yet; call fit(vectors) first.")
        return self.atoms


def joined(
    lexical: scipy.sparse.csr_array, codes: scipy.sparse.csr_array, weight: float = 1.0
) -> scipy.sparse.csr_array:
    """Vectors side by side, the codes' times a weight."""
    return scipy.sparse.csr_array(scipy.sparse.hstack([lexical, codes * np.float32(weight)], format="csr"))


def shares(queries: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Each query's weights over their sum, so that queries of any length ask alike; a row of zeros stays."""
    sums = np.maximum(np.asarray(queries.sum(1)).ravel(), 1e-12)
    return scipy.sparse.csr_array(scipy.sparse.diags_array((1 / sums).astype(np.float32)) @ queries)
