"""From samples to log-mel frames, to words of equal length, to windows: in NumPy, and the same in any chunks."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.fft import dct, rfft

from gossamer.errors import InputError, one_of, within

NORMALISATIONS = ("utterance", "level", "mean", "running", "none")
ROWS = 32  # frames that go through a product together, always the same ones: so cuts in a stream change no bit
QUIETEST = 1e-6  # added to a power before its logarithm: about −90 dB of a full-scale tone
MEMORY = 100  # frames after which a running mean has forgotten two thirds


@dataclass(frozen=True)
class Front:
    """How samples become frames.

    A frame is the logarithm of `mels` bands, equally wide on the mel scale from 60 Hz to half the `rate`, of 25 ms of
    speech; there are 100 a second. `normalise` is "utterance" (less each band's mean over the utterance, over the
    deviation of all bands together: Atal 1974, Viikki & Laurila 1998), "level" (the same with one mean of all bands: a
    word's own spectrum stays), "mean" (less the mean alone), "running" (less a mean of the past, for streams) or
    "none".
    """

    rate: int = 8000
    mels: int = 40
    normalise: str = "utterance"
    window: int = field(init=False)
    hop: int = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        within(1000, 192_000, rate=self.rate)
        within(1, self.rate // 100, mels=self.mels)
        one_of(NORMALISATIONS, normalise=self.normalise)
        object.__setattr__(self, "window", self.rate // 40)
        object.__setattr__(self, "hop", self.rate // 100)
        object.__setattr__(self, "size", 1 << (self.rate // 40 - 1).bit_length())

    def power(self, samples: np.ndarray) -> np.ndarray:
        """Samples (n,) to power spectra (T, size / 2 + 1); T = 1 + (n − window) // hop, at least 1."""
        samples = np.pad(np.asarray(samples, np.float32), (0, max(0, self.window - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop]
        out, block = np.empty((len(frames), self.size // 2 + 1), np.float32), np.zeros((ROWS, self.window), np.float32)
        for start in range(0, len(frames), ROWS):
            part = frames[start : start + ROWS]
            block[: len(part)] = part * taper(self.window)
            spectrum = np.asarray(rfft(block, self.size, axis=1), np.complex64)
            out[start : start + ROWS] = (spectrum.real**2 + spectrum.imag**2)[: len(part)]
        return out

    def bands(self, power: np.ndarray, warp: float = 1.0) -> np.ndarray:
        """Power spectra (T, size / 2 + 1) to log-mel frames (T, mels), not normalised.

        `warp` stretches the frequencies: a speaker whose vocal tract is that much shorter (VTLP, Jaitly & Hinton 2013).
        """
        bank = filters(self.rate, self.size, self.mels, warp)
        out, block = np.empty((len(power), self.mels), np.float32), np.zeros((ROWS, power.shape[1]), np.float32)
        for start in range(0, len(power), ROWS):
            part = power[start : start + ROWS]
            block[: len(part)] = part
            out[start : start + ROWS] = np.log(block @ bank + QUIETEST)[: len(part)]
        return out

    def frames(self, samples: np.ndarray, warp: float = 1.0) -> np.ndarray:
        """Samples (n,) of one utterance to normalised frames (T, mels)."""
        return self.normalised(self.bands(self.power(samples), warp))

    def normalised(self, frames: np.ndarray) -> np.ndarray:
        """Frames (T, mels) of one utterance, normalised."""
        if self.normalise == "running":
            return Running().push(frames)
        moments = Moments()
        moments.push(frames)
        return moments.apply(frames, self.normalise)


class Moments:
    """Mean of each band and deviation of all, of frames that come in blocks."""

    def __init__(self) -> None:
        self.count, self.sum, self.square = 0, np.zeros(1), np.zeros(1)

    def push(self, frames: np.ndarray) -> None:
        """Take in frames (n, mels); cuts at multiples of ROWS change no bit."""
        for start in range(0, len(frames), ROWS):
            wide = frames[start : start + ROWS].astype(np.float64)
            self.count, self.sum, self.square = (
                self.count + len(wide),
                self.sum + wide.sum(0),
                self.square + (wide**2).sum(0),
            )

    def apply(self, frames: np.ndarray, normalise: str) -> np.ndarray:
        """The frames less the mean, over the deviation where `normalise` is "utterance" or "level"."""
        if normalise == "none":
            return frames
        mean = self.sum / self.count
        if normalise == "level":
            mean = np.full_like(mean, mean.mean())
        spread = np.sqrt(np.maximum((self.square / self.count - mean**2).mean(), 0)) if normalise != "mean" else 1.0
        return ((frames - mean) / max(float(spread), 1e-3)).astype(np.float32)


class Running:
    """Frames less an exponential mean of themselves and those before, as streams need it."""

    def __init__(self) -> None:
        self.count, self.mean = 0, np.zeros(1)

    def push(self, frames: np.ndarray) -> np.ndarray:
        """The next frames (n, mels), normalised; the cuts between calls don't matter."""
        out = np.empty_like(frames)
        for i, frame in enumerate(frames):
            self.count += 1
            self.mean = self.mean + (frame - self.mean) / min(self.count, MEMORY)
            out[i] = frame - self.mean
        return out


@lru_cache(maxsize=4)
def taper(length: int) -> np.ndarray:
    """Hann's window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache(maxsize=64)
def filters(rate: int, size: int, mels: int, warp: float = 1.0, lowest: float = 60.0) -> np.ndarray:
    """Triangular mel filters (size // 2 + 1, mels), their corners stretched by `warp` up to 85% of half the rate."""
    top = rate / 2
    low, high = (2595 * np.log10(1 + f / 700) for f in (lowest, top))
    mel = np.linspace(low, high, mels + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    bend = 0.85 * top * min(warp, 1) / warp
    corners = np.where(corners <= bend, corners * warp, top - (top - warp * bend) / (top - bend) * (top - corners))
    f = np.linspace(0, top, size // 2 + 1)[:, None]
    rise, fall = (f - corners[:-2]) / np.diff(corners)[:-1], (corners[2:] - f) / np.diff(corners)[1:]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def images(samples: np.ndarray, front: Front, length: int, warps: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """The samples of a word to its normalised frames at each warp, each interpolated to (length, mels)."""
    power = front.power(samples)
    return np.stack([of_length(front.normalised(front.bands(power, warp)), length) for warp in warps])


def of_length(frames: np.ndarray, length: int) -> np.ndarray:
    """Frames (T, mels) interpolated linearly to `length` of them, so that slow and fast words are alike."""
    place = np.linspace(0, len(frames) - 1, length)
    left = np.minimum(place.astype(int), max(len(frames) - 2, 0))
    share = (place - left)[:, None].astype(np.float32)
    return frames[left] * (1 - share) + frames[np.minimum(left + 1, len(frames) - 1)] * share


def windows(frames: np.ndarray, width: int, stride: int = 1) -> np.ndarray:
    """Frames (…, T, mels) to every `stride`-th one beside its neighbours, (…, ⌈T / stride⌉, width · mels), width odd.

    The first and last frames are repeated where neighbours are missing.
    """
    half = width // 2
    padded = np.concatenate([frames[..., :1, :]] * half + [frames] + [frames[..., -1:, :]] * half, axis=-2)
    view = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-2)[..., ::stride, :, :]
    return np.ascontiguousarray(np.swapaxes(view, -1, -2)).reshape(*view.shape[:-2], width * frames.shape[-1])


def cepstra(frames: np.ndarray, count: int) -> np.ndarray:
    """The first `count` cosine coefficients of log-mel frames (…, mels): MFCC (Davis & Mermelstein 1980)."""
    return np.asarray(dct(frames, axis=-1, norm="ortho"))[..., :count].astype(np.float32)


def deltas(frames: np.ndarray) -> np.ndarray:
    """The slope of each coefficient over five frames of (…, T, n) (Furui 1986)."""
    padded = np.concatenate([frames[..., :1, :]] * 2 + [frames] + [frames[..., -1:, :]] * 2, axis=-2)
    time = frames.shape[-2]
    after = [padded[..., i : i + time, :] for i in range(5)]
    return (2 * (after[4] - after[0]) + after[3] - after[1]) / 10


class Stream:
    """Samples in chunks of any size to windows of normalised frames, equal bit by bit to what the whole gives.

    Windows come ROWS at a time, 0.3 s of speech at a stride of one. Where `front.normalise` is neither "running" nor
    "none", the moments of the `whole` utterance must be known. The stride is at most half the width and one.
    """

    def __init__(self, front: Front, width: int, stride: int = 1, whole: Moments | None = None) -> None:
        if front.normalise not in ("running", "none") and whole is None:
            raise InputError(f'normalise is {front.normalise!r}, which needs the whole; a stream needs "running".')
        self.front, self.width, self.stride, self.whole = front, width, stride, whole
        self.running = Running() if front.normalise == "running" else None
        self.samples, self.frames = np.empty(0, np.float32), np.empty((0, front.mels), np.float32)
        self.first = True

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The windows (n, width · mels) that the next samples complete; n is a multiple of ROWS."""
        self.samples = np.concatenate([self.samples, np.asarray(samples, np.float32)])
        self._hear(max(0, 1 + (len(self.samples) - self.front.window) // self.front.hop) // ROWS * ROWS)
        return self._take(max(0, (len(self.frames) - self.width) // self.stride + 1) // ROWS * ROWS)

    def close(self) -> np.ndarray:
        """The last windows, their missing neighbours repeated; none where nothing was heard."""
        left = max(0, 1 + (len(self.samples) - self.front.window) // self.front.hop)
        self._hear(max(left, int(self.first and len(self.samples) > 0)))
        if self.first:
            return np.empty((0, self.width * self.front.mels), np.float32)
        self.frames = np.concatenate([self.frames, *[self.frames[-1:]] * (self.width // 2)])
        return self._take(max(0, (len(self.frames) - self.width) // self.stride + 1))

    def _hear(self, count: int) -> None:
        """Turn samples into the next `count` frames."""
        if not count:
            return
        samples = self.samples[: (count - 1) * self.front.hop + self.front.window]
        frames = self.front.bands(self.front.power(samples))
        self.samples = self.samples[count * self.front.hop :]
        if self.running:
            frames = self.running.push(frames)
        elif self.whole:
            frames = self.whole.apply(frames, self.front.normalise)
        before = [frames[:1]] * (self.width // 2) if self.first else []
        self.frames, self.first = np.concatenate([self.frames, *before, frames]), False

    def _take(self, count: int) -> np.ndarray:
        """The next `count` windows."""
        if not count:
            return np.empty((0, self.width * self.front.mels), np.float32)
        view = np.lib.stride_tricks.sliding_window_view(self.frames, self.width, axis=0)[:: self.stride][:count]
        self.frames = self.frames[count * self.stride :]
        return np.ascontiguousarray(np.swapaxes(view, 1, 2)).reshape(count, -1)
