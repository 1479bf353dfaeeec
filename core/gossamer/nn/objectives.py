"""What a sparse autoencoder minimises: the squared error, alone or with what makes its codes sparse or ordered.

Each objective is called as `objective(autoencoder, x)`, x (n, inputs), and returns (loss, reconstruction, codes); the
losses are means over rows of sums over inputs or codes, and codes are `gossamer.codes.ops.Codes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.codes.ops import Codes, compress, decode
from gossamer.errors import InputError, of_type, positive, whole
from gossamer.nn.activations import Gated, JumpReLU
from gossamer.nn.autoencoder import SparseAutoencoder, check_rows

Outcome = tuple[Tensor, Tensor, Codes]


def squared(x: Tensor, reconstruction: Tensor) -> Tensor:
    """‖x − x̂‖², the mean over rows."""
    return (x - reconstruction).square().sum(-1).mean()


class Squared:
    """‖x − x̂‖²: for activations that are sparse by themselves (TopK, BatchTopK)."""

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        reconstruction, codes = autoencoder.sparse(x)
        return squared(x, reconstruction), reconstruction, codes


@dataclass(frozen=True)
class L1:
    """‖x − x̂‖² + λ Σ_j |z_j| ‖d_j‖, d_j the atoms (Olshausen & Field 1996; Bricken et al. 2023)."""

    weight: float

    def __post_init__(self) -> None:
        of_type((int, float), "a number", weight=self.weight)
        positive(weight=self.weight)

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        reconstruction, codes = autoencoder.sparse(x)
        lengths = autoencoder.decoder.weight.norm(dim=0)[codes.atoms.long()]
        return (
            squared(x, reconstruction) + self.weight * (codes.values.abs() * lengths).sum() / len(x),
            reconstruction,
            codes,
        )


@dataclass(frozen=True)
class KL:
    """‖x − x̂‖² + λ Σ_j KL(ρ ‖ ρ̂_j), ρ̂_j the mean of code j in the batch (Ng 2011); for `nn.Sigmoid` codes, never 0.

    KL(ρ ‖ ρ̂) = ρ ln(ρ/ρ̂) + (1 − ρ) ln((1 − ρ)/(1 − ρ̂)).
    """

    weight: float
    target: float = 0.05

    def __post_init__(self) -> None:
        of_type((int, float), "a number", weight=self.weight, target=self.target)
        positive(weight=self.weight, target=self.target)
        if not 0 < self.target < 1:
            raise InputError(f"target is {self.target}; it must be in (0, 1).")

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        check_rows(autoencoder.encoder.in_features, x=x)
        reconstruction, z = autoencoder(x)
        mean, target = z.mean(0).clamp(1e-6, 1 - 1e-6), torch.tensor(self.target)
        divergence = target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()
        codes = compress(z, torch.ones_like(z, dtype=torch.bool))
        return squared(x, reconstruction) + self.weight * divergence.sum(), reconstruction, codes


@dataclass(frozen=True)
class L0:
    """‖x − x̂‖² + λ ‖z‖₀ for `JumpReLU`, whose thresholds learn by straight-through gradients (Rajamanoharan 2024b)."""

    weight: float

    def __post_init__(self) -> None:
        of_type((int, float), "a number", weight=self.weight)
        positive(weight=self.weight)

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        if not isinstance(autoencoder.activation, JumpReLU):
            raise InputError(f"the activation is {autoencoder.activation}; L0 is for JumpReLU.")
        reconstruction, codes = autoencoder.sparse(x)
        active = autoencoder.activation.active(autoencoder.encoder(x - autoencoder.decoder.bias))
        return squared(x, reconstruction) + self.weight * active.mean(), reconstruction, codes


@dataclass(frozen=True)
class GatedLoss:
    """‖x − x̂‖² + λ Σ ReLU(π) + ‖x − (W_d ReLU(π) + b)‖², π = W_e(x − b) + c, the decoder fixed in the last term.

    For `Gated` (Rajamanoharan et al. 2024a): the gate learns from the last two terms.
    """

    weight: float

    def __post_init__(self) -> None:
        of_type((int, float), "a number", weight=self.weight)
        positive(weight=self.weight)

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        if not isinstance(autoencoder.activation, Gated):
            raise InputError(f"the activation is {autoencoder.activation}; GatedLoss is for Gated.")
        weight, bias = autoencoder.decoder.weight, autoencoder.decoder.bias
        reconstruction, codes = autoencoder.sparse(x)
        gate = autoencoder.encoder(x - bias).relu()
        open_ = compress(gate, gate.detach() > 0)
        guess = decode(open_, weight.detach().T, bias.detach())
        penalty = self.weight * open_.values.sum() / len(x)
        return squared(x, reconstruction) + penalty + squared(x, guess), reconstruction, codes


@dataclass(frozen=True)
class Matryoshka:
    """Σ_m ‖x − x̂_m‖² / M, x̂_m from the first `prefixes[m]` codes alone (Bussmann et al. 2025): the general come first.

    The last prefix is all codes; `prefixes` without it gets it.
    """

    prefixes: Sequence[int]

    def __post_init__(self) -> None:
        of_type((list, tuple, range), "numbers of codes, such as (64, 256, 1024)", prefixes=self.prefixes)
        for prefix in self.prefixes:
            whole(1, **{"one of prefixes": prefix})
        if not self.prefixes or list(self.prefixes) != sorted(set(self.prefixes)):
            raise InputError(
                f"prefixes is {self.prefixes!r:.60}; give ascending numbers of codes, such as (64, 256, 1024)."
            )

    def __call__(self, autoencoder: SparseAutoencoder, x: Tensor) -> Outcome:
        """The loss, the reconstruction from all codes, and the codes."""
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        codes = autoencoder.sparse_code(x)
        whole, bias = autoencoder.decoder.weight.T, autoencoder.decoder.bias
        reconstruction = decode(codes, whole, bias)
        losses = [squared(x, reconstruction)]
        for prefix in self.prefixes:
            if prefix < codes.size:
                first = codes._replace(values=codes.values * (codes.atoms < prefix))
                losses.append(squared(x, decode(first, whole, bias)))
        return torch.stack(losses).mean(), reconstruction, codes
