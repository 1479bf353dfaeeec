"""Say which words recordings hold.

gossamer speech recognise model.gossamer FILE …
gossamer speech recognise model.gossamer - < words.raw      # 16-bit samples at the model's rate, words between pauses
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import tyro

from gossamer import InputError, __version__
from gossamer.paths import cache
from gossamer.threads import using_threads
from gossamer_speech import audio
from gossamer_speech.recogniser import Recogniser, Transcriber, load


@dataclass(frozen=True)
class Options:
    """Recognise a word in each file, or in each stretch of sound on standard input."""

    model: Annotated[Path, tyro.conf.Positional]
    """what `gossamer train speech … --save` kept"""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """recordings (wav, flac, ogg, mp3), or - for samples on standard input"""
    pause: float = 0.3
    """seconds of quiet that end a word on standard input"""


def answer(recogniser: Recogniser | Transcriber, samples: np.ndarray) -> tuple[str, float]:
    """The word that samples (n,) at the model's rate hold, and its probability; "?" for one that is not known.

    Of a transcriber: the words that they hold, and the mean probability of the best letters.
    """
    word = audio.normalised(audio.trimmed(samples, recogniser.shape.rate)).astype(np.float32) / 32768
    if isinstance(recogniser, Transcriber):
        text, probability = recogniser.transcribe(word)
        return text or "?", probability
    probabilities = recogniser.probabilities([word])[0]
    best = int(probabilities.argmax())
    probability = float(probabilities[best])
    return (recogniser.names[best] if probability >= recogniser.threshold else "?"), probability


def words(source: BinaryIO, rate: int, pause: float, longest: float = 3.0) -> Iterator[np.ndarray]:
    """Stretches of sound between pauses in a stream of 16-bit samples, as they end: 30 dB above the quietest 10 ms."""
    hop, sound, quiet = rate // 100, [], 0
    floor = np.inf
    while len(chunk := source.read(2 * hop)) > 1:
        samples = np.frombuffer(chunk[: len(chunk) // 2 * 2], "<i2").astype(np.float32) / 32768
        energy = float(np.square(samples).mean())
        floor = max(1e-8, min(floor * 1.002, energy))
        loud = energy > 30 * floor and energy > 1e-6
        quiet = 0 if loud else quiet + 1
        if loud or sound:
            sound.append(samples)
        if sound and (quiet > 100 * pause or len(sound) > 100 * longest):
            yield np.concatenate(sound)
            sound = []
    if sound:
        yield np.concatenate(sound)


@using_threads(1)
def main(options: Options) -> int:
    """Print a line for each word: file, word, probability; the status is 1 where a file could not be used."""
    if not options.files:
        raise InputError("no recordings are named; give some, or - for samples on standard input.")
    recogniser, status = load(options.model), 0
    digest = hashlib.sha256(options.model.read_bytes() + __version__.encode()).hexdigest()
    recogniser.compile(cache("speech") / f"{digest[:16]}.engine")
    rate = recogniser.shape.rate
    for path in options.files:
        if str(path) == "-":
            for number, sound in enumerate(words(sys.stdin.buffer, rate, options.pause)):
                if not audio.fault(sound, rate):
                    word, probability = answer(recogniser, sound)
                    print(f"{number}\t{word}\t{probability:.2f}", flush=True)
            continue
        try:
            word, probability = answer(recogniser, audio.read(path, rate))
            print(f"{path}\t{word}\t{probability:.2f}", flush=True)
        except audio.UnusableError as error:
            print(f"left out: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    from gossamer.cli import run_command  # pyright: ignore[reportAttributeAccessIssue]

    run_command("speech", "recognise")
