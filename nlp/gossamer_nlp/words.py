"""Learn sparse word embeddings, from your own files or from given vectors, and show what each dimension means.

gossamer nlp words FOLDER
gossamer nlp words FOLDER --save words.gossamer --method spine
gossamer nlp words --vectors glove.6B.300d.txt --active 45 --export sparse.txt
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from tyro.conf import Positional

from gossamer import InputError
from gossamer.errors import at_least, one_of
from gossamer_nlp import arrays
from gossamer_nlp.cooccurrence import factorised, numbered, ppmi, unit
from gossamer_nlp.text import Analyzer
from gossamer_nlp.wordcodes import METHODS, Method, codes

FORMAT = 1


@dataclass(frozen=True)
class SparseWords:
    """Words and their sparse vectors: `matrix` (words, dimensions), CSR, non-negative, few non-zeros a row."""

    words: list[str]
    matrix: scipy.sparse.csr_array

    def __getitem__(self, word: str) -> NDArray[np.float32]:
        """The vector of a word (dimensions,); `InputError` where it is not known."""
        return self.matrix[[self._number(word)]].toarray()[0]

    def __contains__(self, word: str) -> bool:
        return word in self.words

    @property
    def dimensions(self) -> int:
        """How many numbers a word's vector has."""
        return cast(tuple[int, int], self.matrix.shape)[1]

    def _number(self, word: str) -> int:
        from gossamer.errors import nearest

        if word not in self.words:
            near = nearest(word, map(str, self.words))
            raise InputError(f"the word {word!r} is not among the {len(self.words)}{near}.")
        return self.words.index(word)

    def top(self, dimension: int, count: int = 10) -> list[str]:
        """The words with the largest values of a dimension, largest first: what it means."""
        column = self.matrix[:, [dimension]].toarray()[:, 0]
        order = np.argsort(-column, kind="stable")[:count]
        return [self.words[i] for i in order if column[i] > 0]

    def meanings(self, word: str, count: int = 5) -> list[tuple[int, float, list[str]]]:
        """The largest dimensions of a word, with its values and their top words."""
        vector = self[word]
        order = np.argsort(-vector, kind="stable")[:count]
        return [(int(d), float(vector[d]), self.top(int(d))) for d in order if vector[d] > 0]

    def similar(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words with the largest cosine, without the word itself."""
        norms = np.sqrt(np.asarray(self.matrix.multiply(self.matrix).sum(1)).ravel())
        number = self._number(word)
        products = (self.matrix @ self.matrix[[number]].toarray()[0]) / np.maximum(norms * norms[number], 1e-12)
        products[number] = -np.inf
        order = np.argsort(-products, kind="stable")[:count]
        return [(self.words[i], float(products[i])) for i in order]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically; `load_words` reads it."""
        found = {
            "words": np.frombuffer("\n".join(self.words).encode("utf-8", "surrogatepass"), np.uint8),
            "values": self.matrix.data.astype(np.float32),
            "columns": self.matrix.indices.astype(np.uint32),
            "pointers": self.matrix.indptr.astype(np.int64),
        }
        arrays.write(Path(path), found, {"kind": "words", "format": FORMAT, "dimensions": self.dimensions})

    def keyed_vectors(self):
        """The embeddings as gensim's `KeyedVectors`, dense."""
        try:
            from gensim.models import KeyedVectors
        except ModuleNotFoundError as error:
            raise InputError("KeyedVectors need gensim; type: pip install gensim") from error
        found = KeyedVectors(self.dimensions)
        found.add_vectors(self.words, self.matrix.toarray())
        return found


def load_words(path: str | Path) -> SparseWords:
    """The embeddings in a file of `SparseWords.save`; `InputError` where it is none, or damaged."""
    try:
        found, about = arrays.open_mapped(Path(path))
        if about["kind"] != "words" or about["format"] > FORMAT:
            raise InputError(
                f"{path} holds {about['kind']} of format {about['format']}; give a file of nlp words --save."
            )
        words = found["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")
        parts = (found["values"], found["columns"].astype(np.int64), found["pointers"])
        matrix = scipy.sparse.csr_array(parts, (len(words), about["dimensions"]))
        matrix.check_format()
        return SparseWords(words, matrix)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error!r}); make it again.") from error


def vocabulary(texts: Iterable[Sequence[str]], size: int) -> list[str]:
    """The most frequent words of three letters or more, most frequent first, ties by the alphabet."""
    counts = Counter(term for text in texts for term in text if len(term) >= 3 and term.isalpha())
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


@dataclass(frozen=True)
class Options:
    """What sparse word embeddings are made from, and how large they are."""

    folder: Positional[Path | None] = None
    """the folder of files to learn from; without it, and without vectors, the docstrings of installed packages"""
    vectors: Path | None = None
    """dense vectors to make sparse instead, in the format of word2vec (text or binary), GloVe or fastText"""
    method: Method = "topk"
    """topk (an autoencoder that keeps the k largest), spine (with penalties), coding (dictionary learning),
    frame (random directions: truest to the dense similarities, its dimensions mean nothing)"""
    words: int = 5000
    """the most frequent words, or the first of the vectors"""
    window: int = 5
    """words on either side that count as the context"""
    dense: int = 128
    """dimensions of the dense embeddings that are made sparse"""
    dimensions: int = 512
    """of the sparse embeddings"""
    active: int = 12
    """dimensions of a word above 0, at most"""
    epochs: int = 60
    """passes over the words"""
    shown: int = 10
    """dimensions printed, those with the largest values"""
    seed: int = 1
    """of the training"""
    similarity: tuple[Path, ...] = ()
    """files of judged pairs of words, such as WordSim-353 and SimLex-999, to measure both embeddings by"""
    save: Path | None = None
    """file to keep the embeddings in"""
    export: Path | None = None
    """file in word2vec's text format, which gensim reads"""

    def __post_init__(self) -> None:
        one_of(METHODS, method=self.method)
        at_least(1, window=self.window, dense=self.dense, active=self.active, epochs=self.epochs)
        at_least(2, words=self.words, dimensions=self.dimensions)
        at_least(0, shown=self.shown)


def learn(texts: Sequence[Sequence[str]], options: Options) -> SparseWords:
    """Sparse embeddings of the words of texts: PPMI, factorised (Levy & Goldberg 2014), then sparse codes."""
    return sparse(*learn_dense(texts, options), options)


def learn_dense(texts: Sequence[Sequence[str]], options: Options) -> tuple[list[str], NDArray[np.float32]]:
    """The words of texts, and their dense embeddings."""
    words = vocabulary(texts, options.words)
    if len(words) < 10:
        raise InputError(f"the texts hold {len(words)} different words; ten are the least to learn embeddings from.")
    matrix = ppmi(numbered(texts, words, options.window), len(words), options.window)
    return words, factorised(matrix, options.dense)


def sparse(words: list[str], dense: NDArray[np.float32], options: Options) -> SparseWords:
    """Sparse embeddings of words with dense vectors, which are centred and brought to unit length first."""
    centred = unit(dense - dense.mean(0)) if options.vectors else dense
    found = codes(centred, options.dimensions, options.active, options.method, options.epochs, options.seed)
    return SparseWords(words, scipy.sparse.csr_array(found))


def texts_of(folder: Path | None) -> list[list[str]]:
    """The words of each document of a folder, or of each docstring, unstemmed."""
    analyzer = Analyzer("none")
    if folder is None:
        from gossamer_nlp import docstrings
        from gossamer_nlp.data import PACKAGES

        names = tuple(name for split in PACKAGES["docstrings"].values() for name in split)
        return [analyzer.terms(f"{item.summary}\n{item.rest}") for item in docstrings.corpus(names)]
    from gossamer.paths import folder as existing_folder
    from gossamer_nlp.readers import read_folder

    existing_folder(folder, "a folder of files to learn from")
    return [analyzer.terms(f"{entry['title']}\n{entry['text']}") for entry in read_folder(folder)]


def main(options: Options) -> None:
    """Learn the embeddings, keep them where asked, and print dimensions with their top words."""
    from rich.console import Console
    from rich.table import Table

    from gossamer.threads import use_threads
    from gossamer_nlp.similarity import intrusion, read_pairs, spearman
    from gossamer_nlp.vectors import read, write

    use_threads(1)
    judged = [(path.name, read_pairs(path)) for path in options.similarity]
    if options.vectors:
        words, dense = read(options.vectors, options.words)
    else:
        words, dense = learn_dense(texts_of(options.folder), options)
    found = sparse(words, dense, options)
    if options.save:
        found.save(options.save)
    if options.export:
        write(options.export, found.words, found.matrix.toarray())
    table = Table("dimension", "top words")
    mass = np.asarray(found.matrix.sum(0)).ravel()
    for dimension in np.argsort(-mass, kind="stable")[: options.shown].tolist():
        table.add_row(str(dimension), ", ".join(found.top(dimension)))
    console = Console()
    console.print(table)
    console.print(
        f"{len(found.words)} words, {found.matrix.nnz / len(found.words):.1f} of {found.dimensions} dimensions active"
    )
    codes = found.matrix.toarray()
    if not np.isnan(told := intrusion(codes, dense, options.seed)):
        console.print(f"an intruder is told from the words of {told:.0%} of the dimensions")
    for name, pairs in judged:
        own, source = spearman(words, codes, pairs), spearman(words, dense, pairs)
        console.print(
            f"{name}: Spearman {own.rho:.3f}, dense {source.rho:.3f}, over {own.known} of {own.pairs} pairs",
            highlight=False,
        )


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("nlp", "words")
