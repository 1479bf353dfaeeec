"""Features of a frame: one linear map and one nonlinearity, learned or not; and the recogniser that reads them.

Every encoder that has weights is `nn.Sequential(nn.Linear, activation)`, so that their costs are counted alike.
"""

import torch
import torchaudio
from torch import Tensor, nn

from gossamer.nn import SparseAutoencoder
from gossamer_speech.features import CONTEXT, INPUTS, MELS


class CReLU(nn.Module):
    """[max(x, 0), max(−x, 0)], (…, n) → (…, 2n): both signs of a feature (Shang et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """The positive parts, then the negative ones."""
        return torch.cat([x.relu(), (-x).relu()], dim=-1)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer that holds these weights (out, in)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def log_mel() -> nn.Sequential:
    """The stacked log-mel frame itself, 2 · 200 features: what the others must beat."""
    return nn.Sequential(nn.Identity(), CReLU())


def mfcc(count: int) -> nn.Sequential:
    """The first `count` cepstral coefficients of 5 frames, 2 · 5 · count features (Davis & Mermelstein 1980)."""
    cosines = torchaudio.functional.create_dct(count, MELS, "ortho").T
    return nn.Sequential(linear(torch.block_diag(*[cosines] * CONTEXT)), CReLU())


def pca(frames: Tensor, count: int) -> nn.Sequential:
    """The frames' first `count` principal components, 2 · count features; there are at most 200."""
    mean = frames.mean(0)
    covariance = (frames - mean).T @ (frames - mean) / len(frames)
    _, vectors = torch.linalg.eigh(covariance.double())
    directions = vectors.flip(1)[:, :count].T.float()
    return nn.Sequential(linear(directions, -directions @ mean), CReLU())


def random_relu(count: int, generator: torch.Generator) -> nn.Sequential:
    """max(Wx, 0) with W drawn from N(0, 1 / 200) and never trained (Rahimi & Recht 2008)."""
    return nn.Sequential(linear(torch.randn(count, INPUTS, generator=generator) / INPUTS**0.5), nn.ReLU())


def learned(autoencoder: SparseAutoencoder) -> nn.Sequential:
    """The autoencoder's encoder alone, σ(Wx + (c − Wb)): its decoder and b are not needed any more."""
    weight = autoencoder.encoder.weight
    return nn.Sequential(
        linear(weight, autoencoder.encoder.bias - weight @ autoencoder.decoder.bias), autoencoder.activation
    )


def pool(codes: Tensor, segments: int) -> Tensor:
    """Mean and maximum of each code over each of `segments` equal parts of a word.

    (…, T, codes) → (…, 2 · segments · codes). A word shorter than `segments` frames gives a frame to several parts.
    """
    time = codes.shape[-2]
    parts = []
    for i in range(segments):
        start = min(time * i // segments, time - 1)
        part = codes[..., start : max(time * (i + 1) // segments, start + 1), :]
        parts += [part.mean(-2), part.amax(-2)]
    return torch.cat(parts, dim=-1)


class Recogniser(nn.Module):
    """What is shipped: frames (words, T, 200) to scores (words, classes), softmax of which are probabilities."""

    def __init__(self, encoder: nn.Module, segments: int, classifier: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.segments, self.classifier = encoder, segments, classifier

    def forward(self, frames: Tensor) -> Tensor:
        """Encode each frame, pool over the word, classify."""
        return self.classifier(pool(self.encoder(frames), self.segments))
