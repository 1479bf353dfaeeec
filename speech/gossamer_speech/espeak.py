"""Words in fifty-one voices, spoken by the eSpeak NG synthesiser; the same bytes on every call.

The synthesiser keeps state between words, so all of them are spoken in one process, in one order, from one seed.
"""
# ruff: noqa: SIM905 - a list of voices reads better as a line of words

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import espeakng_loader
import numpy as np

from gossamer import InputError

SAMPLE_RATE = 22_050
WORDS = tuple(
    "zero one two three four five six seven eight nine yes no up down left right on off stop go".split()
)  # the core words of Speech Commands (Warden 2018)
ACCENTS = tuple("en en-us en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-us-nyc en-029".split())
TRAIN_VOICES = tuple(
    """Alex Andrea Andy Annie Diogo Gene Hugo Lee Marco Michael Nguyen Storm adam anika aunty belinda boris ed
    f1 f2 grandma iven iven2 linda m1 m2 m3 max miguel rob""".split()
)
TEST_VOICES = tuple(
    """RicishayMax RicishayMax2 RicishayMax3 benjamin edward edward2 grandpa klatt klatt2 klatt3 m5 m6 m8 marcelo mike2
    paul robert sandro steph3 victor zac""".split()
)
TEST_TAKES = 3
_SYNCHRONOUS, _KEEP_RUNNING = 2, 1 << 15  # of espeak-ng's speak_lib.h, as are the next
_RATE, _PITCH, _CHARACTERS, _UTF8 = 1, 3, 1, 1


@dataclass(frozen=True)
class Utterance:
    """One word to be said: `rate` in words per minute, `pitch` from 0 to 99."""

    word: str
    voice: str
    accent: str
    rate: int
    pitch: int
    test: bool


def script() -> list[Utterance]:
    """The data set, in order: each training voice says each word once, each test voice three times."""
    return said(WORDS, [(v, False) for v in TRAIN_VOICES] + [(v, True) for v in TEST_VOICES * TEST_TAKES])


def everyone(words: Sequence[str], takes: int) -> list[Utterance]:
    """Words of one's own, each said `takes` times by each voice."""
    return said(words, [(voice, False) for voice in (*TRAIN_VOICES, *TEST_VOICES) * takes])


def said(words: Sequence[str], parts: Sequence[tuple[str, bool]]) -> list[Utterance]:
    """Each word by each voice, in an accent, at a rate and a pitch that are drawn; the same on every call."""
    draw = np.random.default_rng(0)
    return [
        Utterance(
            word=word,
            voice=voice,
            accent=ACCENTS[draw.integers(len(ACCENTS))],
            rate=int(draw.integers(130, 230)),
            pitch=int(draw.integers(25, 76)),
            test=test,
        )
        for voice, test in parts
        for word in words
    ]


def speak(utterances: Sequence[Utterance]) -> list[np.ndarray]:
    """The samples of every utterance, int16 at 22,050 Hz, spoken in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.npz")
        lines = json.dumps([asdict(utterance) for utterance in utterances])
        done = subprocess.run([sys.executable, "-m", __name__, str(path)], input=lines, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise InputError(f"eSpeak NG failed ({reason}); type: pip install --force-reinstall espeakng-loader")
        with np.load(path, allow_pickle=False) as file:
            samples, lengths = file["samples"], file["lengths"]
    return np.split(samples, np.cumsum(lengths)[:-1])


def write(path: Path, utterances: Sequence[Utterance]) -> None:
    """Speak in this process and write the samples to `path`."""
    os.chdir(Path(espeakng_loader.get_data_path()).parent)  # eSpeak NG cuts the path of its data at 160 bytes
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    if library.espeak_Initialize(_SYNCHRONOUS, 0, b".", _KEEP_RUNNING) != SAMPLE_RATE:
        raise SystemExit("espeak_Initialize did not answer 22050 Hz")
    heard: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples, count, _):
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(hear)
    library.espeak_ng_SetRandSeed(0)
    spoken = []
    for utterance in utterances:
        heard.clear()
        word = utterance.word.encode()
        voice = f"{utterance.accent}+{utterance.voice}".encode()
        failed = (
            library.espeak_SetVoiceByName(voice)
            or library.espeak_SetParameter(_RATE, utterance.rate, 0)
            or library.espeak_SetParameter(_PITCH, utterance.pitch, 0)
            or library.espeak_Synth(word, len(word) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        )
        if failed or not heard:
            raise SystemExit(f"{utterance} gave no sound")
        spoken.append(np.concatenate(heard))
    np.savez(path, samples=np.concatenate(spoken), lengths=np.array([len(samples) for samples in spoken]))


if __name__ == "__main__":
    write(Path(sys.argv[1]), [Utterance(**fields) for fields in json.load(sys.stdin)])
