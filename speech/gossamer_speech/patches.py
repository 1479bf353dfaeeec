"""From the images of a word to patches, to codes, to pooled features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gossamer_speech import audio
from gossamer_speech.config import Config
from gossamer_speech.features import Front, images

LENGTH, STRIDE, HOP = 48, 2, 4  # frames of a word; frames and bands from patch to patch
MARGIN = 0.01  # seconds that trims leave on each side
WARP = 0.12  # the furthest vocal tract length from the middle one


@dataclass(frozen=True)
class Shape:
    """How words become patches, and codes features."""

    rate: int = 8000
    mels: int = 40
    width: int = 9
    bands: int = 16
    segments: int = 8
    warps: int = 5
    normalise: str = "utterance"
    trims: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trims", tuple(self.trims))  # a file's are a list

    @classmethod
    def of(cls, config: Config) -> "Shape":
        """The shape of a method's patches: whole frames for what is defined on frames, nine of topk's for stacked."""
        own = {"log-mel": (1, 40), "mfcc": (5, 40), "mfcc-13": (9, 40)}
        own["stacked"] = config.width + 2 * STRIDE, config.bands + 2 * HOP
        width, bands = own.get(config.method, (config.width, config.bands))
        rest = {name: getattr(config, name) for name in ("segments", "warps", "normalise", "trims")}
        return cls(width=width, bands=bands, **rest)

    @property
    def front(self) -> Front:
        """How samples become frames."""
        return Front(self.rate, self.mels, self.normalise)

    @property
    def lengths(self) -> tuple[float, ...]:
        """The vocal tract lengths that are averaged over."""
        return (1.0,) if self.warps == 1 else tuple(np.linspace(1 - WARP, 1 + WARP, self.warps).round(4).tolist())

    @property
    def views(self) -> int:
        """Images of a word: each vocal tract length of the whole word, then of the word as each trim cuts it."""
        return len(self.lengths) * (1 + len(self.trims))

    def images(self, words: Sequence[np.ndarray]) -> Tensor:
        """Words (samples) to images (words, views, LENGTH, mels)."""
        return torch.from_numpy(
            np.stack(
                [
                    np.concatenate([images(part, self.front, LENGTH, self.lengths) for part in self.parts(word)])
                    for word in words
                ]
            )
        )

    def parts(self, word: np.ndarray) -> list[np.ndarray]:
        """A word (samples), and what each trim leaves of it."""
        return [word, *(audio.trimmed(word, self.rate, trim, MARGIN) for trim in self.trims)]

    def patches(self, images: Tensor) -> Tensor:
        """Images (n, LENGTH, mels) to patches (n, times, places, width · bands); the ends are repeated."""
        half = self.width // 2
        padded = torch.cat([images[:, :1].expand(-1, half, -1), images, images[:, -1:].expand(-1, half, -1)], 1)
        return padded.unfold(1, self.width, STRIDE).unfold(2, self.bands, HOP).flatten(3)


def triangles(times: int, segments: int) -> Tensor:
    """Weights (segments, times) of overlapping triangles, each a mean."""
    place, middle = (torch.arange(times) + 0.5) / times * segments, torch.arange(segments) + 0.5
    weights = (1 - (place - middle[:, None]).abs()).clamp_min(0)
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-6)


class Features(nn.Module):
    """Codes of all patches, their mean over overlapping segments, its root, and the mean of that over views.

    Images (n, views, LENGTH, mels) → (n, segments · places · codes). The root is what histograms of codes want
    (Perronnin et al. 2010); the mean over vocal tract lengths makes the features know less of the voice.
    """

    def __init__(self, encoder: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.encoder, self.shape = encoder, shape

    def codes(self, images: Tensor) -> Tensor:
        """The codes (n, times, places, codes) of images (n, LENGTH, mels)."""
        patches = self.shape.patches(images)
        return self.encoder(patches.flatten(0, 2)).view(*patches.shape[:3], -1)

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        n, views = images.shape[:2]
        codes = self.codes(images.flatten(0, 1)).flatten(2)
        weights = triangles(codes.shape[1], self.shape.segments)
        pooled = nn.functional.linear(codes.transpose(1, 2), weights).transpose(1, 2).clamp_min(0).sqrt()
        return pooled.reshape(n, views, -1).mean(1)
