"""Codes of patches of log-mel frames: one module each, from (n, inputs) to (n, codes), none of them below zero.

Those that have weights alone are `nn.Sequential(nn.Linear, activation)`, so that their costs are counted alike.
"""

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.nn import SparseAutoencoder, pursue
from gossamer_speech.features import cepstra, deltas
from gossamer_speech.patches import HOP, STRIDE


class CReLU(nn.Module):
    """[max(x, 0), max(−x, 0)], (…, n) → (…, 2n): both signs of a feature (Shang et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """The positive parts, then the negative ones."""
        return torch.cat([x.relu(), (-x).relu()], dim=-1)


class Levels(nn.Module):
    """⌈z / s⌉ s with s = peak / (levels − 1): each code rounded up to one of so many levels, (…, n) → (…, n)."""

    def __init__(self, peak: Tensor, levels: int) -> None:
        super().__init__()
        self.peak, self.levels = nn.Parameter(peak, requires_grad=False), levels

    def forward(self, z: Tensor) -> Tensor:
        """The rounded codes."""
        step = self.peak.clamp_min(1e-9) / (self.levels - 1)
        return (z / step).ceil().clamp_max(self.levels - 1) * step


class Triangle(nn.Module):
    """max(0, μ(z) − z_j), z_j = ‖x − c_j‖ and μ their mean over j: the soft k-means code of Coates & Ng (2011)."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.centres = nn.Parameter(centres, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) → (…, centres)."""
        squares = x.square().sum(-1, keepdim=True) - 2 * x @ self.centres.T + self.centres.square().sum(1)
        distances = squares.clamp_min(0).sqrt()
        return (distances.mean(-1, keepdim=True) - distances).relu()


class Pursuit(nn.Module):
    """[max(z, 0), max(−z, 0)], z the k atoms that orthogonal matching pursuit takes one by one (Pati et al. 1993)."""

    def __init__(self, atoms: Tensor, mean: Tensor, k: int) -> None:
        super().__init__()
        self.atoms, self.mean = nn.Parameter(atoms, requires_grad=False), nn.Parameter(mean, requires_grad=False)
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) → (n, 2 · atoms)."""
        z = pursue(x - self.mean, self.atoms, self.k)
        return torch.cat([z.relu(), (-z).relu()], dim=-1)


class Factors(nn.Module):
    """z ≥ 0 with max(x − least, 0) ≈ z H, by a few multiplicative updates (Lee & Seung 2001)."""

    def __init__(self, factors: Tensor, least: Tensor, updates: int = 20) -> None:
        super().__init__()
        self.factors, self.least = nn.Parameter(factors, requires_grad=False), nn.Parameter(least, requires_grad=False)
        self.updates = updates

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) → (n, factors)."""
        x = (x - self.least).relu()
        aim, gram = x @ self.factors.T, self.factors @ self.factors.T
        z = torch.full_like(aim, 1.0) * (x.mean() / len(self.factors) / self.factors.mean())
        for _ in range(self.updates):
            z = z * aim / (z @ gram + 1e-9)
        return z


class Stacked(nn.Module):
    """Codes of codes: `first` codes the three by three windows (width, bands) of a patch, `second` the roots of these.

    Patches (n, (width + 2 STRIDE) · (bands + 2 HOP)) → (n, codes).
    """

    def __init__(self, first: nn.Module, second: nn.Module, width: int, bands: int) -> None:
        super().__init__()
        self.first, self.second, self.width, self.bands = first, second, width, bands

    def windows(self, x: Tensor) -> Tensor:
        """The windows (n, 3, 3, width · bands) of patches."""
        patches = x.unflatten(1, (self.width + 2 * STRIDE, self.bands + 2 * HOP))
        return patches.unfold(1, self.width, STRIDE).unfold(2, self.bands, HOP).flatten(3)

    def inner(self, x: Tensor) -> Tensor:
        """The roots of the first codes of patches, (n, 9 · codes)."""
        return self.first(self.windows(x).flatten(0, 2)).sqrt().unflatten(0, (-1, 9)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """The second codes."""
        return self.second(self.inner(x))


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer that holds these weights (out, in)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def log_mel() -> nn.Sequential:
    """The frames themselves."""
    return nn.Sequential(nn.Identity(), CReLU())


def mfcc(width: int, mels: int) -> nn.Sequential:
    """All cepstral coefficients of each of `width` frames (Davis & Mermelstein 1980)."""
    cosines = torch.from_numpy(cepstra(np.eye(mels), mels).T)
    return nn.Sequential(linear(torch.block_diag(*[cosines] * width)), CReLU())


def mfcc_13(mels: int) -> nn.Sequential:
    """The first 13 cepstral coefficients of the middle of nine frames, with their slopes and the slopes of these."""
    frames = np.eye(9 * mels).reshape(9 * mels, 9, mels)
    static = cepstra(frames, 13)
    slopes = deltas(static)
    columns = np.concatenate([static[:, 4], slopes[:, 4], deltas(slopes)[:, 4]], axis=1)
    return nn.Sequential(linear(torch.from_numpy(columns.T.astype(np.float32))), CReLU())


def pca(patches: Tensor, count: int) -> nn.Sequential:
    """The patches' first `count` principal components."""
    mean = patches.mean(0)
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    _, vectors = torch.linalg.eigh(covariance.double())
    directions = vectors.flip(1)[:, :count].T.float()
    return nn.Sequential(linear(directions, -directions @ mean), CReLU())


def random(inputs: int, count: int, activation: nn.Module, generator: torch.Generator) -> nn.Sequential:
    """activation(Wx) with W drawn from N(0, 1 / inputs) and never trained (Rahimi & Recht 2008)."""
    return nn.Sequential(linear(torch.randn(count, inputs, generator=generator) / inputs**0.5), activation)


def k_means(patches: Tensor, count: int, generator: torch.Generator, rounds: int = 15) -> Triangle:
    """Soft distances to `count` centres, found by Lloyd's rounds; a centre without patches stays where it is."""
    centres = patches[torch.randperm(len(patches), generator=generator)[:count]].clone()
    for _ in range(rounds):
        nearest = (centres.square().sum(1) - 2 * patches @ centres.T).argmin(1)
        sizes = torch.bincount(nearest, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, patches)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return Triangle(centres)


def nmf(patches: Tensor, count: int, generator: torch.Generator, rounds: int = 60) -> Factors:
    """Non-negative factors of at most 20,000 patches, each band from its least value on, by multiplicative updates."""
    least = patches.amin(0)
    x = patches[:20_000] - least
    z, factors = (torch.rand(*shape, generator=generator) + 0.1 for shape in ((len(x), count), (count, x.shape[1])))
    for _ in range(rounds):
        z = z * (x @ factors.T) / (z @ (factors @ factors.T) + 1e-9)
        factors = factors * (z.T @ x) / (z.T @ z @ factors + 1e-9)
    return Factors(factors / factors.norm(dim=1, keepdim=True).clamp_min(1e-9), least)


def pursuit(patches: Tensor, count: int, k: int, seed: int) -> Pursuit:
    """A dictionary learned online (Mairal et al. 2009), its codes by orthogonal matching pursuit."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    mean = patches.mean(0)
    model = MiniBatchDictionaryLearning(
        count, batch_size=256, max_iter=2, random_state=seed, fit_algorithm="lars", transform_algorithm="omp"
    ).fit((patches[:20_000] - mean).numpy())
    return Pursuit(torch.from_numpy(np.asarray(model.components_, np.float32)), mean, k)


@torch.no_grad()
def quantised(encoder: nn.Module, patches: Tensor, levels: int) -> nn.Sequential:
    """The encoder, its codes rounded to levels up to the highest of some patches."""
    modules = encoder.children() if isinstance(encoder, nn.Sequential) else [encoder]
    return nn.Sequential(*modules, Levels(encoder(patches[:20_000]).amax(0), levels)).eval()


def learned(autoencoder: SparseAutoencoder) -> nn.Sequential:
    """The autoencoder's encoder alone, σ(Wx + (c − Wb)): its decoder and b are not needed any more."""
    weight = autoencoder.encoder.weight
    bias = autoencoder.encoder.bias - weight @ autoencoder.decoder.bias
    return nn.Sequential(linear(weight, bias), autoencoder.activation.requires_grad_(False)).eval()
