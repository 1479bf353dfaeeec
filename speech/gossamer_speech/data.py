"""Spoken words as log-mel frames: synthetic ones that come along, or the recordings of a folder.

The frames are kept below the cache folder ($XDG_CACHE_HOME or ~/.cache), under the hash of all that they depend on.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from gossamer import InputError
from gossamer.results import write_atomically
from gossamer_speech import espeak, features

DATA = ("espeak", "fsdd", "folder")
AUDIO = (".wav", ".flac", ".ogg")
FSDD = "git clone https://github.com/Jakobovski/free-spoken-digit-dataset, then --data-dir its folder 'recordings'"
FORMAT = 1  # of the cache; raise it when the same recordings give other frames


@dataclass(frozen=True)
class Words:
    """Recorded words.

    `frames` (Σ lengths, 40) float32 are the log-mel frames of all words, one after another; `lengths`, `labels`,
    `speakers` (int64) and `test` (bool) have one entry a word; `digest` is the hash that names the recordings.
    """

    frames: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    test: np.ndarray
    names: tuple[str, ...]
    digest: str

    def part(self, test: bool) -> list[Tensor]:
        """The words of one split, each (T, 40)."""
        words = torch.from_numpy(self.frames).split(self.lengths.tolist())
        return [word for word, own in zip(words, self.test, strict=True) if own == test]


class Recording(NamedTuple):
    """One word said once, before it is read."""

    word: str
    speaker: str
    test: bool


Reader = Callable[[], Iterable[Tensor]]


def load(data: str, folder: Path | None = None, snr: float | None = None) -> Words:
    """The words of a data set: "espeak" (embedded), "fsdd" or "folder" (both from a folder).

    With `snr` white noise is added, that many dB below each word, the same on every call. Raises `InputError` for a
    folder that is missing, empty or half-written, and for a file that is not audio.
    """
    if data == "espeak":
        recordings, contents, read = synthetic()
    elif folder is None:
        raise InputError(f"the data set {data!r} is read from a folder; name it with --data-dir. " + _remedy(data))
    else:
        recordings, contents, read = recorded(data, folder)
    recipe = [FORMAT, snr, features.SAMPLE_RATE, features.MELS, features.WINDOW, features.HOP, features.FFT]
    digest = hashlib.sha256(json.dumps([recipe, contents, recordings]).encode()).hexdigest()[:16]
    path = cache_folder() / f"{data}-{digest}.npz"
    names, labels = np.unique([recording.word for recording in recordings], return_inverse=True)
    frames = cached(path, len(recordings), lambda: [features.log_mel(noisy) for noisy in degraded(read(), snr)])
    return Words(
        frames=frames[0],
        lengths=frames[1],
        labels=labels,
        speakers=np.unique([recording.speaker for recording in recordings], return_inverse=True)[1],
        test=np.array([recording.test for recording in recordings]),
        names=tuple(names.tolist()),
        digest=digest,
    )


def degraded(words: Iterable[Tensor], snr: float | None) -> Iterable[Tensor]:
    """The words, with noise drawn from one seed where `snr` says how much."""
    generator = torch.Generator().manual_seed(0)
    return words if snr is None else (features.add_noise(word, snr, generator) for word in words)


def synthetic() -> tuple[list[Recording], str, Reader]:
    """The words of eSpeak NG; the test voices are never heard in training."""
    script = espeak.script()
    recordings = [Recording(u.word, u.voice, u.test) for u in script]
    contents = f"espeakng-loader {version('espeakng-loader')} {script}"

    def read() -> Iterable[Tensor]:
        for samples in espeak.speak():
            yield at_8_khz(torch.from_numpy(samples) / 32768, espeak.SAMPLE_RATE)

    return recordings, contents, read


def recorded(data: str, folder: Path) -> tuple[list[Recording], str, Reader]:
    """The recordings of a folder, and the hash of their bytes."""
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} does not exist or is a file. {_remedy(data)}")
    found = digits(folder) if data == "fsdd" else labelled(folder)
    digest = hashlib.sha256()
    for path in found:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return list(found.values()), digest.hexdigest(), lambda: map(decode, found)


def digits(folder: Path) -> dict[Path, Recording]:
    """The Free Spoken Digit Dataset, `{digit}_{speaker}_{index}.wav`; its own split tests on the indices 0 to 4.

    A speaker has each digit fifty times; fewer means a folder that is half-written.
    """
    home = folder / "recordings" if (folder / "recordings").is_dir() else folder
    found: dict[Path, Recording] = {}
    for path in sorted(home.glob("*.wav")):
        match = re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", path.name)
        if not match:
            raise InputError(f"{path} is not named {{digit}}_{{speaker}}_{{index}}.wav. Remove it, or {FSDD}.")
        found[path] = Recording(match[1], match[2], int(match[3]) < 5)
    if not found:
        raise InputError(f"{folder} holds no recordings (*.wav). {_remedy('fsdd')}")
    for speaker in sorted({recording.speaker for recording in found.values()}):
        names = [f"{digit}_{speaker}_{index}.wav" for digit in range(10) for index in range(50)]
        missing = [name for name in names if home / name not in found]
        if missing:
            raise InputError(
                f"{home} lacks {len(missing)} of the 500 recordings of {speaker!r}, {missing[0]} among them, as a copy "
                f"does that was cut short. {_remedy('fsdd')}"
            )
    return found


def labelled(folder: Path) -> dict[Path, Recording]:
    """`WORD/*.wav` (.flac, .ogg): each subfolder is a word, as in Speech Commands.

    The speaker is the file's name up to "_nohash_". The test part is what `testing_list.txt` lists, or else the fifth
    of the speakers whose names have the lowest hashes.
    """
    found: dict[Path, Recording] = {}
    listing = folder / "testing_list.txt"
    listed = set(listing.read_text().split()) if listing.is_file() else None
    for path in sorted(p for p in folder.glob("*/*") if p.suffix.lower() in AUDIO):
        word, speaker = path.parent.name, path.stem.split("_nohash_")[0]
        if word.startswith(("_", ".")):
            continue
        chance = hashlib.sha256(speaker.encode()).digest()[0] / 256
        test = chance < 0.2 if listed is None else f"{word}/{path.name}" in listed
        found[path] = Recording(word, speaker, test)
    if not found:
        raise InputError(f"{folder} holds no recordings. {_remedy('folder')}")
    words = sorted({recording.word for recording in found.values()})
    if len(words) < 2:
        raise InputError(f"{folder} has recordings of one word only, {words[0]!r}. {_remedy('folder')}")
    for word in words:
        own = [recording.test for recording in found.values() if recording.word == word]
        if own.count(False) < 2 or own.count(True) < 1:
            raise InputError(
                f"{folder / word} has {own.count(False)} recordings to train on and {own.count(True)} to test on, and "
                "needs two and one; add recordings of more speakers."
            )
    return found


def _remedy(data: str) -> str:
    if data == "fsdd":
        return f"To get the Free Spoken Digit Dataset: {FSDD}."
    return "It should hold one subfolder for each word, with recordings in it: WORD/*.wav."


def decode(path: Path) -> Tensor:
    """The samples (n,) at 8 kHz of an audio file, its channels averaged."""
    content, remedy = path.read_bytes(), "Remove the file or fetch it again."
    if content[:4] == b"RIFF" and len(content) < int.from_bytes(content[4:8], "little") + 8 < 1 << 32:
        raise InputError(f"{path} is cut short: it has {len(content)} bytes and says it has more. {remedy}")
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise InputError(f"{path} is not audio that can be read ({error}). {remedy}") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise InputError(f"{path} holds no sound, or samples that are not numbers. {remedy}")
    return at_8_khz(torch.from_numpy(samples.mean(1)), rate)


def at_8_khz(samples: Tensor, rate: int) -> Tensor:
    """The samples at the rate that all features are computed at."""
    return torchaudio.functional.resample(samples, rate, features.SAMPLE_RATE)


def cache_folder() -> Path:
    """Where computed frames are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gossamer" / "speech"


def cached(path: Path, count: int, compute: Callable[[], list[Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """The frames (Σ T, 40) and lengths (count,) in `path`; computed and written there if it is absent or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            frames, lengths = arrays["frames"], arrays["lengths"]
        if len(lengths) == count and lengths.sum() == len(frames) and frames.shape[1:] == (features.MELS,):
            return frames, lengths
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    words = compute()
    frames, lengths = torch.cat(words).numpy(), np.array([len(word) for word in words])
    buffer = io.BytesIO()
    np.savez(buffer, frames=frames, lengths=lengths)
    with contextlib.suppress(OSError):  # a home that cannot be written to costs time, not the result
        write_atomically(path, buffer.getvalue())
    return frames, lengths
