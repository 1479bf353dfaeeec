"""Log-mel frames of a word: mean-normalised, stacked with their neighbours."""

from functools import cache

import torch
import torchaudio
from torch import Tensor

SAMPLE_RATE = 8_000
"""Hz; the band of the telephone and of the Free Spoken Digit Dataset."""
MELS = 40
WINDOW, HOP, FFT = 200, 80, 256  # samples: 25 ms, 10 ms, 32 ms
LOWEST = 60.0  # Hz
CONTEXT, STRIDE = 5, 2
INPUTS = CONTEXT * MELS
"""Numbers in a stacked frame."""


@cache
def _spectrogram() -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, n_fft=FFT, win_length=WINDOW, hop_length=HOP, n_mels=MELS, f_min=LOWEST
    )


def log_mel(samples: Tensor) -> Tensor:
    """Samples (n,) at 8 kHz in [−1, 1] to log-mel energies (1 + n // 80, 40), less the word's mean of each band.

    The mean is what a microphone or a room adds to every frame (cepstral mean normalisation, Atal 1974).
    """
    samples = torch.nn.functional.pad(samples, (0, max(0, FFT - len(samples))))
    frames = torch.log(_spectrogram()(samples) + 1e-6).T
    return frames - frames.mean(0)


def add_noise(samples: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """The samples with white noise, `snr` dB below their mean power."""
    power = samples.square().mean() / 10 ** (snr / 10)
    return samples + power.sqrt() * torch.randn(samples.shape, generator=generator)


def stack(frames: Tensor) -> Tensor:
    """Frames (T, 40) to every second one beside its two neighbours on each side, (⌈T / 2⌉, 200).

    The first and last frames are repeated where a neighbour is missing. So a row sees 65 ms, and there are 50 a second.
    """
    half = CONTEXT // 2
    padded = torch.cat([frames[:1].expand(half, -1), frames, frames[-1:].expand(half, -1)])
    return padded.unfold(0, CONTEXT, STRIDE).transpose(1, 2).flatten(1)
