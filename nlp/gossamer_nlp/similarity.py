"""What word embeddings are worth: judged similarities of words, and whether a dimension's words belong together."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from gossamer import InputError
from gossamer_nlp.cooccurrence import unit

SCORES = ("simlex999", "human (mean)", "score", "similarity")  # names of the column of judgements, where it is named
SHOWN = 5  # words of a dimension that an intruder is hidden among


@dataclass(frozen=True)
class Similarity:
    """Spearman's ρ between judgements and cosines, over pairs whose words are both known, and how many there are."""

    rho: float
    known: int
    pairs: int


def read_pairs(path: str | Path) -> list[tuple[str, str, float]]:
    """Pairs of words and their judged similarity, from the files of WordSim-353, SimLex-999, MEN and their like.

    A pair a line, parts separated by tabs, commas or spaces: two words, then the judgement, or a column of `SCORES` in
    a first line of names. Lines that begin with # are left out; `InputError` names a line that is none.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file of judged pairs of words.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it.") from error
    found, column, first = [], 2, True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        separator = next((letter for letter in "\t,;" if letter in line), None)
        parts = [part.strip() for part in line.split(separator)]
        try:
            value = float(parts[column])
            if not np.isfinite(value):
                raise ValueError(f"{value} is not finite")
            found.append((parts[0].lower(), parts[1].lower(), value))
        except (IndexError, ValueError) as error:
            named = [part.lower() for part in parts]
            if not first:
                raise InputError(f"{path}, line {number}: not two words and a number ({error}); mend it.") from error
            column = next((named.index(name) for name in SCORES if name in named), 2)
        first = False
    if not found:
        raise InputError(f"{path} holds no pairs; give a file of lines such as 'tiger<TAB>cat<TAB>7.35'.")
    return found


def spearman(words: list[str], vectors: NDArray[np.floating], pairs: list[tuple[str, str, float]]) -> Similarity:
    """Spearman's ρ of the cosines of pairs with their judgements; nan where fewer than two pairs are known."""
    number = {word: i for i, word in enumerate(words)}
    known = [(number[a], number[b], value) for a, b, value in pairs if a in number and b in number]
    if len(known) < 2:
        return Similarity(float("nan"), len(known), len(pairs))
    a, b, values = (np.array(part) for part in zip(*known, strict=True))
    rows = unit(vectors)
    ranks = [scipy.stats.rankdata(part) for part in ((rows[a] * rows[b]).sum(1), values)]
    return Similarity(float(np.corrcoef(*ranks)[0, 1]), len(known), len(pairs))


def intrusion(codes: NDArray[np.floating], reference: NDArray[np.floating], seed: int = 0) -> float:
    """The share of dimensions in which an intruder is told from the dimension's own words.

    Among the `SHOWN` words with the largest values of a dimension, a word is hidden that is in the dimension's lower
    half and in the top tenth of another (Chang et al. 2009; Murphy et al. 2012). It counts as found where it is the
    least like the others by the mean cosine of the reference vectors, in place of a person (Lau et al. 2014). codes and
    reference: (words, ·); a dimension with fewer than `SHOWN` words is left out; nan where all are.
    """
    draw = np.random.default_rng(seed)
    rows, size = unit(reference), len(codes)
    ranks = np.argsort(np.argsort(-codes, axis=0, kind="stable"), axis=0)
    high = ranks < max(1, size // 10)
    high &= codes > 0
    found = []
    for dimension in np.flatnonzero((codes > 0).sum(0) >= SHOWN).tolist():
        own = np.flatnonzero(ranks[:, dimension] < SHOWN)
        elsewhere = high.sum(1) - high[:, dimension] > 0
        strangers = np.flatnonzero(elsewhere & (ranks[:, dimension] >= size // 2))
        if not len(strangers):
            continue
        shown = np.append(own, draw.choice(strangers))
        likeness = rows[shown] @ rows[shown].T
        found.append(int((likeness.sum(1) - 1).argmin()) == SHOWN)
    return float(np.mean(found)) if found else float("nan")
