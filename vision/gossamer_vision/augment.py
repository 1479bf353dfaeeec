"""What changes training images at random: mirrors, shifts, distortions, policies of torchvision, and what spoils."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad
from torchvision.transforms import v2

from gossamer_vision.corruptions import CORRUPTIONS, STRENGTHS

POLICIES = {"trivial": v2.TrivialAugmentWide, "rand": v2.RandAugment}
TURN, STRETCH = math.radians(15), 0.2


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images [n, channels, h, w], half of them mirrored."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen.to(images.device), images.flip(-1), images)


def shifted(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """The images [n, channels, h, w], each shifted by up to `shift` pixels; zeros come in."""
    n, channels, height, width = images.shape
    device = images.device
    down, across = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator).to(device)
    rows = (down + torch.arange(height, device=device))[:, None, :, None]
    columns = (across + torch.arange(width, device=device))[:, None, None, :]
    each = torch.arange(n, device=device)[:, None, None, None]
    return pad(images, (shift,) * 4)[each, torch.arange(channels, device=device)[:, None, None], rows, columns]


def distorted(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """The images [n, channels, h, w], each turned, stretched and shifted a little; its edge goes on where it ends.

    Turned by up to 15°, each side made up to e^0.2 times as long or short, shifted by up to `shift` pixels, uniformly.
    """
    n, height, width = len(images), *images.shape[-2:]
    turn, tall, wide, down, across = torch.rand(5, n, generator=generator) * 2 - 1
    cos, sin, tall, wide = (TURN * turn).cos(), (TURN * turn).sin(), (STRETCH * tall).exp(), (STRETCH * wide).exp()
    down, across = 2 * shift / height * down, 2 * shift / width * across
    moves = torch.stack([cos * wide, -sin * tall, across, sin * wide, cos * tall, down], 1).reshape(n, 2, 3)
    grid = affine_grid(moves.to(images.device), list(images.shape), align_corners=False)
    moved = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return moved.round().to(torch.uint8)


def by_policy(images: Tensor, policy: str) -> Tensor:
    """Each image changed by torchvision's TrivialAugment or RandAugment, by torch's own random numbers."""
    change = POLICIES[policy]()
    return torch.stack([change(image) for image in images])


def spoilt(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """That share of the images with noise, blur or lost contrast, of any strength up to the one evaluated."""
    kinds = torch.randint(len(CORRUPTIONS), (len(images),), generator=generator)
    kinds[torch.rand(len(images), generator=generator) >= share] = -1
    images = images.clone()
    for kind, (name, corrupt) in enumerate(CORRUPTIONS.items()):
        strength = STRENGTHS[name] * float(torch.rand(1, generator=generator))
        own = (kinds == kind).to(images.device)
        if own.any():
            images[own] = corrupt(images[own], strength, generator)
    return images
