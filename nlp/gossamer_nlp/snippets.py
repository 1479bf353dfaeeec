"""The passage of a text that answers a query best, with the places of the query's words in it."""

from collections.abc import Set
from dataclasses import dataclass

from gossamer_nlp.text import Analyzer

WORDS = 40  # of a passage


@dataclass(frozen=True)
class Snippet:
    """A passage, the places (start, end) in it of words to highlight, and whether text was left out on either side."""

    text: str
    places: tuple[tuple[int, int], ...]
    before: bool
    after: bool

    def marked(self, start: str, end: str) -> str:
        """The passage with its highlighted words between two marks, and … where text was left out."""
        parts, last = [], 0
        for first, stop in self.places:
            parts += [self.text[last:first], start, self.text[first:stop], end]
            last = stop
        return "… " * self.before + "".join([*parts, self.text[last:]]) + " …" * self.after


def snippet(text: str, terms: Set[str], analyzer: Analyzer, words: int = WORDS) -> Snippet:
    """The `words` words of a text in which most different `terms` stand, then most of them, then the first.

    Only the first 100,000 characters are looked at.
    """
    text = text[:100_000]
    found = list(analyzer.spans(text))
    if not found:
        return Snippet(" ".join(text[:300].split()), (), False, len(text) > 300)
    hits = [(i, own) for i, (_, _, cut) in enumerate(found) if (own := terms & set(cut))]
    best, start = (0, 0), 0
    for place, (first, _) in enumerate(hits):
        inside = [own for i, own in hits[place:] if i < first + words]
        value = (len(set().union(*inside)), len(inside))
        if value > best:
            best, start = value, first
    start = max(0, min(start - 3, len(found) - words))
    last = min(start + words, len(found)) - 1
    begin, end = (0 if start == 0 else found[start][0]), (len(text) if last == len(found) - 1 else found[last][1])
    begin, end = max(begin, found[start][0] - 20), min(end, found[last][1] + 20, begin + 2000)
    places = tuple(
        (found[i][0] - begin, found[i][1] - begin) for i, _ in hits if begin <= found[i][0] < found[i][1] <= end
    )
    return Snippet(text[begin:end], places, start > 0, last < len(found) - 1)
