"""Word vectors in the formats of word2vec, GloVe and fastText, read and written."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gossamer import InputError

Vectors = tuple[list[str], NDArray[np.float32]]


def read(path: str | Path, most: int | None = None) -> Vectors:
    """The words of a file and their vectors (words, dimensions): the first `most`, or all.

    Text (a word and its numbers on each line, as GloVe; with a first line of counts, as word2vec and fastText's .vec)
    or word2vec's binary format (.bin), told apart by what the file holds. A word that comes again is left out. Raises
    `InputError` naming the line, or the word, that does not fit.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            first = file.readline(2**20).rstrip(b"\r\n")
            head = first.split(b" ")
            counted = len(head) == 2 and all(part.isdigit() for part in head)
            if counted and _binary(file, int(head[1])):
                rows: Iterator[tuple[str, NDArray[np.float32]]] = _binary_rows(file, int(head[0]), int(head[1]), path)
            else:
                rows = _text_rows(file, None if counted else first, path)
            return _gathered(rows, most, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file of word vectors.") from error


def _binary(file: BinaryIO, dimensions: int) -> bool:
    """Whether what follows the counts is no text: its first line does not hold a word and that many numbers."""
    place = file.tell()
    line = file.readline(64 * dimensions + 4096)
    file.seek(place)
    try:
        parts = line.decode().split()
        _ = [float(part) for part in parts[-dimensions:]]
    except (UnicodeDecodeError, ValueError):
        return True
    return len(parts) <= dimensions


def _binary_rows(file: BinaryIO, count: int, dimensions: int, path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for number in range(count):
        word = bytearray()
        while (letter := file.read(1)) != b" ":
            if not letter or len(word) > 10_000:
                raise InputError(f"{path} ends, or is damaged, at word {number + 1} of {count}; get it again.")
            word += letter
        data = file.read(4 * dimensions)
        if len(data) < 4 * dimensions:
            raise InputError(f"{path} ends at word {number + 1} of {count}; get it again.")
        yield bytes(word).decode("utf-8", "replace").strip(), np.frombuffer(data, "<f4")


def _text_rows(file: BinaryIO, first: bytes | None, path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    dimensions, number = 0, 0 if first is not None else 1
    while True:
        line = first if first is not None else file.readline()
        first, number = None, number + 1
        if not line:
            return
        parts = line.decode("utf-8", "replace").rstrip().split(" ")
        dimensions = dimensions or len(parts) - 1
        try:
            if dimensions < 1 or len(parts) <= dimensions:
                raise ValueError(f"{len(parts) - 1} numbers, not {dimensions}")
            vector = np.array([float(part) for part in parts[-dimensions:]], np.float32)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not a word and its vector ({error}); get the file again."
            ) from error
        yield " ".join(parts[:-dimensions]), vector


def _gathered(rows: Iterator[tuple[str, NDArray[np.float32]]], most: int | None, path: Path) -> Vectors:
    found: dict[str, NDArray[np.float32]] = {}
    for word, vector in rows:
        if not np.isfinite(vector).all():
            raise InputError(
                f"{path}: the vector of {word!r} holds an infinite or undefined number; get the file again."
            )
        found.setdefault(word, vector)
        if most is not None and len(found) >= most:
            break
    if not found:
        raise InputError(f"{path} holds no word vectors.")
    return list(found), np.stack(list(found.values()))


def write(path: str | Path, words: list[str], vectors: NDArray[np.floating]) -> None:
    """Write word2vec's text format, which gensim's `KeyedVectors.load_word2vec_format` reads; no word holds a space."""
    from gossamer.paths import write_atomically

    lines = [f"{len(words)} {vectors.shape[1]}"]
    for word, vector in zip(words, vectors.tolist(), strict=True):
        if not word or any(letter.isspace() for letter in word):
            raise InputError(f"the word {word!r} is empty or holds a space, which the format of word2vec cannot hold.")
        lines.append(f"{word} {' '.join(f'{value:.6g}' for value in vector)}")
    write_atomically(Path(path), ("\n".join(lines) + "\n").encode())
