"""Words read after a few labels of each: by ridge regression, or by self-training on the words without labels."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from gossamer_speech.reading import Examples, Space, percent, targets, weights

RANK = 300  # principal components of all training words, labelled or not, in which self-training works
ROUNDS = 8
FIRST, LATER = 0.03, 0.01  # penalties of the reader of few words and of the readers of many
Reader = Callable[[Tensor], Tensor]


def components(train: Tensor, *others: Tensor) -> list[Tensor]:
    """The first principal components (n, RANK) of training words (n, width) in `Space`, and those of others.

    No label is looked at. They come from the Gram matrix (n, n), for features are more than words.
    """
    space = Space.of(train)
    points = space(train)
    mean = points.mean(0)
    centred = points - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    kept = (values > 1e-6 * values[-1]).nonzero()[:, 0][-RANK:]
    axes = centred.T @ (vectors[:, kept] / values[kept].sqrt())
    return [(space(part) - mean) @ axes for part in (train, *others)]


def ridge(points: Tensor, labels: np.ndarray, classes: int, penalty: float) -> Reader:
    """Ridge regression of points (n, width), n large beside the width; the penalty is that of `reading.weights`."""
    aims = targets(labels, classes)
    mean, middle = points.mean(0), aims.mean(0)
    centred = points - mean
    gram = centred.T @ centred
    gram.diagonal().add_(10 * penalty * (gram.trace() / len(points)).clamp_min(1e-12))
    weight = torch.cholesky_solve(centred.T @ (aims - middle), torch.linalg.cholesky(gram))
    return lambda tests: (tests - mean) @ weight + middle


def self_trained(points: Tensor, labels: np.ndarray, classes: int, rounds: int = ROUNDS) -> Reader:
    """A reader of points (n, width) whose `labels` (n,) are −1 where they are not known (Scudder 1965; Yarowsky 1995).

    Ridge regression on the labelled words reads the others. Each of the next readers learns from the labelled words and
    from those of the others that the last one is surest of, by the label that it gave them: in round r the r / `rounds`
    of them, equally many of each class where there are so many, in the last all. Sure is whose highest score is far
    above the next. That classes are equally common is taken for granted.
    """
    known = np.flatnonzero(labels >= 0)
    unknown = np.flatnonzero(labels < 0)
    others = points[torch.from_numpy(unknown)]
    reader = ridge(points[torch.from_numpy(known)], labels[known], classes, FIRST)
    for number in range(1, rounds + 1):
        scores, guesses = reader(others).topk(2)
        lead, guessed = (scores[:, 0] - scores[:, 1]).numpy(), guesses[:, 0].numpy()
        most = -(-number * len(unknown) // (rounds * classes)) if number < rounds else len(unknown)
        groups = [np.flatnonzero(guessed == label) for label in range(classes)]
        sure = np.concatenate([own[np.argsort(-lead[own], kind="stable")][:most] for own in groups])
        chosen = torch.from_numpy(np.concatenate([known, unknown[sure]]))
        reader = ridge(points[chosen], np.concatenate([labels[known], guessed[sure]]), classes, LATER)
    return reader


def drawn(labels: np.ndarray, n: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    """The numbers of `n` words of each class, drawn anew each time."""
    draw = np.random.default_rng(seed)
    for _ in range(draws):
        order = draw.permutation(len(labels))
        yield np.concatenate([order[labels[order] == label][:n] for label in np.unique(labels)])


def supervised(
    train: Examples, test: Examples, classes: int, n: int, penalty: float, seed: int, draws: int = 5
) -> float:
    """Percent of test words recognised by ridge regression on `n` words of each class, the mean over drawings."""
    space, scores = Space.of(train.features), []
    points, tests = space(train.features), space(test.features)
    for chosen in drawn(train.labels, n, seed, draws):
        own = points[torch.from_numpy(chosen)]
        dual, offset = weights(own @ own.T, targets(train.labels[chosen], classes), penalty)
        scores.append(percent(tests @ own.T @ dual + offset, test.labels))
    return float(np.mean(scores))


def semi_supervised(
    points: Tensor,
    tests: Tensor,
    train: Examples,
    test: Examples,
    classes: int,
    n: int,
    seed: int,
    synthetic: Tensor | None = None,
    draws: int = 5,
) -> float:
    """The same by self-training on all training words, `n` of each class labelled.

    `points`, `tests` and `synthetic` are components of training words, of test words, and of words of synthetic voices,
    which say the classes in turn and are labelled, too.
    """
    more = points[:0] if synthetic is None else synthetic
    scores = []
    for chosen in drawn(train.labels, n, seed, draws):
        labels = np.concatenate([np.full(len(points), -1), np.arange(len(more)) % classes])
        labels[chosen] = train.labels[chosen]
        scores.append(percent(self_trained(torch.cat([points, more]), labels, classes)(tests), test.labels))
    return float(np.mean(scores))
