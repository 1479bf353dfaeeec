"""Recordings as samples: any rate, width and number of channels, read and resampled in blocks of bounded memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from gossamer import InputError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
BLOCK = 1 << 16  # samples read at once
SHORTEST = 0.05  # seconds
SILENT = 1e-4  # of full scale, −80 dB
FULL, CLIPPED = 0.999, 0.05  # a sample at full scale; the share of such samples that makes a recording useless


class UnusableError(InputError):
    """A recording that can't be used; the message names it and says why."""


def blocks(path: Path, rate: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """The samples of a file in [−1, 1], its channels averaged, at `rate` Hz, as float32 blocks.

    `start` and `stop` are samples of the file. Raises `UnusableError` for a file that is not audio, is cut short or
    holds numbers that are not finite.
    """
    try:
        _refuse_cut(path)
        with soundfile.SoundFile(path) as file:
            file.seek(start)
            frames = -1 if stop is None else stop - start
            raw = file.blocks(BLOCK, frames=frames, dtype="float32", always_2d=True)
            yield from resampled((_finite(block, path).mean(1) for block in raw), file.samplerate, rate)
    except (soundfile.SoundFileError, RuntimeError) as error:  # RuntimeError: a seek past the end
        raise UnusableError(f"{path} is not audio that can be read ({error})") from error
    except OSError as error:
        raise UnusableError(f"{path} cannot be read ({error.strerror})") from error


def _refuse_cut(path: Path) -> None:
    """Raise `UnusableError` for a WAV file that has fewer bytes than it says, which libsndfile reads as it is."""
    with path.open("rb") as file:
        head = file.read(8)
    has, says = path.stat().st_size, int.from_bytes(head[4:8], "little") + 8
    if not has:
        raise UnusableError(f"{path} is empty")
    if head[:4] == b"RIFF" and has < says < 1 << 32:
        raise UnusableError(f"{path} is cut short: it has {has} bytes and says it has {says}")


def _finite(block: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(block).all():
        raise UnusableError(f"{path} holds samples that are not numbers")
    return block


def resampled(source: Iterable[np.ndarray], rate: int, target: int) -> Iterator[np.ndarray]:
    """Blocks of mono samples at another rate, by soxr's stream (band-limited interpolation); the cuts don't matter."""
    if rate == target:
        yield from source
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    for block in source:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def read(path: Path, rate: int, start: int = 0, stop: int | None = None, longest: float = 60.0) -> np.ndarray:
    """All samples of a recording of at most `longest` seconds; raise `UnusableError` where nothing can be heard."""
    parts, count = [], 0
    for block in blocks(path, rate, start, stop):
        parts.append(block)
        count += len(block)
        if count > longest * rate:
            raise UnusableError(f"{path} is longer than {longest:g} s")
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if reason := fault(samples, rate):
        raise UnusableError(f"{path} is {reason}")
    return samples


def fault(samples: np.ndarray, rate: int) -> str:
    """What makes the samples useless: "too short (…)", "silent" or "clipped (…)"; "" where nothing does."""
    if len(samples) < SHORTEST * rate:
        return f"too short ({1000 * len(samples) / rate:.0f} ms)"
    loudness = np.abs(samples - samples.mean())
    if loudness.max() < SILENT:
        return "silent"
    share = float(np.mean(np.abs(samples) >= FULL))
    return f"clipped ({share:.0%} of its samples at full scale)" if share > CLIPPED else ""


def trimmed(samples: np.ndarray, rate: int, decibels: float = 40.0, margin: float = 0.03) -> np.ndarray:
    """The samples without what comes before the first and after the last 10 ms within `decibels` of the loudest.

    `margin` seconds stay on each side; what would become shorter than 0.1 s stays as it is.
    """
    hop, keep = rate // 100, round(margin * rate)
    count = len(samples) // hop
    if count < 2:
        return samples
    energy = np.square(samples[: count * hop], dtype=np.float64).reshape(count, hop).mean(1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-decibels / 10))
    if not len(loud):
        return samples
    first, last = max(0, loud[0] * hop - keep), min(len(samples), (loud[-1] + 1) * hop + keep)
    return samples[first:last] if last - first >= rate // 10 else samples


def normalised(samples: np.ndarray) -> np.ndarray:
    """int16 samples whose peak is full scale."""
    peak = float(np.abs(samples).max(initial=0))
    return np.round(samples * (32767 / max(peak, 1e-9))).astype(np.int16)


def pauses(path: Path, words: int, decibels: float = 30.0) -> list[tuple[int, int]] | None:
    """(start, stop), in samples, of each of a file's `words`, cut amid its longest pauses; None where there are fewer.

    A pause is where each 10 ms lies more than `decibels` below the loudest.
    """
    rate = soundfile.info(path).samplerate
    samples, hop = np.concatenate(list(blocks(path, rate))), rate // 100
    energy = np.square(samples[: len(samples) // hop * hop], dtype=np.float64).reshape(-1, hop).mean(1)
    loud = np.flatnonzero(energy > energy.max(initial=0) * 10 ** (-decibels / 10))
    gaps = np.flatnonzero(np.diff(loud) > 1)
    if len(gaps) < words - 1:
        return None
    widest = np.sort(gaps[np.argsort(-np.diff(loud)[gaps], kind="stable")[: words - 1]])
    cuts = [(int(loud[gap]) + int(loud[gap + 1]) + 1) // 2 * hop for gap in widest]
    return list(zip([0, *cuts], [*cuts, len(samples)], strict=True))
