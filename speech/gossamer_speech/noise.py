"""What is done to words to see what features bear: white noise, babble, reverberation."""

from collections.abc import Sequence

import numpy as np


def add(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """The samples with noise of the same length, its mean power `snr` dB below theirs."""
    power, own = float(np.square(samples).mean()), float(np.square(noise).mean())
    return (samples + noise * np.float32(np.sqrt(power / max(own, 1e-12) / 10 ** (snr / 10)))).astype(np.float32)


def white(samples: np.ndarray, snr: float, draw: np.random.Generator) -> np.ndarray:
    """The samples in white noise."""
    return add(samples, draw.standard_normal(len(samples), np.float32), snr)


def babble(
    samples: np.ndarray, others: Sequence[np.ndarray], snr: float, draw: np.random.Generator, voices: int = 4
) -> np.ndarray:
    """The samples amid `voices` loops of other words at once, each from a random place on."""
    total = np.zeros(len(samples), np.float32)
    for i in draw.integers(len(others), size=voices):
        other = others[i]
        looped = np.tile(other, 2 + len(samples) // len(other))
        start = int(draw.integers(len(other)))
        total += looped[start : start + len(samples)] / max(float(np.sqrt(np.square(other).mean())), 1e-6)
    return add(samples, total, snr)


def reverberation(samples: np.ndarray, rate: int, draw: np.random.Generator, seconds: float = 0.4) -> np.ndarray:
    """The samples in a room in which sound falls by 60 dB in `seconds`: an exponential tail of noise (Polack 1988)."""
    count = round(seconds * rate)
    response = draw.standard_normal(count).astype(np.float32) * 10 ** (-3 * np.arange(count, dtype=np.float32) / count)
    response[0] = 5.0  # the direct sound
    return np.convolve(samples, response)[: len(samples)].astype(np.float32)


def degraded(
    samples: np.ndarray, kind: str, snr: float, rate: int, others: Sequence[np.ndarray], draw: np.random.Generator
) -> np.ndarray:
    """The samples under one of `config.NOISES`."""
    match kind:
        case "white":
            return white(samples, snr, draw)
        case "babble":
            return babble(samples, others, snr, draw)
        case "reverberation":
            return reverberation(samples, rate, draw)
        case _:
            return samples
