"""From codes to numbers: the linear recogniser, its accuracy, and what a dictionary of codes is worth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from torch import Tensor, nn

from gossamer.nn import SparseAutoencoder, explained_variance
from gossamer_speech.encoders import linear, pool
from gossamer_speech.features import stack

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
SCALINGS = ("each", "all")


@torch.inference_mode()
def pooled(encoder: nn.Module, words: Sequence[Tensor], segments: int) -> np.ndarray:
    """The pooled codes (words, width) of words of frames (T, 40)."""
    codes = encoder(torch.cat([stack(word) for word in words]))
    return torch.stack([pool(c, segments) for c in codes.split([-(-len(word) // 2) for word in words])]).numpy()


@dataclass(frozen=True)
class Examples:
    """Pooled codes (n, width), labels (n,) and speakers (n,) of some words."""

    codes: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray


@dataclass(frozen=True)
class Scaled:
    """Training and test codes in coordinates that make the fit cheap and change nothing else.

    x = (codes − mean) / scale; where there are more codes than words, x is replaced by its coordinates in the space
    that the training words span, which holds every solution of an L2-penalised fit (the representer theorem).
    """

    train: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray | None

    @classmethod
    def of(cls, train: np.ndarray, test: np.ndarray, scaling: str) -> "Scaled":
        """`scaling` "each" gives every code unit variance over the training words; "all" divides all by one number."""
        mean, deviation = train.mean(0), train.std(0)
        overall = np.sqrt(np.square(deviation).mean()) + np.float32(1e-12)
        varies = (deviation > 1e-4 * overall) & (scaling == "each")
        scale = np.where(varies, deviation, overall) * math.sqrt(train.shape[1])
        train, test, basis = (train - mean) / scale, (test - mean) / scale, None
        if len(train) < train.shape[1]:
            basis, coordinates = np.linalg.qr(train.T)
            basis[deviation == 0] = 0  # so that a dead code's weights are zero, not rounding errors
            train, test = coordinates.T, test @ basis
        return cls(train, test, mean, scale, basis)


@dataclass(frozen=True)
class Recognition:
    """A linear recogniser, how it was chosen, and how well it did; accuracies in percent."""

    classifier: nn.Linear
    accuracy: float
    held_out: float
    strength: float
    scaling: str
    few: dict[int, float]


def fit(
    train: np.ndarray, labels: np.ndarray, strength: float, start: LogisticRegression | None = None
) -> LogisticRegression:
    """A multinomial logistic regression with penalty ‖w‖² / (2 · strength), from the solution of `start` on."""
    model = start or LogisticRegression(max_iter=200, warm_start=True)
    model.C = strength
    return model.fit(train, labels)


def recognise(train: Examples, test: Examples, seed: int, few: Sequence[int] = (1, 5), draws: int = 5) -> Recognition:
    """Fit the recogniser on the training words and score it on the test words.

    The penalty and the scaling are those that do best on a quarter of the training speakers (of the words, where there
    are fewer than eight speakers), held out of the fit; the fit is then made anew on all. `few` also scores fits on
    that many words of each class (mean over `draws` drawings), with the same penalty and scaling.
    """
    held = held_out(train, seed)
    best = (-1.0, 0.0, "")
    spaces = {scaling: Scaled.of(train.codes, test.codes, scaling) for scaling in SCALINGS}
    for scaling, space in spaces.items():
        model = None
        for strength in STRENGTHS:
            model = fit(space.train[~held], train.labels[~held], strength, model)
            best = max(
                best, (score(model, space.train[held], train.labels[held]), strength, scaling), key=lambda b: b[0]
            )
    accuracy, strength, scaling = best
    space = spaces[scaling]
    model = fit(space.train, train.labels, strength)
    return Recognition(
        classifier=unscaled(model, space),
        accuracy=score(model, space.test, test.labels),
        held_out=accuracy,
        strength=strength,
        scaling=scaling,
        few={n: from_few(space, train.labels, test.labels, n, strength, draws, seed) for n in few},
    )


def held_out(train: Examples, seed: int) -> np.ndarray:
    """Which training words are held out: a quarter of the speakers', or of all words where there are few speakers."""
    groups = train.speakers if len(np.unique(train.speakers)) >= 8 else np.arange(len(train.labels))
    _, indices = next(GroupShuffleSplit(1, test_size=0.25, random_state=seed).split(groups, groups=groups))
    return np.isin(np.arange(len(groups)), indices)


def score(model: LogisticRegression, codes: np.ndarray, labels: np.ndarray) -> float:
    """Percent of words recognised."""
    return 100 * float(np.mean(model.predict(codes) == labels))


def from_few(
    space: Scaled, labels: np.ndarray, test_labels: np.ndarray, n: int, strength: float, draws: int, seed: int
) -> float:
    """Percent recognised after `n` words of each class (all, where it has fewer), the mean over several drawings."""
    draw, scores = np.random.default_rng(seed), []
    for _ in range(draws):
        order = draw.permutation(len(labels))
        chosen = np.concatenate([order[labels[order] == label][:n] for label in np.unique(labels)])
        scores.append(score(fit(space.train[chosen], labels[chosen], strength), space.test, test_labels))
    return float(np.mean(scores))


def unscaled(model: LogisticRegression, space: Scaled) -> nn.Linear:
    """The same classifier on codes as they come from pooling, the scaling folded into its weights."""
    weight, bias = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(weight) == 1:  # two classes: scikit-learn keeps the difference alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = (weight if space.basis is None else weight @ space.basis.T) / space.scale
    return linear(torch.from_numpy(weight).float(), torch.from_numpy(bias - weight @ space.mean).float())


@torch.inference_mode()
def dictionary(autoencoder: SparseAutoencoder, train: Tensor, test: Tensor) -> dict[str, float]:
    """What Gao et al. (2024) ask of a dictionary: the variance it explains of frames it never saw, and its dead codes.

    `dead_codes` is the share of codes that no training frame activates.
    """
    reconstruction, _ = autoencoder(test)
    dead = ~(autoencoder.encode(train) > 0).any(0)
    return {"explained_variance": explained_variance(test, reconstruction), "dead_codes": float(dead.float().mean())}


@torch.inference_mode()
def active_codes(encoder: nn.Module, frames: Tensor) -> float:
    """How many codes of a frame are not zero, in the mean."""
    return float((encoder(frames) != 0).sum(1).float().mean())
