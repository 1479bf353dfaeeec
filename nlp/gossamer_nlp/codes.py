"""Dense vectors as sparse codes that keep who is near whom: contrastive sparse representation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gossamer import InputError
from gossamer.errors import at_least
from gossamer.files import about as described
from gossamer.files import load as load_weights
from gossamer.files import save as save_weights
from gossamer.nn import SparseAutoencoder, TopK

BATCH = 512
DEAD = 5000  # vectors in a row that leave a code unused, from which on it counts as dead

Dense = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass
class SparseCodes:
    """z = TopK(ReLU(W_e (x − b) + c)) of dense vectors x, trained so that z rebuilds x and tells it from others.

    loss = ‖x − x̂‖² / ‖x‖² + ⅟₃₂ AuxK + γ · contrast, where contrast = −log softmax_j(⟨z_i, z'_j⟩ / τ) at j = i, over
    the other vectors of the batch (Wen et al. 2025, "Beyond Matryoshka", CSR), z' being the codes of the partners where
    there are some (such as queries and the documents that answer them), else the codes themselves.

    encoder: what makes vectors of texts, for `encode_document` and `encode_query`; not needed for `transform`.
    """

    dimensions: int = 2048
    active: int = 32
    epochs: int = 30
    gamma: float = 0.1
    learning_rate: float = 1e-3
    seed: int = 0
    encoder: Dense | None = None

    def __post_init__(self) -> None:
        at_least(1, dimensions=self.dimensions, active=self.active)
        at_least(0, epochs=self.epochs, gamma=self.gamma)
        self.model: SparseAutoencoder | None = None

    def fit(self, vectors: NDArray[np.float32], partners: NDArray[np.float32] | None = None) -> "SparseCodes":
        """Learn from dense vectors (N, inputs), and from the vectors that should be near them, if given (N, inputs)."""
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise InputError(f"the vectors' shape is {vectors.shape}; give finite numbers of shape (N, inputs).")
        x = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        others = None if partners is None else torch.from_numpy(np.ascontiguousarray(partners, np.float32))
        generator = torch.Generator().manual_seed(self.seed)
        model = SparseAutoencoder(x.shape[1], self.dimensions, TopK(self.active), generator)
        with torch.no_grad():
            model.decoder.bias.copy_(x.mean(0))
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        unused = torch.zeros(self.dimensions)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x), generator=generator).split(BATCH):
                own = x[rows]
                reconstruction, z = model(own)
                unused = torch.where((z > 0).any(0), 0, unused + len(rows))
                loss = (own - reconstruction).square().sum() / own.square().sum()
                loss = loss + model.auxiliary_loss(own, reconstruction, unused > DEAD, 2 * self.active) / 32
                loss = loss + self.gamma * contrast(z, z if others is None else model.encode(others[rows]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                model.normalize()
        self.model = model.eval()
        return self

    @torch.no_grad()
    def transform(self, vectors: NDArray[np.float32]) -> scipy.sparse.csr_array:
        """The codes of dense vectors (N, dimensions), CSR, rows of unit length; `InputError` before `fit`."""
        if self.model is None:
            raise InputError("the codes are not trained yet; call fit(vectors) first.")
        parts = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).split(4096)
        rows = [scipy.sparse.csr_array(F.normalize(self.model.encode(part), dim=1).numpy()) for part in parts]
        return scipy.sparse.csr_array(scipy.sparse.vstack(rows, format="csr"))

    def fit_transform(self, vectors: NDArray[np.float32]) -> scipy.sparse.csr_array:
        """`fit`, then `transform`."""
        return self.fit(vectors).transform(vectors)

    def encode_document(self, documents: Sequence[str]) -> scipy.sparse.csr_array:
        """The codes of documents' texts; queries' are made alike."""
        if self.encoder is None:
            raise InputError("there is no encoder to make vectors of texts; give SparseCodes(encoder=…), or transform.")
        return self.transform(self.encoder(documents))

    encode_query = encode_document

    def save(self, path: Path) -> None:
        """Write the weights and sizes to one file; `SparseCodes.load` reads it."""
        if self.model is None:
            raise InputError("the codes are not trained yet; call fit(vectors) first.")
        sizes = {"inputs": self.model.encoder.in_features, "dimensions": self.dimensions, "active": self.active}
        save_weights(self.model, path, about={"kind": "codes", **sizes})

    @classmethod
    def load(cls, path: Path, encoder: Dense | None = None) -> "SparseCodes":
        """The codes in a file of `save`; `InputError` where it is none."""
        about = described(path)
        if about.get("kind") != "codes":
            raise InputError(f"{path} holds {about.get('kind', 'something else')}; give a file of SparseCodes.save.")
        found = cls(about["dimensions"], about["active"], encoder=encoder)
        found.model = SparseAutoencoder(about["inputs"], about["dimensions"], TopK(about["active"])).eval()
        load_weights(path, found.model)
        return found


def contrast(z: Tensor, partners: Tensor, temperature: float = 0.05) -> Tensor:
    """−log softmax_j(cos(z_i, z'_j) / τ) at j = i, the mean over i."""
    similarity = F.normalize(z, dim=1) @ F.normalize(partners, dim=1).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(z)))
