"""Sparse word embeddings learned from the docstrings, each dimension shown with its top words.

python -m gossamer_nlp.words
python -m gossamer_nlp.words --codes 400 --active 8 --shown 40
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

import gossamer as gs
from gossamer.nn import SparseAutoencoder, TopK
from gossamer_nlp import docstrings
from gossamer_nlp.data import PACKAGES, part
from gossamer_nlp.text import sections, terms

LEFT_OUT = ("code", "references")
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    """Sparse word embeddings: what they are learned from, and how large they are."""

    data: str = "docstrings"
    """docstrings (of numpy, scipy, sklearn, networkx) or docstrings-all (torch, sympy, numba, joblib too)"""
    words: int = 3000
    """the most frequent words, of three letters or more"""
    window: int = 5
    """words on either side that count as the context"""
    dense: int = 100
    """dimensions of the dense embeddings that are coded"""
    codes: int = 200
    """dimensions of the sparse embeddings"""
    active: int = 4
    """non-zero dimensions of a word, at most"""
    steps: int = 300
    """of the autoencoder's training, each on all words"""
    top: int = 8
    """words that stand for a dimension"""
    shown: int = 20
    """dimensions printed, the most coherent first"""
    seed: int = 1
    """of the autoencoder"""

    def __post_init__(self) -> None:
        if self.data not in PACKAGES:
            raise gs.InputError(f"data is {self.data!r}; it must be one of {', '.join(PACKAGES)}.")
        for name in ("words", "window", "dense", "codes", "active", "steps", "shown"):
            if getattr(self, name) < 1:
                raise gs.InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.dense >= self.words:
            raise gs.InputError(f"dense is {self.dense}; it must be below the number of words, {self.words}.")
        if self.top < 2:
            raise gs.InputError(f"top is {self.top}; coherence needs at least 2 words.")


def prose(item: docstrings.Docstring) -> str:
    """The text of a docstring, without code and references."""
    parts = [text for field, text in sections(item.rest) if field not in LEFT_OUT]
    return "\n".join((item.summary, *parts))


def vocabulary(found: Sequence[Sequence[str]], size: int) -> list[str]:
    """The most frequent words of three letters or more, most frequent first, ties by the alphabet."""
    counts = Counter(term for text in found for term in text if len(term) >= 3 and term.isalpha())
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


def ppmi(found: Sequence[Sequence[str]], words: Sequence[str], window: int) -> scipy.sparse.csr_array:
    """max(0, log P(w, c) / (P(w) P(c)^¾)), over words at most `window` apart (words, words); unknown words take room.

    Contexts are smoothed as Levy et al. (2015) advise: P(c)^¾ is normalised to sum to 1.
    """
    number = {word: i for i, word in enumerate(words)}
    gap = [-1] * window  # no window reaches from one text into the next
    stream = np.array([i for text in found for i in (*(number.get(term, -1) for term in text), *gap)])
    counts = scipy.sparse.csr_array((len(words), len(words)))
    for distance in range(1, window + 1):
        left, right = stream[:-distance], stream[distance:]
        both = (left >= 0) & (right >= 0)
        pairs = scipy.sparse.coo_array((np.ones(both.sum()), (left[both], right[both])), shape=counts.shape)
        counts = counts + pairs + pairs.T
    counts = scipy.sparse.coo_array(counts)
    rows, columns = counts.coords
    own = np.bincount(rows, counts.data, len(words))
    smoothed = own**0.75 / (own**0.75).sum()
    information = np.log(counts.data / (own[rows] * smoothed[columns]))
    return scipy.sparse.csr_array((np.maximum(information, 0), (rows, columns)), shape=counts.shape)


def dense_embeddings(matrix: scipy.sparse.csr_array, dimensions: int) -> Matrix:
    """U √S of the truncated singular value decomposition, rows of unit length (words, dimensions)."""
    left, values, _ = randomized_svd(matrix, n_components=dimensions, random_state=0)
    embeddings = left * np.sqrt(values)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def sparse_embeddings(dense: Matrix, config: Config) -> tuple[Matrix, float]:
    """The codes of a TopK autoencoder of the dense embeddings (words, codes), and the variance they explain.

    Like SPINE (Subramanian et al. 2018), codes are non-negative; the k largest stay instead of a penalty. Codes that no
    word uses are revived by the auxiliary loss of Gao et al. (2024).
    """
    generator = torch.Generator().manual_seed(config.seed)
    x = torch.from_numpy(dense).float()
    model = SparseAutoencoder(x.shape[1], config.codes, TopK(config.active), generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(config.steps):
        reconstruction, codes = model(x)
        dead = (codes > 0).sum(0) < config.top
        loss = (x - reconstruction).square().sum(1).mean()
        loss = loss + model.auxiliary_loss(x, reconstruction, dead, config.active) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.normalize()
    with torch.no_grad():
        reconstruction, codes = model(x)
        return codes.double().numpy(), gs.nn.explained_variance(x, reconstruction)


def top_words(embeddings: Matrix, count: int) -> NDArray[np.int64]:
    """The words with the largest values of each dimension in which as many are positive (dimensions, count)."""
    used = embeddings[:, (embeddings > 0).sum(0) >= count]
    return np.argsort(-used, axis=0, kind="stable")[:count].T


def coherence(groups: NDArray[np.int64], presence: scipy.sparse.csr_array) -> Matrix:
    """The mean NPMI of the pairs of each group of words (groups,), in [−1, 1] (Bouma 2009; Lau et al. 2014).

    npmi(a, b) = log(p(a, b) / p(a) p(b)) / −log p(a, b), −1 where a and b never meet, 1 where neither comes alone;
    p are shares of documents; presence (documents, words) is 1 where the document holds the word.
    """
    used, position = np.unique(groups, return_inverse=True)
    held = presence[:, used]
    together = (held.T @ held).toarray() / (len(presence.indptr) - 1)
    alone = np.diag(together)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log(together / np.outer(alone, alone)) / -np.log(together)
    scores = np.where(together == 0, -1.0, np.where(together == 1, 1.0, scores))
    first, second = np.triu_indices(groups.shape[1], 1)
    position = position.reshape(groups.shape)
    return scores[position[:, first], position[:, second]].mean(1)


def presence(found: Sequence[Sequence[str]], words: Sequence[str]) -> scipy.sparse.csr_array:
    """1 where a text holds a word (texts, words)."""
    number = {word: i for i, word in enumerate(words)}
    held = [sorted({number[term] for term in text if term in number}) for text in found]
    pointers = np.cumsum([0, *map(len, held)])
    columns = np.array([i for own in held for i in own], np.int64)
    return scipy.sparse.csr_array((np.ones(len(columns)), columns, pointers), shape=(len(found), len(words)))


@dataclass(frozen=True)
class Words:
    """Sparse word embeddings and what they are worth: `groups` are the top words of each dimension, `scores` their
    coherence in held-out text; `others` the mean coherence of what they are compared with.
    """

    words: list[str]
    embeddings: Matrix
    groups: NDArray[np.int64]
    scores: Matrix
    others: dict[str, float]
    explained: float


def learn(config: Config, split: str = "test") -> Words:
    """Sparse embeddings of the words of the training part's modules, their coherence measured in those of `split`."""
    items = docstrings.corpus(PACKAGES[config.data])
    seen = [terms(prose(item)) for item in items if part(item.module) == "train"]
    held_out = [terms(prose(item)) for item in items if part(item.module) == split]
    words = vocabulary(seen, config.words)
    dense = dense_embeddings(ppmi(seen, words, config.window), config.dense)
    sparse, explained = sparse_embeddings(dense, config)
    present = presence(held_out, words)
    groups = top_words(sparse, config.top)
    chance = np.random.default_rng(config.seed).permuted(np.tile(np.arange(len(words)), (200, 1)), axis=1)
    others = {
        "dense dimensions": float(coherence(top_words(dense, config.top), present).mean()),
        "random words": float(coherence(chance[:, : config.top], present).mean()),
    }
    return Words(words, sparse, groups, coherence(groups, present), others, explained)


def main() -> None:
    """Learn the embeddings that the command line asks for, and print their dimensions."""
    import tyro
    from rich.console import Console
    from rich.table import Table

    from gossamer.cli import plain_errors

    with plain_errors():
        config = tyro.cli(Config, description=__doc__)
        torch.set_num_threads(1)
        found = learn(config)
        table = Table("dimension", "NPMI", "top words")
        for dimension in np.argsort(-found.scores, kind="stable")[: config.shown]:
            words = ", ".join(found.words[i] for i in found.groups[dimension])
            table.add_row(str(dimension), f"{found.scores[dimension]:.2f}", words)
        console = Console()
        console.print(table)
        active = (found.embeddings > 0).sum(1).mean()
        console.print(
            f"{len(found.words)} words, {active:.1f} of {config.codes} dimensions active, "
            f"{found.explained:.1%} of the dense embeddings' variance explained"
        )
        others = ", ".join(f"{name} {value:.3f}" for name, value in found.others.items())
        console.print(f"mean NPMI of top words in held-out text: sparse dimensions {found.scores.mean():.3f}, {others}")


if __name__ == "__main__":
    main()
