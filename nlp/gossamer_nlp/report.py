"""What the page of `gossamer report` shows of retrieval: what each term of a query adds to a document's score."""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from gossamer import InputError
from gossamer.results import Result
from gossamer_nlp.config import LEXICAL, Config
from gossamer_nlp.evaluate import Codes
from gossamer_nlp.features import Features
from gossamer_nlp.keys import hashed
from gossamer_nlp.phrases import buckets

TERMS = 10


def kept(config: Config, found: Features, documents: Codes, queries: Codes) -> dict[str, Any]:
    """What a result of a lexical method keeps for the page: the first test query that finds something, the document
    that it finds, and the terms by which: each one's share of the score, and whether the document itself has it.

    Nothing of a folder of one's own files.
    """
    if config.method not in LEXICAL or config.data == "files" or not isinstance(queries, scipy.sparse.csr_array):
        return {}
    assert isinstance(documents, scipy.sparse.csr_array)
    for row, query in enumerate(found.collection.queries["test"]):
        own = queries[[row]]
        scores = (documents @ own.T).toarray()[:, 0]
        best = int(scores.argmax())
        if scores[best] > 0:
            parts = documents[[best]].multiply(own).tocoo()
            names = named(query.text, found, parts.col)
            held = set(found.documents.terms[slice(*found.documents.pointers[best : best + 2])].tolist())
            order = np.argsort(-parts.data, kind="stable")[:TERMS]
            terms = [
                [names[i], round(float(parts.data[i] / scores[best]), 4), bool(" " in names[i] or parts.col[i] in held)]
                for i in order.tolist()
            ]
            return {"matched": {"query": query.text, "document": found.collection.ids[best], "terms": terms}}
    return {}


def named(query: str, found: Features, columns: np.ndarray) -> list[str]:
    """The terms, and phrases of the query, that these columns of its vector are."""
    terms, words = list(found.vocabulary), found.analyzer.terms(query)
    pairs = list(itertools.pairwise(words))
    numbers = buckets(*(hashed([pair[side] for pair in pairs]) for side in (0, 1))).tolist() if pairs else []
    phrases = {len(terms) + number: " ".join(pair) for number, pair in zip(numbers, pairs, strict=True)}
    return [terms[column] if column < len(terms) else phrases.get(column, "a phrase") for column in columns.tolist()]


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """SVG by captions: the terms that matched for the reference and for the best run that kept them."""
    known = sorted((r for r in results if "matched" in r.extra), key=lambda r: r.value)
    shown = {result.method: result for result in [*(r for r in known if r.method == r.reference), *known[-1:]]}
    return {caption(result): chart(result.extra["matched"]["terms"]) for result in shown.values()}


def caption(result: Result) -> str:
    """What the chart of a result is of."""
    told = result.extra["matched"]
    return (
        f"{result.method}: what each term adds to the score of {told['document']}, found by the query "
        f"“{short(told['query'])}”; a paler bar is a related term, which the document itself has not"
    )


def short(text: str, most: int = 120) -> str:
    """The text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def chart(terms: Sequence[Sequence[Any]]) -> bytes:
    """Bars, the largest on top."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError('pictures need matplotlib; type: pip install "gossamer[report]"') from error
    drawn = Figure((5, 0.7 + 0.26 * len(terms)), layout="constrained")
    axes = drawn.subplots()
    names, shares, literal = zip(*terms, strict=True)
    colours = ["#1a5fa8" if held else "#9cc3ea" for held in literal]
    axes.barh(range(len(terms)), [100 * share for share in shares], color=colours)
    axes.set_yticks(range(len(terms)), names)
    axes.invert_yaxis()
    axes.set(xlabel="% of the score")
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
