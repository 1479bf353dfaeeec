"""Text as terms: one analyzer for documents, queries and BM25, in any script."""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex
import Stemmer

from gossamer import InputError
from gossamer.errors import nearest

LANGUAGES = ("none", *sorted(Stemmer.algorithms()))
LONGEST = 256  # characters of a word that count: no word is longer, what is (base64, …) costs no more than its start
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LANGUAGE = r"(?:\+\+|\#)(?![\w+#])"  # C++, C#, F#: a letter's name for a programming language
_TOKEN = regex.compile(rf"\p{{L}}{_LANGUAGE}|[{_SPACELESS}][{_SPACELESS}\p{{M}}]*|[\w--[{_SPACELESS}]]+", regex.V1)
_ASCII = re.compile(rf"[A-Za-z]{_LANGUAGE}|\w+", re.ASCII)  # finds the same in ASCII text, three times as fast
_PIECE = regex.compile(
    r"\p{Lu}?[\p{Ll}\p{M}]+|\p{Lu}+(?!\p{Ll})\p{M}*|\p{N}+|[\p{L}--[\p{Lu}\p{Ll}]][\p{L}\p{M}--[\p{Lu}\p{Ll}]]*",
    regex.V1,
)
_CLUSTER = regex.compile(r"\X")
_RUN = regex.compile(rf"[{_SPACELESS}]")


@dataclass(frozen=True)
class Analyzer:
    """How text becomes terms; the same for documents, queries and BM25, and saved with a model.

    Words are Unicode's (UAX 29's letters, marks and digits; the `regex` library's `\\w`), folded by NFKC and case, cut
    into the pieces of identifiers (`sparse_csrMatrix2`: sparse, csr, matrix, 2), each stemmed by Snowball (Porter 2001)
    in `language`, or not at all for "none"; an identifier of several pieces also stays whole. Chinese, Japanese,
    Korean, Thai, Lao, Khmer and Burmese, mostly written without spaces, become overlapping pairs of characters.
    """

    language: str = "english"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise InputError(
                f"language is {self.language!r}{nearest(self.language, LANGUAGES)}; it must be one of "
                f"{', '.join(LANGUAGES)}."
            )

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in its order."""
        found: list[str] = []
        parts = _terms(self.language)
        for word in (_ASCII if text.isascii() else _TOKEN).findall(text):
            found += parts(word) if len(word) <= 32 else _cut(word, self.language)
        return found

    def spans(self, text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Start, end and terms of each word of a text, for highlighting."""
        parts = _terms(self.language)
        for match in _TOKEN.finditer(text):
            word = match[0]
            yield match.start(), match.end(), parts(word) if len(word) <= 32 else _cut(word, self.language)


@functools.cache
def _terms(language: str):  # the memo of a language: most words of a text have been met before
    return functools.lru_cache(2**18)(functools.partial(_cut, language=language))


@functools.cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language, 0)


def _cut(word: str, language: str) -> tuple[str, ...]:
    """The terms of one word."""
    if _RUN.match(word):
        clusters = _CLUSTER.findall(unicodedata.normalize("NFKC", word))
        return tuple(a + b for a, b in itertools.pairwise(clusters)) or tuple(clusters)
    folded = unicodedata.normalize("NFKC", word[:LONGEST])
    if folded[-1] in "+#":
        return (folded.casefold(),)
    pieces = [piece.casefold() for piece in _PIECE.findall(folded)]
    stems = pieces if language == "none" else _stemmer(language).stemWords(pieces)
    if len(pieces) > 1:
        stems = [*stems, folded.casefold().strip("_")]
    return tuple(stems)
