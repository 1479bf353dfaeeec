"""From bytes to the floats that a network takes: by moments of the training part, or by each picture's own."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from gossamer_vision.metrics import near_chance

Moments = tuple[float, ...]
LEAST = 1 / 255
LOOKED_AT = 2000


def scaled(images: Tensor, mean: Moments, std: Moments) -> Tensor:
    """Bytes [n, channels, h, w] as (bytes / 255 − mean) / std for each channel; without moments, `evened`."""
    floats = v2.functional.to_dtype(images, torch.float32, scale=True)
    return v2.functional.normalize(floats, list(mean), list(std)) if mean else evened(floats)


def evened(images: Tensor) -> Tensor:
    """±(x − m) / s of floats [n, channels, h, w]: m is the picture's mean of the channel, s its deviation over all.

    The sign of a channel is − where its third moment lies below −1 / 255³: what is rare in it is bright. So neither
    brightness nor contrast nor a tint is left, and a negative is its picture; differences of colour within are kept.
    """
    centred = images - images.mean((2, 3), keepdim=True)
    centred = torch.where(centred.pow(3).mean((2, 3), keepdim=True) < -(LEAST**3), -centred, centred)
    return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=LEAST)


def moments(images: Tensor) -> tuple[Moments, Moments]:
    """Mean and standard deviation of each channel of bytes in [0, 1], from the counts of the 256 levels."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = images[:, channel].flatten().bincount(minlength=256).double()
        mean = float((counts * levels).sum() / counts.sum())
        means.append(mean)
        deviations.append(max(float((counts * (levels - mean) ** 2).sum() / counts.sum()) ** 0.5, LEAST))
    return tuple(means), tuple(deviations)


def tint(images: Tensor, labels: Tensor) -> tuple[float, bool]:
    """How well the class is known by the picture's tint and contrast alone, and whether that is as good as chance.

    The share of images [n, channels, h, w] whose nearest neighbour, by mean and deviation of each channel (each
    over its own deviation), is of their class; up to 2,000 are looked at.
    """
    every = len(images) // LOOKED_AT + 1
    floats, labels = images[::every].flatten(2).float(), labels[::every]
    known = torch.cat([floats.mean(2), floats.std(2, correction=0)], 1)
    known = (known - known.mean(0)) / known.std(0, correction=0).clamp(min=LEAST)
    apart = torch.cdist(known, known).fill_diagonal_(torch.inf)
    right = float((labels[apart.argmin(1)] == labels).double().mean())
    return right, near_chance(right, labels)
