"""Spoken words as samples at one rate: synthetic ones that come along, or the recordings of a folder.

The samples are kept below the cache folder ($XDG_CACHE_HOME or ~/.cache), in a folder named by all that they depend
on, and mapped into memory: what is held is what is looked at.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soxr

from gossamer import InputError
from gossamer.paths import cache
from gossamer_speech import audio, espeak, folders
from gossamer_speech.folders import Found, Recording

FORMAT = 1  # of the cache; raise it when the same recordings give other samples


@dataclass(frozen=True)
class Words:
    """Recorded words.

    `samples` (Σ lengths,) int16 are those of all words, one after another, each with its peak at full scale and without
    the silence around it; word i is `word(i)`. `labels` and `speakers` (n,) number `names` and `speaker_names`;
    `official` (n,) is true where the data set's own split tests, None where it has none. `how` says how labels and
    speakers were told, `caveat` what a result must say of them; `left_out` names each file that was left out, with the
    reason.
    """

    samples: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    names: tuple[str, ...]
    speaker_names: tuple[str, ...]
    official: np.ndarray | None
    rate: int
    how: str
    caveat: str
    left_out: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)

    def word(self, i: int) -> np.ndarray:
        """The samples of word i, float32 in [−1, 1]."""
        return self.samples[self.starts[i] : self.starts[i + 1]].astype(np.float32) / 32768

    def chosen(self, which: np.ndarray) -> Iterator[np.ndarray]:
        """The words whose numbers, or whose marks in a mask (n,), are given."""
        for i in np.flatnonzero(which) if which.dtype == bool else which:
            yield self.word(int(i))


def load(data: str, folder: Path | None = None, speaker: str | None = None, rate: int = 8000) -> Words:
    """The words of a data set at `rate` Hz: "espeak" (embedded), or one of `folders.LAYOUTS`, from its folder.

    Recordings that are not audio, silent, clipped, too short or too long are left out and named. Raises `InputError`
    for a folder that is missing, or in which nothing usable is left.
    """
    if data == "espeak":
        found = Found(
            [Recording(Path(), u.word, u.voice, "test" if u.test else "train") for u in espeak.script()], "voices"
        )
        key = [f"espeakng-loader {version('espeakng-loader')} {espeak.script()}"]
    elif folder is None:
        raise InputError(
            f"the data set {data!r} is read from a folder; name it with --data-dir. {folders.REMEDIES[data]}"
        )
    else:
        found = folders.find(data, folder, speaker)
        stats = {r.path: r.path.stat() for r in found.recordings}
        key = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()]
    spans = [(r.start, r.stop) for r in found.recordings]
    recipe = json.dumps([FORMAT, data, rate, soxr.__version__, key, spans])
    place = cache("speech") / f"{data}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    samples, lengths, faults = cached(
        place, lambda: spoken(espeak.script(), rate) if data == "espeak" else heard(found.recordings, rate)
    )
    usable = [r for r, length in zip(found.recordings, lengths, strict=True) if length]
    if not usable:
        raise InputError(f"nothing in {folder} can be used: {faults[0]}.")
    names, labels = np.unique([r.label for r in usable], return_inverse=True)
    speaker_names, speakers = np.unique([r.speaker for r in usable], return_inverse=True)
    parts = {r.part for r in usable}
    return Words(
        samples=samples,
        starts=np.concatenate([[0], np.cumsum([length for length in lengths if length])]),
        labels=labels,
        speakers=speakers,
        names=tuple(names.tolist()),
        speaker_names=tuple(speaker_names.tolist()),
        official=np.array([r.part == "test" for r in usable]) if parts == {"train", "test"} else None,
        rate=rate,
        how=found.how,
        caveat=found.caveat,
        left_out=(*found.left_out, *faults),
        digest=hashlib.sha256(samples.data).hexdigest()[:16],
    )


def spoken(utterances: Sequence[espeak.Utterance], rate: int) -> Iterator[np.ndarray]:
    """Words as eSpeak NG says them."""
    for samples in espeak.speak(utterances):
        at_rate = soxr.resample(samples.astype(np.float32) / 32768, espeak.SAMPLE_RATE, rate)
        yield audio.normalised(audio.trimmed(at_rate, rate))


def heard(recordings: list[Recording], rate: int) -> Iterator[np.ndarray | str]:
    """The samples of each recording, or why it can't be used."""
    for recording in recordings:
        try:
            samples = audio.read(recording.path, rate, recording.start, recording.stop)
            yield audio.normalised(audio.trimmed(samples, rate))
        except audio.UnusableError as error:
            yield str(error)


Kept = tuple[np.ndarray, list[int], list[str]]


def cached(place: Path, compute: Callable[[], Iterator[np.ndarray | str]]) -> Kept:
    """All samples, the length of each recording (0: left out) and the faults, from the folder `place`.

    They are computed, one recording at a time, and written there where they are missing or damaged; where nothing can
    be written they stay in memory.
    """
    if kept := _kept(place):
        return kept
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _write(Path(folder, "new"), compute())
            shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process was first
                os.replace(Path(folder, "new"), place)
    except OSError:
        parts = list(compute())
        sounds = [part for part in parts if not isinstance(part, str)]
        lengths = [0 if isinstance(part, str) else len(part) for part in parts]
        samples = np.concatenate([np.empty(0, np.int16), *sounds])
        return samples, lengths, [part for part in parts if isinstance(part, str)]
    kept = _kept(place)
    assert kept is not None, f"{place} changed while it was written"
    return kept


def _kept(place: Path) -> Kept | None:
    """What the folder holds, None where it is missing or damaged."""
    try:
        found = json.loads((place / "found.json").read_text())
        samples = np.memmap(place / "samples.int16", np.int16, "r") if sum(found["lengths"]) else np.empty(0, np.int16)
        whole = hashlib.sha256(samples.data).hexdigest() == found["sha256"]
        return (samples, found["lengths"], found["faults"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, parts: Iterator[np.ndarray | str]) -> None:
    """Write samples and what is known of them into a new folder."""
    folder.mkdir()
    digest, lengths, faults = hashlib.sha256(), [], []
    with (folder / "samples.int16").open("wb") as file:
        for part in parts:
            if isinstance(part, str):
                faults.append(part)
                lengths.append(0)
            else:
                file.write(part.data)
                digest.update(part.data)
                lengths.append(len(part))
    found = {"lengths": lengths, "faults": faults, "sha256": digest.hexdigest()}
    (folder / "found.json").write_text(json.dumps(found))
