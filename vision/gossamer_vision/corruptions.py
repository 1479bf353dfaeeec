"""What spoils pictures: noise, blur and lost contrast, as pure functions of bytes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

STRENGTHS = {"noise": 0.15, "blur": 0.06, "contrast": 0.65}
MEANING = {
    "noise": "Gaussian, deviation {:.0%} of the range",
    "blur": "Gaussian, deviation {:.0%} of the side",
    "contrast": "lowered by {:.0%}",
}


def noisy(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise whose deviation is that share of the range."""
    noise = torch.randn(images.shape, generator=generator).to(images.device) * strength * 255
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur whose deviation is that share of the image's side, below which 0.3 pixels are no blur."""
    sigma = strength * images.shape[-1]
    if sigma < 0.3:
        return images
    size = 2 * max(1, round(2 * sigma)) + 1
    return v2.functional.gaussian_blur(images, [size, size], [sigma, sigma])


def faded(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Contrast lowered by that share, around each image's mean."""
    return v2.functional.adjust_contrast(images, 1 - strength)


CORRUPTIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "noise": noisy,
    "blur": blurred,
    "contrast": faded,
}


def corrupted(name: str, images: Tensor, seed: int = 0) -> Tensor:
    """Bytes [n, channels, h, w] spoilt as `STRENGTHS` says; the noise is the same on every call."""
    return CORRUPTIONS[name](images, STRENGTHS[name], torch.Generator().manual_seed(seed))
