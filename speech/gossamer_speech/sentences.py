"""Sentences of the words at hand: recordings of one voice joined, and lines that eSpeak NG says; and their errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer_speech import espeak, noise
from gossamer_speech.data import Words, spoken
from gossamer_speech.letters import spelt

LONGEST = 5  # words of a sentence
PAUSE = (0.03, 0.25)  # seconds between two words
ROOM = (35.0, 70.0)  # decibels that the room's noise lies below the speech


@dataclass(frozen=True)
class Sentence:
    """What is said, words between spaces, by which speaker (a number, −1: synthetic), and its samples (n,)."""

    text: str
    speaker: int
    samples: np.ndarray


def joined(
    words: Words,
    which: np.ndarray,
    draw: np.random.Generator,
    cut: Callable[[np.ndarray], list[np.ndarray]] | None = None,
) -> list[Sentence]:
    """Every marked word once, in sentences of 1 to LONGEST words of one speaker, pauses and a quiet room drawn.

    Where `cut` makes several of a word's samples, one of them is drawn.
    """
    sentences = []
    for speaker in np.unique(words.speakers[which]):
        left = draw.permutation(np.flatnonzero(which & (words.speakers == speaker)))
        while len(left):
            chosen, left = np.split(left, [int(draw.integers(1, LONGEST + 1))])
            parts = []
            for i in chosen:
                ways = cut(words.word(int(i))) if cut else [words.word(int(i))]
                word = ways[int(draw.integers(len(ways)))] if len(ways) > 1 else ways[0]
                parts += [np.zeros(int(words.rate * draw.uniform(*PAUSE)), np.float32), word]
            samples = np.concatenate([*parts, np.zeros(int(words.rate * draw.uniform(*PAUSE)), np.float32)])
            samples = noise.white(samples, float(draw.uniform(*ROOM)), draw)
            sentences.append(Sentence(" ".join(spelt(words.names[words.labels[i]]) for i in chosen), speaker, samples))
    return sentences


def synthetic(words: Words, takes: int, seed: int) -> list[Sentence]:
    """Lines of 2 to LONGEST of the words, said as one by the voices of eSpeak NG; each voice says `takes` of them."""
    draw = np.random.default_rng(seed)
    voices = [(voice, False) for voice in (*espeak.TRAIN_VOICES, *espeak.TEST_VOICES) * takes]
    lines = [" ".join(draw.choice(words.names, draw.integers(2, LONGEST + 1))) for _ in voices]
    script = [espeak.said([line], [voice])[0] for line, voice in zip(lines, voices, strict=True)]
    sounds = spoken(script, words.rate)
    return [
        Sentence(" ".join(map(spelt, line.split())), -1, noise.white(sound / np.float32(32768), 60, draw))
        for line, sound in zip(lines, sounds, strict=True)
    ]


def degraded(
    sentences: Sequence[Sentence], kind: str, snr: float, rate: int, draw: np.random.Generator
) -> list[np.ndarray]:
    """The samples of sentences in noise; babble is of others among them."""
    sounds = [sentence.samples for sentence in sentences]
    return [noise.degraded(sound, kind, snr, rate, sounds, draw) for sound in sounds]


def errors(said: Sequence[str], heard: Sequence[str]) -> tuple[float, float]:
    """Word and character error rate in percent: substitutions, deletions and insertions to what was said."""
    import jiwer

    return 100 * float(jiwer.wer(list(said), list(heard))), 100 * float(jiwer.cer(list(said), list(heard)))
