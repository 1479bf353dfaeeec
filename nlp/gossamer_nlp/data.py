"""Collections to search: the docstrings of installed packages by default, or a folder in BEIR's format."""

import csv
import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.errors import InputError
from gossamer_nlp import docstrings
from gossamer_nlp.text import FIELDS, anonymous, sections, terms

SPLITS = ("train", "development", "test")
PACKAGES = {
    "docstrings": ("numpy", "scipy", "sklearn", "networkx"),
    "docstrings-all": ("numpy", "scipy", "sklearn", "networkx", "torch", "sympy", "numba", "joblib"),
}
PINNED = {  # SHA-256 of the texts that the README's numbers belong to
    "docstrings": "4370a181956d51b00b689897cd56098e752368a015dd66eac4b0c2b2af807123",
    "docstrings-all": "775095b967fd6a0c1b60a0dab6de85db5c6b43e625c9b75e71353fd6315f15c4",
}
KINDS = (*PACKAGES, "beir")
QUERIES = ("summary", "anonymous")

Query = tuple[tuple[str, ...], dict[int, float]]  # its terms, and the relevance of documents by their number


@dataclass(frozen=True)
class Collection:
    """Documents to index and judged queries in three parts.

    documents: for each the terms of each of `fields`, in their order; queries: by the names of `SPLITS`. `sha256` is of
    the text that was read, `versions` of the packages it comes from (empty for a folder).
    """

    name: str
    fields: tuple[str, ...]
    documents: tuple[tuple[tuple[str, ...], ...], ...]
    queries: dict[str, tuple[Query, ...]]
    sha256: str
    versions: dict[str, str]


def load(data: str, queries: str = "summary", folder: Path | None = None) -> Collection:
    """The collection named `data`, one of `KINDS`, its queries as they are ("summary") or "anonymous".

    Raises `InputError` for an unknown name, for a folder given to a collection that has none, and for a damaged folder.
    """
    if data not in KINDS:
        near = difflib.get_close_matches(data, KINDS, n=1, cutoff=0)[0]
        raise InputError(f"data is {data!r}; did you mean {near!r}? There are {', '.join(KINDS)}.")
    if queries not in QUERIES:
        raise InputError(f"queries is {queries!r}; it must be one of {', '.join(QUERIES)}.")
    if data == "beir":
        if folder is None:
            raise InputError(
                "data is 'beir', which needs --data-dir: a folder with corpus.jsonl, queries.jsonl, qrels."
            )
        if queries != "summary":
            raise InputError("queries is 'anonymous', but only docstrings have names of their own; drop the option.")
        return beir(folder)
    if folder is not None:
        raise InputError(
            f"--data-dir {folder} is of no use to the data set {data!r}, which comes with the installed packages; "
            "--data-dir belongs to the data set 'beir' (the preset beir)."
        )
    found = docstrings.corpus(PACKAGES[data])
    sha256 = docstrings.fingerprint(found)
    return of_docstrings(found, queries, f"{data}-{sha256[:8]}", docstrings.versions(PACKAGES[data]))


def of_docstrings(items: list[docstrings.Docstring], queries: str, name: str, versions: dict[str, str]) -> Collection:
    """The rests as documents, the summaries as queries; a query of fewer than 3 terms is left out, its document is not.

    Items are parted by module, so that a test query's neighbours in its file have taught nothing.
    """
    parts: dict[str, list[Query]] = {split: [] for split in SPLITS}
    documents = []
    for number, item in enumerate(items):
        text = dict(sections(item.rest))
        documents.append(tuple(tuple(terms(text.get(field, ""))) for field in FIELDS))
        own = set(terms(f"{item.module} {item.name}"))
        query = terms(anonymous(item.summary, own) if queries == "anonymous" else item.summary)
        if len(query) >= 3:
            parts[part(item.module)].append((tuple(query), {number: 1.0}))
    if queries == "anonymous":
        name += "-anonymous"
    judged = {split: tuple(found) for split, found in parts.items()}
    return Collection(name, FIELDS, tuple(documents), judged, docstrings.fingerprint(items), versions)


def part(key: str) -> str:
    """The split of a key by its hash: 60 % train, 15 % development, 25 % test."""
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
    return "train" if share < 0.6 else "development" if share < 0.75 else "test"


def beir(folder: Path) -> Collection:
    """A folder in BEIR's format (Thakur et al. 2021): corpus.jsonl, queries.jsonl, qrels/train.tsv, qrels/test.tsv.

    Without qrels/dev.tsv the fifth of the training queries with the smallest hashes is the development part.
    """
    if not folder.is_dir():
        raise InputError(f"--data-dir {folder} is not a folder; give the folder of an unpacked BEIR data set.")
    digest = hashlib.sha256()
    documents, numbers = [], {}
    for entry in json_lines(folder / "corpus.jsonl", ("_id", "text"), digest):
        numbers[entry["_id"]] = len(documents)
        documents.append((tuple(terms(entry.get("title") or "")), tuple(terms(entry["text"]))))
    texts = {
        entry["_id"]: tuple(terms(entry["text"]))
        for entry in json_lines(folder / "queries.jsonl", ("_id", "text"), digest)
    }
    files = {"train": "train.tsv", "development": "dev.tsv", "test": "test.tsv"}
    parts = {
        split: judgements(folder / "qrels" / name, texts, numbers, digest)
        for split, name in files.items()
        if split != "development" or (folder / "qrels" / name).exists()
    }
    if "development" not in parts:
        order = sorted(parts["train"], key=lambda query: hashlib.sha256(" ".join(query[0]).encode()).digest())
        held = max(1, len(order) // 5)
        parts["development"], parts["train"] = tuple(order[:held]), tuple(order[held:])
    for split in SPLITS:
        if not parts[split]:
            raise InputError(f"--data-dir {folder} has no {split} queries; the qrels files must judge some.")
    sha256 = digest.hexdigest()
    name = f"{folder.resolve().name}-{sha256[:8]}"
    return Collection(name, ("title", "text"), tuple(documents), parts, sha256, {})


def json_lines(path: Path, keys: tuple[str, ...], digest: Any) -> list[dict[str, str]]:
    """The objects of a file of JSON lines, each with text under `keys`; `InputError` names the line that has not."""
    content = read(path, digest)
    found = []
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        try:
            entry = json.loads(line)
            if not all(isinstance(entry[key], str) for key in keys):
                raise TypeError(f"{' and '.join(keys)} must be text")
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: not an object with {', '.join(keys)} ({error}); get it again."
            ) from error
        found.append(entry)
    if not found:
        raise InputError(f"{path} is empty; get the data set again.")
    return found


def judgements(
    path: Path, texts: dict[str, tuple[str, ...]], numbers: dict[str, int], digest: Any
) -> tuple[Query, ...]:
    """The queries of a qrels file (query-id, corpus-id, score; one header line) with at least one relevant document."""
    found: dict[str, dict[int, float]] = {}
    lines = read(path, digest).decode("utf-8", errors="replace").splitlines()
    for number, row in enumerate(csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE), 2):
        try:
            query, document, score = row[0], row[1], float(row[2])
            if score > 0:
                found.setdefault(query, {})[numbers[document]] = score
                texts[query]
        except (IndexError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: {row} does not judge a known query and document ({error!r}); the folder is "
                "half-written or mixed; get the data set again."
            ) from error
    return tuple((texts[query], relevant) for query, relevant in found.items())


def read(path: Path, digest: Any) -> bytes:
    """A file's bytes, fed to the digest too; `InputError` where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); a BEIR folder holds corpus.jsonl, queries.jsonl, "
            "qrels/train.tsv and qrels/test.tsv."
        ) from error
    digest.update(content)
    return content
