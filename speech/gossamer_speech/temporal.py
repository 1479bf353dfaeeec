"""A network trained on labels, the ceiling: convolutions over time and frequency, then over time; weights sparse."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer.dynamic import last_move
from gossamer_speech.config import Config

CHANNELS = 96
DECIBELS = 35.0  # the quietest noise that words are learned in
SPREAD = 3.0  # of the logarithms of a word's powers, about: what normalisation divides by


class Places(nn.Module):
    """Images (n, channels, times, places) as sequences (n, places · channels, times)."""

    def forward(self, images: Tensor) -> Tensor:
        """The sequences."""
        return images.permute(0, 3, 1, 2).flatten(1, 2)


class Views(nn.Module):
    """A network's mean output over the views of each word, (n, views, LENGTH, mels) → (n, features)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        """The mean features."""
        return self.layers(images.flatten(0, 1)[:, None]).view(*images.shape[:2], -1).mean(1)


def network(classes: int) -> tuple[nn.Module, nn.Linear]:
    """Convolutions that leave twelve times of five places, 1-D ones that leave six, and the classifier of these."""
    first, second, wide = CHANNELS // 2, 2 * CHANNELS // 3, 2 * CHANNELS
    layers: list[nn.Module] = [
        *block(nn.Conv2d(1, first, (7, 10), (2, 3), (3, 0), bias=False)),  # 48 × 40 to 24 × 11
        *block(nn.Conv2d(first, second, 3, 2, (1, 0), bias=False)),  # to 12 × 5
        Places(),
        *block(nn.Conv1d(5 * second, CHANNELS, 3, 1, 1, bias=False)),
        *block(nn.Conv1d(CHANNELS, CHANNELS, 3, 1, 1, bias=False)),
        *block(nn.Conv1d(CHANNELS, CHANNELS, 3, 1, 1, bias=False)),
        *block(nn.Conv1d(CHANNELS, wide, 3, 2, 1, bias=False)),
        nn.Flatten(),
    ]
    return Views(nn.Sequential(*layers)), nn.Linear(6 * wide, classes)


def block(convolution: nn.Conv1d | nn.Conv2d) -> tuple[nn.Module, ...]:
    """A convolution, normalised and rectified."""
    normalise = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
    return convolution, normalise(convolution.out_channels), nn.ReLU()


def stretched(images: Tensor, axis: int, ends: float, bend: float, generator: torch.Generator) -> Tensor:
    """Images (n, LENGTH, mels) read along an axis from other ends, `ends` of its length off at most, and bent.

    Place t in [0, 1] reads a + (b − a)(t + c t (1 − t)), a within ±ends, b within 1 ± ends, c within ±bend. What lies
    beyond repeats the end. Along the bands this is another vocal tract, along time another tempo and another trimming.
    """
    n, size = len(images), images.shape[axis]
    a, b, c = ((2 * torch.rand(n, 1, generator=generator) - 1) * most for most in (ends, ends, bend))
    t = torch.linspace(0, 1, size)
    place = ((a + (1 + b - a) * (t + c * t * (1 - t))) * (size - 1)).clamp(0, size - 1)
    left = place.long().clamp_max(size - 2)
    share = (place - left).unsqueeze(3 - axis)
    left = left.unsqueeze(3 - axis).expand_as(images)
    return torch.lerp(images.gather(axis, left), images.gather(axis, left + 1), share)


def noisy(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images (n, LENGTH, mels) in coloured noise or in another word, 0 to DECIBELS below; powers add."""
    n, length, mels = images.shape
    power = (SPREAD * images).exp()
    slope = 1.5 * torch.randn(n, 1, 1, generator=generator) * torch.linspace(-1, 1, mels)
    coloured = slope.exp() * -torch.rand(n, length, mels, generator=generator).clamp_min(1e-4).log()
    place = (torch.randint(length, (n, 1), generator=generator) + torch.arange(length)) % length
    babble = (SPREAD * others.gather(1, place[:, :, None].expand_as(others))).exp()
    noise = torch.where(torch.rand(n, 1, 1, generator=generator) < 0.5, coloured, babble)
    level = power.mean((1, 2), keepdim=True) / noise.mean((1, 2), keepdim=True)
    below = 10 ** (-DECIBELS / 10 * torch.rand(n, 1, 1, generator=generator))
    on = (torch.rand(n, 1, 1, generator=generator) < 0.5).float()
    return (power + on * below * level * noise).log() / SPREAD


def augmented(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, LENGTH, mels) as other voices, tempi, rooms and noises would have them.

    Time and bands are stretched, a smooth gain over the bands is a microphone's, noise is added; then the level is
    normalised again, and two bands of frequency and one of time are left out (Park et al. 2019).
    """
    n, length, mels = images.shape
    images = stretched(stretched(images, 1, 0.15, 0.4, generator), 2, 0.06, 0.2, generator)
    gain = F.interpolate(0.15 * torch.randn(n, 1, 6, generator=generator), mels, mode="linear", align_corners=True)
    images = noisy(images + gain, others, generator)
    images = images - images.mean((1, 2), keepdim=True)
    images = images / images.std((1, 2), keepdim=True).clamp_min(1e-3)
    for axis, size in ((2, mels), (2, mels), (1, length)):
        width = torch.randint(0, 9, (n, 1), generator=generator)
        start = (torch.rand(n, 1, generator=generator) * (size - width)).long()
        index = torch.arange(size)
        hidden = (index >= start) & (index < start + width)
        images = images.masked_fill(hidden[:, None, :] if axis == 2 else hidden[:, :, None], 0)
    return images


def train(
    config: Config, images: Tensor, labels: Tensor, classes: int, log: Callable[[str], None] = lambda line: None
) -> tuple[nn.Module, nn.Linear, gs.Masking | None, float]:
    """Train on words (n, views, LENGTH, mels), each time on a view drawn anew: cross entropy with smoothed labels.

    The learning rate rises and falls to zero (Smith & Topin 2019). Weights are sparse from the start and move by RigL.
    """
    start, generator = time.perf_counter(), torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        body, classifier = network(classes)
        dropout = nn.Dropout(0.3)
    model = nn.Sequential(body, dropout, classifier)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - convolutions are faster so
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02, fused=True)
    masking = gs.sparsify(model, config.sparsity, generator=generator) if config.sparsity else None
    epochs, batch = 10 * config.epochs, 64
    steps = epochs * -(-len(images) // batch)
    method = None
    if masking:
        method = gs.RigL(masking.attach(optimizer), every=max(1, steps // 20), until=max(2, last_move(steps)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * config.learning_rate, steps, pct_start=0.15)

    def drawn(chosen: Tensor) -> Tensor:
        return images[chosen, torch.randint(images.shape[1], (len(chosen),), generator=generator)]

    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(batch):
            others = torch.randint(len(images), (len(chosen),), generator=generator)
            x = augmented(drawn(chosen), drawn(others), generator)
            loss = F.cross_entropy(model(x[:, None]), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if method:
                method.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        if epoch % 5 == 4:
            log(f"epoch {epoch + 1}: cross entropy {total / len(images):.3f}")
    model.eval().requires_grad_(False)
    return body, classifier, masking, time.perf_counter() - start
