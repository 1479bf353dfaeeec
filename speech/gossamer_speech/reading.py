"""Readers of features: ridge and logistic regression, whose settings other speakers choose, and nearest neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gossamer_speech.encoders import linear

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SHARPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0)
NEVER = -1e9  # the score of a word that was not learned


@dataclass(frozen=True)
class Examples:
    """Features (n, width), labels (n,) and speakers (n,) of some words."""

    features: Tensor
    labels: np.ndarray
    speakers: np.ndarray

    @classmethod
    def of(cls, parts: "Sequence[Examples]") -> "Examples":
        """Those of all parts."""
        labels, speakers = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "speakers"))
        return cls(torch.cat([part.features for part in parts]), labels, speakers)

    def only(self, which: np.ndarray) -> "Examples":
        """Those that are marked."""
        return Examples(self.features[torch.from_numpy(which)], self.labels[which], self.speakers[which])


@dataclass(frozen=True)
class Space:
    """Features less their mean, over the root of their deviation: half way between raw and standardised."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Space":
        """The space of the training features; a feature that never varies has weight zero in every fit."""
        deviation = features.std(0, unbiased=False)
        overall = deviation.mean().clamp_min(1e-12)
        return cls(features.mean(0), (deviation + 0.01 * overall).mul(overall).sqrt() * features.shape[1] ** 0.5)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n, width) in this space."""
        return (features - self.mean) / self.scale


def targets(labels: np.ndarray, classes: int) -> Tensor:
    """+1 for a word's own class and −1 for the others, (n, classes)."""
    return 2.0 * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes) - 1.0


def weights(gram: Tensor, aims: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Dual ridge regression on a Gram matrix (n, n): a (n, classes) whose columns sum to zero, and the aims' mean.

    The penalty is relative to the mean of the centred Gram matrix's diagonal. The prediction for products k (m, n) with
    the training words, less the columns' mean, is k a + mean.
    """
    mean = gram.mean(0)
    centred = gram - mean - mean[:, None] + mean.mean()
    centred.diagonal().add_(10 * penalty * centred.diagonal().mean().clamp_min(1e-12))
    dual = torch.cholesky_solve(aims - aims.mean(0), torch.linalg.cholesky(centred))
    return dual - dual.mean(0), aims.mean(0) - mean @ (dual - dual.mean(0))


def folds(speakers: np.ndarray, most: int = 6) -> list[np.ndarray]:
    """Marks of what is held out in turn: each speaker's words where there are few, or a share of all speakers."""
    names = np.unique(speakers)
    if len(names) < 2:
        return [np.arange(len(speakers)) % 5 == i for i in range(5)]
    groups = [names] if len(names) == 1 else np.array_split(names, min(len(names), most if len(names) <= most else 5))
    return [np.isin(speakers, group) for group in groups]


@dataclass(frozen=True)
class Fit:
    """A linear reader; the penalty that other speakers chose and their accuracy in percent under it.

    `again` learns from the marked training words alone, with the same penalty.
    """

    classifier: nn.Linear
    penalty: float
    held_out: float
    again: Callable[[np.ndarray], nn.Linear]
    sharpness: float = 1.0


def ridge(train: Examples, classes: int, more: Examples | None = None) -> Fit:
    """One-against-all ridge regression; its penalty does best on speakers left out of the training ones in turn.

    `more` are learned from, too, but in the choice of the penalty: words in noise, words of synthetic voices.
    """
    space = Space.of(train.features)
    points = space(train.features)
    gram, aims = points @ points.T, targets(train.labels, classes)
    scores = {penalty: torch.zeros(len(points), classes) for penalty in PENALTIES}
    for held in folds(train.speakers):
        own, other = torch.from_numpy(held), torch.from_numpy(~held)
        if not len(np.unique(train.labels[~held])) > 1:
            continue
        for penalty in PENALTIES:
            dual, offset = weights(gram[other][:, other], aims[other], penalty)
            scores[penalty][own] = gram[own][:, other] @ dual + offset
    labels = torch.from_numpy(train.labels)
    rights = {penalty: 100 * float((s.argmax(1) == labels).float().mean()) for penalty, s in scores.items()}
    penalty = max(rights, key=lambda penalty: rights[penalty])
    losses = [
        float(nn.functional.cross_entropy(sharpness * scores[penalty], labels.long())) for sharpness in SHARPNESSES
    ]

    def reader(points: Tensor, gram: Tensor, aims: Tensor) -> nn.Linear:
        dual, offset = weights(gram, aims, penalty)
        weight = (points.T @ dual / space.scale[:, None]).T
        return linear(weight, offset - weight @ space.mean)

    def again(which: np.ndarray) -> nn.Linear:
        own = torch.from_numpy(which)
        return reader(points[own], gram[own][:, own], aims[own])

    if more is None:
        classifier = reader(points, gram, aims)
    else:
        every = torch.cat([points, space(more.features)])
        classifier = reader(every, every @ every.T, torch.cat([aims, targets(more.labels, classes)]))
    return Fit(classifier, penalty, rights[penalty], again, SHARPNESSES[int(np.argmin(losses))])


def logistic(train: Examples, classes: int, more: Examples | None = None) -> Fit:
    """Multinomial logistic regression, its penalty chosen as `ridge` does, in coordinates of the words' span."""
    from sklearn.linear_model import LogisticRegression

    space = Space.of(train.features)
    every = train if more is None else Examples.of([train, more])
    points, labels, speakers = space(every.features), every.labels, every.speakers
    values, vectors = torch.linalg.eigh((points @ points.T).double())
    kept = values > 1e-9 * values[-1]
    basis = (points.T.double() @ vectors[:, kept] / values[kept].sqrt()).float()  # orthonormal, (width, rank)
    coordinates = (points @ basis).numpy()
    rights = {}
    for strength in (1.0, 10.0, 100.0):
        right = 0
        for held in folds(speakers, 3):
            model = LogisticRegression(C=strength, max_iter=200).fit(coordinates[~held], labels[~held])
            right += int((model.predict(coordinates[held]) == labels[held]).sum())
        rights[strength] = 100 * right / len(labels)
    strength = max(rights, key=lambda strength: rights[strength])

    def reader(which: np.ndarray) -> nn.Linear:
        model = LogisticRegression(C=strength, max_iter=200).fit(coordinates[which], labels[which])
        found, bias = np.asarray(model.coef_, np.float32), np.asarray(model.intercept_, np.float32)
        if len(found) == 1:  # two classes: scikit-learn keeps the difference alone
            found, bias = np.concatenate([-found, found]) / 2, np.concatenate([-bias, bias]) / 2
        full, offsets = np.zeros((classes, found.shape[1]), np.float32), np.full(classes, NEVER, np.float32)
        full[model.classes_], offsets[model.classes_] = found, bias
        weight = (torch.from_numpy(full) @ basis.T) / space.scale
        return linear(weight, torch.from_numpy(offsets) - weight @ space.mean)

    def again(which: np.ndarray) -> nn.Linear:
        return reader(np.flatnonzero(which))

    return Fit(reader(np.arange(len(labels))), 1 / strength, rights[strength], again)


class Neighbours(nn.Module):
    """The sum of the cosines of the `k` nearest training words, by class: (n, width) → (n, classes)."""

    def __init__(self, features: Tensor, labels: np.ndarray, classes: int, k: int = 5) -> None:
        super().__init__()
        self.space, self.k = Space.of(features), k
        self.points = nn.functional.normalize(self.space(features), dim=1)
        self.aims = (targets(labels, classes) + 1) / 2

    def forward(self, features: Tensor) -> Tensor:
        """The scores."""
        cosines, nearest = (nn.functional.normalize(self.space(features), dim=1) @ self.points.T).topk(self.k)
        return (cosines[:, :, None] * self.aims[nearest]).sum(1)


def percent(scores: Tensor, labels: np.ndarray) -> float:
    """Percent of words whose own class has the highest score."""
    return 100 * float((scores.argmax(1).numpy() == labels).mean())


def interval(accuracies: Sequence[float]) -> tuple[float, float]:
    """The 95% confidence interval of a mean over speakers (Student's t), within [0, 100]; both ends equal for one."""
    from scipy.stats import t

    values = np.asarray(accuracies, float)
    if len(values) < 2:
        return float(values.mean()), float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return max(0.0, float(values.mean()) - half), min(100.0, float(values.mean()) + half)


def strangers(
    train: Examples, which: np.ndarray, test: Examples, classes: int, fit: Fit
) -> tuple[np.ndarray, np.ndarray]:
    """The highest probabilities of test words that a reader of the marked training words knows, and of those that it
    does not: each of up to ten words is left out of what it learns from in turn."""
    known, unknown = [], []
    for left_out in range(min(classes, 10)):
        scores = fit.again(which & (train.labels != left_out))(test.features)
        scores[:, left_out] = -torch.inf
        top, strange = (fit.sharpness * scores).softmax(1).amax(1).numpy(), test.labels == left_out
        known.append(top[~strange])
        unknown.append(top[strange])
    return np.concatenate(known), np.concatenate(unknown)


def threshold(train: Examples, classes: int, fit: Fit) -> float:
    """The probability below which a word counts as unknown, chosen on words and speakers that a reader never learned.

    A third of the speakers is left out, and each word in turn; what keeps known words of these speakers apart from the
    left-out one best (half the sum of both shares) is the threshold.
    """
    if classes < 3:
        return 0.0
    held = folds(train.speakers, 3)[0]
    known, unknown = strangers(train, ~held, train.only(held), classes, fit)
    if not (len(known) and len(unknown)):
        return 0.0
    cuts = np.quantile(np.concatenate([known, unknown]), np.linspace(0, 1, 101))
    return float(max(cuts, key=lambda cut: (known >= cut).mean() + (unknown < cut).mean()))
