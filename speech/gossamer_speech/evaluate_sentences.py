"""From sentences to error rates: a dictionary learned without labels, read letter by letter, fold by fold."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gossamer_speech import ctc, evaluate, learning, letters, sentences
from gossamer_speech.config import Config
from gossamer_speech.evaluate import Fold, Heard, Log
from gossamer_speech.patches import Features
from gossamer_speech.reading import Examples
from gossamer_speech.recogniser import Transcriber
from gossamer_speech.sentences import Sentence


def learn(
    config: Config, heard: Heard, train: np.ndarray, log: Log
) -> tuple[Transcriber, learning.Trained, Examples, None]:
    """A transcriber of the marked words; there are no examples."""
    words, chosen = heard.words, torch.from_numpy(train)
    trained = learning.learn(config, evaluate.sample(heard.clean()[chosen], heard.shape, config.seed), log)
    body = Features(trained.encoder, heard.shape)
    more = sentences.synthetic(words, config.synthetic, config.seed) if config.synthetic else []
    transcriber, masking, seconds = ctc.train(config, body, words, train, more, log)
    trained = replace(trained, masking=masking or trained.masking, seconds=trained.seconds + seconds)
    return transcriber, trained, Examples(torch.empty(0, 0), words.labels[:0], words.speakers[:0]), None


def fold(config: Config, heard: Heard, test: np.ndarray, log: Log = lambda line: None) -> Fold:
    """Learn from what is not marked, and transcribe what is: each test word once, in sentences of one speaker.

    Accuracy is 100 less the word error rate, and at least 0: substituted, missing and additional words of the most
    probable sentence of known words. The `spelt` rates and those of characters are of what beam or best symbols spell.
    """
    words = heard.words
    transcriber, trained, _, _ = learn(config, heard, ~test, log)
    tests = sentences.joined(words, test, np.random.default_rng(config.seed))
    noises = [
        ("clean", config.noise, config.snr),
        *((evaluate.named(*noise), *noise) for noise in evaluate.tested(config)),
    ]
    accuracy, extra = {}, {}
    speakers: dict[str, float] = {}
    for name, kind, snr in noises:
        draw = np.random.default_rng(config.seed)
        posteriors = [transcriber.posteriors(sound) for sound in sentences.degraded(tests, kind, snr, words.rate, draw)]
        spelt = [letters.decoded(p, transcriber.symbols) for p in posteriors]
        found = [letters.read(p, transcriber.symbols, words.names) for p in posteriors]
        said = [sentence.text for sentence in tests]
        wrong, _ = sentences.errors(said, found)
        accuracy[name] = right(wrong)
        if name == "clean":
            greedy = sentences.errors(said, [letters.decoded(p, transcriber.symbols, 1) for p in posteriors])
            speakers = _by_speaker(tests, found, words.speaker_names)
            beam = sentences.errors(said, spelt)
            extra |= {"word_error_rate": wrong, "spelt_word_error_rate": beam[0], "character_error_rate": beam[1]}
            extra |= {"greedy_spelt_word_error_rate": greedy[0], "greedy_character_error_rate": greedy[1]}
    return Fold(accuracy, speakers, transcriber, trained, extra)


def right(wrong: float) -> float:
    """Word accuracy in percent of a word error rate."""
    return max(0.0, 100 - wrong)


def _by_speaker(tests: Sequence[Sentence], found: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The word accuracy of each speaker."""
    accuracies = {}
    for speaker in sorted({sentence.speaker for sentence in tests}):
        own = [i for i, sentence in enumerate(tests) if sentence.speaker == speaker]
        accuracies[names[speaker]] = right(sentences.errors([tests[i].text for i in own], [found[i] for i in own])[0])
    return accuracies
