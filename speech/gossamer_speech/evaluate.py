"""From words to numbers: features learned and read fold by fold, in quiet and in noise, and what codes are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.nn import SparseAutoencoder, explained_variance
from gossamer_speech import espeak, few, learning, noise, reading
from gossamer_speech.config import Config
from gossamer_speech.data import Words, spoken
from gossamer_speech.encoders import linear
from gossamer_speech.patches import Features, Shape
from gossamer_speech.reading import Examples, Fit
from gossamer_speech.recogniser import Beside, Recogniser, Transcriber, summed

PATCHES = 50_000  # of the training words, that a dictionary is learned from
FEW = (1, 5, 10)  # labelled words a class, where the other training words have none
SIZES = (*FEW, 25, 100)  # labelled words a class, where there are no others
Log = Callable[[str], None]


def splits(words: Words, split: str) -> list[np.ndarray]:
    """Marks of the test words of each fold."""
    if split == "official":
        if words.official is None:
            raise gs.InputError("split is 'official', but this data set has no split of its own; choose speaker.")
        return [words.official]
    return reading.folds(words.speakers)


def tested(config: Config) -> list[tuple[str, float]]:
    """The noises that words not heard in training are recognised in, too; none where all words are in noise."""
    levels = [(kind, level) for kind in ("white", "babble") for level in config.levels]
    return [*levels, ("reverberation", 0.0)] if config.noise == "none" else []


def named(kind: str, snr: float) -> str:
    """What a result calls a noise of `tested`."""
    return kind if kind == "reverberation" else f"{kind} {snr:g} dB"


class Heard:
    """Images of all words, made when asked for and kept.

    `groups` (n,) numbers the part of each word, which it is tested with: babble is of other words of the same part, so
    that no test word is heard in training.
    """

    def __init__(self, words: Words, config: Config, shape: Shape, folds: Sequence[np.ndarray]) -> None:
        self.words, self.config, self.shape = words, config, shape
        self.groups = sum(number * test for number, test in enumerate(folds, 1))
        self.kept: dict[str, Tensor] = {}

    def clean(self) -> Tensor:
        """All words as the configuration has them, (n, views, LENGTH, mels)."""
        return self._all("clean", lambda which: self.noisy(which, self.config.noise, self.config.snr))

    def varied(self) -> Tensor:
        """All words once more, each in white noise or babble, from 0 to 20 dB."""
        return self._all("varied", self._varied)

    def synthetic(self) -> Tensor:
        """The words' names as eSpeak NG's voices say them, one word after another, (n, views, LENGTH, mels)."""
        if not self.config.synthetic:
            return self.clean()[:0]
        if "synthetic" not in self.kept:
            script = espeak.everyone(self.words.names, self.config.synthetic)
            sounds = [sound.astype(np.float32) / 32768 for sound in spoken(script, self.words.rate)]
            self.kept["synthetic"] = self.shape.images(sounds)
        return self.kept["synthetic"]

    def noisy(self, which: np.ndarray, kind: str, snr: float) -> list[np.ndarray]:
        """Samples of the given words of one part in noise; babble is of others among them."""
        draw, sounds = np.random.default_rng(self.config.seed), list(self.words.chosen(which))
        return [noise.degraded(sound, kind, snr, self.words.rate, sounds, draw) for sound in sounds]

    def _varied(self, which: np.ndarray) -> list[np.ndarray]:
        draw, sounds = np.random.default_rng(self.config.seed), list(self.words.chosen(which))
        kinds, levels = draw.choice(["white", "babble"], len(sounds), p=[0.3, 0.7]), draw.uniform(0, 20, len(sounds))
        rows = zip(sounds, kinds, levels, strict=True)
        return [noise.degraded(s, k, level, self.words.rate, sounds, draw) for s, k, level in rows]

    def _all(self, name: str, sounds: Callable[[np.ndarray], list[np.ndarray]]) -> Tensor:
        if name not in self.kept:
            parts = [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]
            images = torch.cat([self.shape.images(sounds(part)) for part in parts])
            self.kept[name] = images[torch.from_numpy(np.argsort(np.concatenate(parts)))]
        return self.kept[name]


@torch.inference_mode()
def features(body: nn.Module, images: Tensor, batch: int = 100) -> Tensor:
    """The features (n, width) of images, some words at a time."""
    return torch.cat([body(part) for part in images.split(batch)])


@dataclass
class Fold:
    """What one fold gave: the test words' scores, in quiet and in noise, and what is shipped."""

    accuracy: dict[str, float]
    speakers: dict[str, float]
    recogniser: Recogniser | Transcriber
    trained: learning.Trained
    extra: dict[str, float]


def sample(images: Tensor, shape: Shape, seed: int) -> Tensor:
    """At most PATCHES patches (n, inputs) of whole words' images at the middle warp."""
    generator = torch.Generator().manual_seed(seed)
    middle = images[:, len(shape.lengths) // 2]
    each = shape.patches(middle[:1]).flatten(0, 2).shape[0]
    chosen = torch.randperm(len(middle), generator=generator)[: max(1, 4 * PATCHES // each)]
    patches = shape.patches(middle[chosen]).flatten(0, 2)
    return patches[torch.randperm(len(patches), generator=generator)[:PATCHES]]


def learn(
    config: Config, heard: Heard, train: np.ndarray, log: Log
) -> tuple[Recogniser, learning.Trained, Examples, Fit | None]:
    """A recogniser of the marked words; also the examples that its reader saw and how they were fitted, if linearly."""
    words, shape, chosen = heard.words, heard.shape, torch.from_numpy(train)
    images, classes = heard.clean()[chosen], len(words.names)
    if config.method.startswith("temporal"):
        return _temporal(config, heard, train, log)
    trained = learning.learn(config, sample(images, shape, config.seed), log)
    body = Features(trained.encoder, shape)
    examples = Examples(features(body, images), words.labels[train], words.speakers[train])
    more = [*_noisy(config, heard, train, body), *_synthetic(config, heard, body)]
    if config.classifier == "knn":
        every = Examples.of([examples, *more])
        neighbours = reading.Neighbours(every.features, every.labels, classes)
        return Recogniser(body, neighbours, shape, words.names), trained, examples, None
    fit = (reading.ridge if config.classifier == "ridge" else reading.logistic)(
        examples, classes, Examples.of(more) if more else None
    )
    recogniser = Recogniser(body, fit.classifier, shape, words.names)
    recogniser.sharpness = fit.sharpness
    return recogniser, trained, examples, fit


def _temporal(
    config: Config, heard: Heard, train: np.ndarray, log: Log
) -> tuple[Recogniser, learning.Trained, Examples, None]:
    """A network trained on the marked words and the synthetic ones; beside it, for temporal-topk, TopK codes read by
    ridge, whose scores times `sharpness` are logarithms of probabilities, too."""
    from gossamer_speech import temporal

    words, images, synthetic = heard.words, heard.clean()[torch.from_numpy(train)], heard.synthetic()
    classes = len(words.names)
    labels = torch.cat([torch.from_numpy(words.labels[train]), torch.arange(len(synthetic)) % classes]).long()
    body, classifier, masking, seconds = temporal.train(config, torch.cat([images, synthetic]), labels, classes, log)
    trained = learning.Trained(body, masking=masking, seconds=seconds)
    recogniser = Recogniser(body, classifier, heard.shape, words.names)
    if config.method == "temporal-topk":
        codes, own, _, fit = learn(replace(config, method="topk", classifier="ridge"), heard, train, log)
        assert fit is not None
        codes.classifier = linear(fit.sharpness * fit.classifier.weight, fit.sharpness * fit.classifier.bias)
        recogniser = summed(recogniser, codes)
        trained = replace(own, masking=masking, seconds=seconds + own.seconds)
    examples = Examples(torch.empty(len(images), 0), words.labels[train], words.speakers[train])
    return recogniser, trained, examples, None


def _noisy(config: Config, heard: Heard, train: np.ndarray, body: nn.Module) -> list[Examples]:
    """The marked words in noise, where `augment` asks for it."""
    if not config.augment:
        return []
    images = heard.varied()[torch.from_numpy(train)]
    return [Examples(features(body, images), heard.words.labels[train], heard.words.speakers[train])]


def _synthetic(config: Config, heard: Heard, body: nn.Module) -> list[Examples]:
    """The words' names by synthetic voices, a speaker of their own, where `synthetic` asks for them."""
    if not config.synthetic:
        return []
    found, classes = features(body, heard.synthetic()), len(heard.words.names)
    return [Examples(found, np.arange(len(found)) % classes, np.full(len(found), len(heard.words.speaker_names)))]


@torch.inference_mode()
def fold(config: Config, heard: Heard, test: np.ndarray, log: Log = lambda line: None) -> Fold:
    """Learn from what is not marked, and recognise what is."""
    words = heard.words
    recogniser, trained, examples, fit = _learn(config, heard, ~test, log)
    own = heard.clean()[torch.from_numpy(test)]
    found = features(recogniser.body, own)
    scores, labels = recogniser.classifier(found), words.labels[test]
    accuracy = {"clean": reading.percent(scores, labels)}
    speakers = {
        words.speaker_names[s]: reading.percent(
            scores[torch.from_numpy(words.speakers[test] == s)], labels[words.speakers[test] == s]
        )
        for s in np.unique(words.speakers[test])
    }
    for kind, snr in tested(config):
        images = heard.shape.images(heard.noisy(np.flatnonzero(test), kind, snr))
        accuracy[named(kind, snr)] = reading.percent(recogniser.classifier(features(recogniser.body, images)), labels)
    extra: dict[str, float] = {}
    if isinstance(recogniser.body, Beside):
        own = dict(zip(config.method.split("-"), found.chunk(len(recogniser.body.parts), 1), strict=True))
        extra |= {f"accuracy_of_{name}": reading.percent(part, labels) for name, part in own.items()}
    if examples.features.shape[1]:
        tests = Examples(found, labels, words.speakers[test])
        for n in SIZES:
            extra[f"accuracy_after_{n}"] = few.supervised(
                examples, tests, len(words.names), n, fit.penalty if fit else 0.01, config.seed
            )
        extra |= _self_trained(config, heard, recogniser.body, examples, tests)
        if fit:
            extra |= {"penalty": fit.penalty, **unknown(examples, tests, len(words.names), fit)}
        extra |= worth(recogniser.body, heard, test)
    if trained.autoencoder:
        patches = (sample(heard.clean()[torch.from_numpy(part)], heard.shape, config.seed) for part in (~test, test))
        extra |= dictionary(trained.autoencoder, *map(trained.before, patches))
    return Fold(accuracy, speakers, recogniser, trained, extra)


def _self_trained(config: Config, heard: Heard, body: nn.Module, train: Examples, test: Examples) -> dict[str, float]:
    """Percent of test words recognised after a few labels and self-training on the other training words; the same with
    the words' names by synthetic voices, where `synthetic` asks for them."""
    classes, found = len(heard.words.names), {}
    more = [features(body, heard.synthetic())] if config.synthetic else []
    words, tests, *synthetic = few.components(train.features, test.features, *more)
    for n in FEW:
        found[f"self_trained_after_{n}"] = few.semi_supervised(words, tests, train, test, classes, n, config.seed)
        if synthetic:
            found[f"self_trained_synthetic_after_{n}"] = few.semi_supervised(
                words, tests, train, test, classes, n, config.seed, synthetic[0]
            )
    return found


def _learn(config: Config, heard: Heard, train: np.ndarray, log: Log):
    with torch.inference_mode(False):
        return learn(config, heard, train, log)


def unknown(train: Examples, test: Examples, classes: int, fit: Fit) -> dict[str, float]:
    """Percent of test words that "?" answers where their word was not learned, and of those kept where it was; the
    threshold is chosen on the training speakers."""
    cut = reading.threshold(train, classes, fit)
    known, strange = reading.strangers(train, np.ones(len(train.labels), bool), test, classes, fit)
    shares = {"known_kept": known >= cut, "unknown_refused": strange < cut}
    return {name: 100 * float(share.mean()) for name, share in shares.items() if len(share)}


@torch.inference_mode()
def dictionary(autoencoder: SparseAutoencoder, train: Tensor, test: Tensor) -> dict[str, float]:
    """What Gao et al. (2024) ask of a dictionary: the variance it explains of patches it never saw, its active codes
    and its dead ones, the share that no training patch activates."""
    reconstruction, z = autoencoder(test)
    dead = ~(autoencoder.encode(train) > 0).any(0)
    return {
        "explained_variance": explained_variance(test, reconstruction),
        "active_codes": float((z > 0).sum(1).float().mean()),
        "dead_codes": float(dead.float().mean()),
    }


@torch.inference_mode()
def worth(body: nn.Module, heard: Heard, test: np.ndarray, most: int = 200) -> dict[str, float]:
    """How compact codes are, in bits a second of test words, and the mean purity of codes that training words activate,
    by word and by voice; `most` words of each part are looked at."""
    assert isinstance(body, Features)
    words, draw = heard.words, np.random.default_rng(heard.config.seed)
    train, own = (np.sort(draw.permutation(np.flatnonzero(part))[:most]) for part in (~test, test))
    middle = heard.clean()[:, len(heard.shape.lengths) // 2]
    codes = body.codes(middle[torch.from_numpy(own)])
    seconds = float(np.diff(words.starts)[own].sum()) / words.rate
    patches = codes.flatten(0, 2)
    if heard.config.method == "mfcc-13":  # the slopes follow from the coefficients
        patches = torch.cat([patches[:, :13], patches[:, 39:52]], 1)
    strength = body.codes(middle[torch.from_numpy(train)]).sum((1, 2))
    used = (strength > 0).any(0)
    by_word, by_voice = (purity(strength[:, used], names[train]) for names in (words.labels, words.speakers))
    return {
        "bits_a_second": float(bits(patches.numpy(), heard.config.quantise or 16) * len(patches) / seconds),
        "word_purity": float(by_word.mean()) if len(by_word) else 0.0,
        "voice_purity": float(by_voice.mean()) if len(by_voice) else 0.0,
    }


def purity(codes: Tensor, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """How much of each code's activity (n, codes) goes to the one label that it is most active for, (codes,)."""
    labels = np.asarray(labels)
    sums = torch.stack([codes[torch.from_numpy(labels == label)].mean(0) for label in np.unique(labels)])
    return (sums.amax(0) / sums.sum(0).clamp_min(1e-12)).numpy()


def bits(codes: np.ndarray, levels: int = 16) -> float:
    """Bits of a patch's code by an ideal adaptive entropy coder: each code quantised to `levels` and coded by itself.

    The empirical entropy of each code's symbols plus half a logarithm of the count for each symbol's probability.
    """
    peak = codes.max(0).clip(1e-9)
    symbols = np.ceil(codes / peak * (levels - 1) - 1e-4).astype(np.int64).clip(0)
    total, n = 0.0, len(codes)
    for column in symbols.T:
        counts = np.bincount(column, minlength=levels)
        used = counts[counts > 0]
        total += float(-(used * np.log2(used / n)).sum()) + 0.5 * (len(used) - 1) * np.log2(n)
    return total / n
