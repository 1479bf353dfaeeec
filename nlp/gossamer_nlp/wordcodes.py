"""Dense word vectors as sparse ones: few positive dimensions of many, each with a meaning."""

import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import one_of
from gossamer.nn import SparseAutoencoder, TopK

Method = Literal["topk", "spine", "coding", "frame"]
METHODS = ("topk", "spine", "coding", "frame")
BATCH = 2048
DEAD = 1000  # words in a row that leave a code unused, from which on it counts as dead


def codes(
    dense: NDArray[np.float32],
    dimensions: int,
    active: int,
    method: Method = "topk",
    epochs: int = 60,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Sparse codes (words, dimensions) of dense vectors, non-negative, at most `active` of a word's above 0.

    topk: the core's autoencoder, the k largest codes and AuxK (Makhzani & Frey 2014; Gao et al. 2024). spine: a
    denoising autoencoder with codes in [0, 1], average and partial sparsity penalties (Subramanian et al. 2018), then
    the largest `active`. coding: dictionary learning, min ½‖x − Dz‖² + λ‖z‖₁ with z ≥ 0 (Faruqui et al. 2015; Mairal et
    al. 2009), then likewise. frame: max(0, Ax), A of random orthogonal matrices, then likewise; it keeps the order of
    cosines, for E[max(0, a·x) max(0, a·y)] grows with that of x and y (Cho & Saul 2009; Dasgupta et al. 2017 keep the
    largest too), and its dimensions mean nothing.
    """
    one_of(METHODS, method=method)
    if method == "coding":
        found = _dictionary(dense, dimensions, active, seed)
    elif method == "frame":
        found = np.maximum(dense @ _frame(dense.shape[1], dimensions, seed).T, 0)
    else:
        train = _topk if method == "topk" else _spine
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = train(torch.from_numpy(dense), dimensions, active, epochs)
    return kept(found, active)


def kept(values: NDArray[np.float32], active: int) -> NDArray[np.float32]:
    """The `active` largest positive numbers of each row, zeros else."""
    if active >= values.shape[1]:
        return np.maximum(values, 0)
    least = np.partition(values, -active, axis=1)[:, -active, None]
    return np.where((values >= least) & (values > 0), values, 0).astype(np.float32)


def _batches(x: Tensor, epochs: int):
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), BATCH):
            yield x[order[start : start + BATCH]]


def _topk(x: Tensor, dimensions: int, active: int, epochs: int) -> NDArray[np.float32]:
    model = SparseAutoencoder(x.shape[1], dimensions, TopK(active))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    unused = torch.zeros(dimensions)
    for batch in _batches(x, epochs):
        reconstruction, z = model(batch)
        unused = torch.where((z > 0).any(0), 0, unused + len(batch))
        loss = (batch - reconstruction).square().sum(1).mean()
        loss = loss + model.auxiliary_loss(batch, reconstruction, unused > DEAD, 4 * active) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.normalize()
    return _all(model.encode, x)


def _spine(x: Tensor, dimensions: int, active: int, epochs: int) -> NDArray[np.float32]:
    """loss = ‖x − x̂‖² + Σ_h max(0, mean z_h − ρ)² + mean z (1 − z), with z = clip(Wx + b, 0, 1), ρ = active / codes."""
    encoder, decoder = nn.Linear(x.shape[1], dimensions), nn.Linear(dimensions, x.shape[1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.002)
    share = active / dimensions
    for batch in _batches(x, epochs):
        z = encoder(batch + 0.2 / batch.shape[1] ** 0.5 * torch.randn_like(batch)).clamp(0, 1)
        loss = F.mse_loss(decoder(z), batch, reduction="sum") / len(batch)
        loss = loss + (z.mean(0) - share).clamp_min(0).square().sum() + (z * (1 - z)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _all(lambda part: encoder(part).clamp(0, 1), x)


@torch.no_grad()
def _all(encode, x: Tensor) -> NDArray[np.float32]:
    return torch.cat([encode(part) for part in x.split(BATCH)]).numpy()


def _frame(size: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors (dimensions, size), those of each `size` in a row orthogonal."""
    draw = np.random.default_rng(seed)
    parts = [np.linalg.qr(draw.normal(size=(size, size)))[0] for _ in range(-(-dimensions // size))]
    return np.concatenate(parts)[:dimensions].astype(np.float32)


def _dictionary(dense: NDArray[np.float32], dimensions: int, active: int, seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
    from sklearn.exceptions import ConvergenceWarning

    learner = MiniBatchDictionaryLearning(
        dimensions,
        alpha=0.1,  # pyright: ignore[reportArgumentType]
        max_iter=20,
        batch_size=256,
        positive_code=True,
        fit_algorithm="cd",
        random_state=seed,
    )
    with warnings.catch_warnings():  # a code a hair from its optimum is as good a code
        warnings.simplefilter("ignore", ConvergenceWarning)
        dictionary = learner.fit(dense).components_
        found = sparse_encode(dense, dictionary, algorithm="lasso_cd", alpha=0.05, positive=True, max_iter=200)
    return np.asarray(found, np.float32)
