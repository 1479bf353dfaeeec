"""Collections to search: installed packages' docstrings by default, a folder of your own files, a BEIR folder."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from gossamer.errors import InputError, one_of
from gossamer.paths import folder as existing_folder
from gossamer_nlp import docstrings
from gossamer_nlp.config import KINDS, QUERIES

SPLITS = ("train", "development", "test")
PACKAGES = {  # split by package: what is tested shares no author, style or file with what is learned from
    "docstrings": {"train": ("scipy",), "development": ("numpy",), "test": ("sklearn", "networkx")},
    "docstrings-all": {
        "train": ("scipy", "torch", "sympy"),
        "development": ("numpy", "numba", "joblib"),
        "test": ("sklearn", "networkx"),
    },
}
PINNED = {  # SHA-256 of the texts that the README's numbers belong to
    "docstrings": "09583503abb8b6ba8a6cf499f4cd98441e3a6d6af53b4af149c66d585293b5f1",
}
SENTENCE = re.compile(r"(?s)\s*(.{20,400}?[.!?。！？])(?=\s|$|[。！？\w])|\s*([^\n]{20,400})(?=\n|$)")
LEAST = 12  # characters of a query or of what is left of its document


class Query(NamedTuple):
    """A query's id and text, and the relevance of documents by their number."""

    id: str
    text: str
    relevant: dict[int, float]


class Pair(NamedTuple):
    """What a model learns from: a query's text, and the texts of the document, field by field, that answers it."""

    query: str
    document: tuple[str, ...]
    number: int  # of the document it is from


@dataclass(frozen=True)
class Collection:
    """Documents to index and judged queries in three parts.

    ids and documents: for each document the text of each of `fields`; queries: by the names of `SPLITS`. `sha256` is of
    the text that was read, `versions` of the packages it comes from (empty for a folder). `pseudo` names the parts
    whose queries are made of documents' own titles and first sentences.
    """

    name: str
    fields: tuple[str, ...]
    ids: tuple[str, ...]
    documents: tuple[tuple[str, ...], ...]
    queries: dict[str, tuple[Query, ...]]
    sha256: str
    versions: dict[str, str]
    pseudo: tuple[str, ...] = ()


def load(data: str, queries: str = "summary", folder: Path | None = None) -> Collection:
    """The collection named `data`, one of `KINDS`, its queries as they are ("summary") or "anonymous".

    Raises `InputError` for an unknown name, for a folder given to a collection that has none, and for a damaged folder.
    """
    one_of(KINDS, data=data)
    one_of(QUERIES, queries=queries)
    if data in PACKAGES:
        if folder is not None:
            raise InputError(
                f"--data-dir {folder} is of no use to the data set {data!r}, which comes with the installed packages; "
                "--data-dir belongs to the data sets 'files' and 'beir'."
            )
        names = tuple(name for split in PACKAGES[data].values() for name in split)
        return of_docstrings(docstrings.corpus(names), queries, data, docstrings.versions(names))
    if folder is None:
        raise InputError(f"data is {data!r}, which needs --data-dir: the folder of the files.")
    if queries != "summary":
        raise InputError("queries is 'anonymous', but only docstrings have names of their own; drop the option.")
    if data == "beir":
        from gossamer_nlp.beir import beir

        return beir(folder)
    return files(folder)


def of_docstrings(items: list[docstrings.Docstring], queries: str, data: str, versions: dict[str, str]) -> Collection:
    """Known-item search: the rests as documents, the summaries as queries, each of which has one answer.

    A query of fewer than 3 words is left out, its document is not. "anonymous" removes the words of the item's own
    qualified name from its query.
    """
    parts: dict[str, list[Query]] = {split: [] for split in SPLITS}
    split_of = {name: split for split, names in PACKAGES[data].items() for name in names}
    documents = []
    for number, item in enumerate(items):
        text = dict(docstrings.sections(item.rest))
        documents.append(tuple(text.get(field, "") for field in docstrings.FIELDS))
        query = docstrings.anonymous(item.summary, item.name) if queries == "anonymous" else item.summary
        if len(docstrings.WORD.findall(query)) >= 3:
            parts[split_of[item.package]].append(Query(f"q{number}", query, {number: 1.0}))
    sha256 = docstrings.fingerprint(items)
    name = f"{data}-{sha256[:8]}" + ("-anonymous" if queries == "anonymous" else "")
    judged = {split: tuple(found) for split, found in parts.items()}
    ids = tuple(f"{item.module}.{item.name}" for item in items)
    return Collection(name, docstrings.FIELDS, ids, tuple(documents), judged, sha256, versions)


def pairs(collection: Collection) -> list[Pair]:
    """Label-free pairs: each document's title, where it has one, else its first sentence, and the rest of it.

    The query's text is out of the document that it is to find (compare the inverse cloze task; Lee et al. 2019).
    """
    found = []
    for number, document in enumerate(collection.documents):
        if collection.fields[0] == "title" and len(document[0].strip()) >= LEAST and any(map(str.strip, document[1:])):
            found.append(Pair(document[0], ("", *document[1:]), number))
            continue
        field = next((i for i, text in enumerate(document) if len(text.strip()) >= LEAST), None)
        match = SENTENCE.match(document[field]) if field is not None else None
        if field is None or match is None:
            continue
        rest = (*document[:field], document[field][match.end() :], *document[field + 1 :])
        if sum(len(text.strip()) for text in rest) >= LEAST:
            found.append(Pair(match[0].strip(), rest, number))
    return found


def judged_pairs(collection: Collection) -> list[Pair]:
    """The training queries, each with every document that is relevant to it."""
    judged = [(query, number) for query in collection.queries["train"] for number in query.relevant]
    return [Pair(query.text, collection.documents[number], number) for query, number in judged]


def held_out(found: Sequence[Pair], share: float, salt: str = "") -> tuple[list[Pair], list[Pair]]:
    """Pairs to keep and a share of them to hold out, told apart by the hash of the salt and their query."""
    limit = share * 16**8
    texts = ((salt + pair.query).encode("utf-8", "surrogatepass") for pair in found)
    hashes = [int(hashlib.sha256(text).hexdigest()[:8], 16) for text in texts]
    kept = [pair for pair, value in zip(found, hashes, strict=True) if value >= limit]
    held = [pair for pair, value in zip(found, hashes, strict=True) if value < limit]
    return kept, held


def files(folder: Path) -> Collection:
    """A folder of your own files; there are no judgements, so its test queries are titles and first sentences.

    A tenth of them is held out to choose by and a tenth to test on; their documents are searched without them.
    """
    from gossamer_nlp.readers import read_folder

    existing_folder(folder, "the text, Markdown, HTML, PDF, source, JSONL or CSV files to learn from")
    read = list(read_folder(folder))
    if not read:
        raise InputError(f"{folder} holds no file with text; give a folder of text, Markdown, HTML, PDF, JSONL or CSV.")
    documents = tuple((entry.get("title", ""), entry["text"]) for entry in read)
    digest = hashlib.sha256("\x1e".join("\x1f".join(document) for document in documents).encode()).hexdigest()
    ids = tuple(entry["id"] for entry in read)
    name = f"{folder.resolve().name}-{digest[:8]}"
    collection = Collection(name, ("title", "text"), ids, documents, dict.fromkeys(SPLITS, ()), digest, {})
    return with_pseudo_queries(collection)


def with_pseudo_queries(collection: Collection) -> Collection:
    """The collection with held-out label-free pairs as development and test queries where it has none that are judged.

    The documents of held-out pairs lose the text that became their query.
    """
    _, held = held_out(pairs(collection), 0.2)
    development, test = held_out(held, 0.5, "test")
    documents = list(collection.documents)
    queries = dict(collection.queries)
    pseudo = tuple(split for split in ("development", "test") if not queries[split])
    for split, own in (("development", development), ("test", test)):
        if not queries[split]:
            queries[split] = tuple(Query(f"{split}{pair.number}", pair.query, {pair.number: 1.0}) for pair in own)
            for pair in own:
                documents[pair.number] = pair.document
            if not own:
                raise InputError(
                    f"{collection.name} has too few documents ({len(documents)}) to hold out {split} queries; "
                    "index it without training: gossamer nlp index FOLDER --no-learn."
                )
    return replace(collection, documents=tuple(documents), queries=queries, pseudo=pseudo)
