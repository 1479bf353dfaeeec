"""Collections to search: installed packages' docstrings by default, a folder of your own files, a BEIR folder."""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.errors import InputError, one_of
from gossamer.paths import folder as existing_folder
from gossamer.paths import write_atomically
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
    return beir(folder) if data == "beir" else files(folder)


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


def beir(folder: Path) -> Collection:
    """A folder in BEIR's format (Thakur et al. 2021): corpus.jsonl, queries.jsonl, qrels/test.tsv and, where they are,
    qrels/train.tsv and qrels/dev.tsv.

    Without qrels/dev.tsv the fifth of the training queries with the smallest hashes is the development part; without
    training queries either, held-out titles or first sentences are.
    """
    existing_folder(folder, "an unpacked BEIR data set: corpus.jsonl, queries.jsonl, qrels/test.tsv")
    digest = hashlib.sha256()
    numbers: dict[str, int] = {}
    documents = []
    for line, entry in json_lines(folder / "corpus.jsonl", ("_id", "text"), digest):
        if entry["_id"] in numbers:
            raise InputError(f"{folder / 'corpus.jsonl'}, line {line}: the id {entry['_id']!r} stands there twice.")
        numbers[entry["_id"]] = len(documents)
        documents.append((str(entry.get("title") or ""), entry["text"]))
    texts = {entry["_id"]: entry["text"] for _, entry in json_lines(folder / "queries.jsonl", ("_id", "text"), digest)}
    parts: dict[str, tuple[Query, ...]] = dict.fromkeys(SPLITS, ())
    for split, name in {"train": "train.tsv", "development": "dev.tsv", "test": "test.tsv"}.items():
        if split == "test" or (folder / "qrels" / name).exists():
            parts[split] = judgements(folder / "qrels" / name, texts, numbers, digest)
    if not parts["test"]:
        raise InputError(f"--data-dir {folder} has no test queries; qrels/test.tsv must judge some.")
    if not parts["development"] and len(parts["train"]) > 1:
        order = sorted(parts["train"], key=lambda query: hashlib.sha256(query.text.encode()).digest())
        held = max(1, len(order) // 5)
        parts["development"], parts["train"] = tuple(order[:held]), tuple(order[held:])
    sha256 = digest.hexdigest()
    name = f"{folder.resolve().name}-{sha256[:8]}"
    found = Collection(name, ("title", "text"), tuple(numbers), tuple(documents), parts, sha256, {})
    return found if parts["development"] else with_pseudo_queries(found)


def json_lines(path: Path, keys: tuple[str, ...], digest: Any) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and object of each line of a JSONL file, with text under `keys`; `InputError` names a line without.

    Lines end at \\n alone, blank ones and a byte order mark are skipped.
    """
    empty = True
    for number, line in enumerate(read(path, digest).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not all(isinstance(entry[key], str) for key in keys):
                raise TypeError(f"{' and '.join(keys)} must be text")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not an object with {', '.join(keys)} ({error!r}); get it again."
            ) from error
        empty = False
        yield number, entry
    if empty:
        raise InputError(f"{path} is empty; get the data set again.")


def judgements(path: Path, texts: dict[str, str], numbers: dict[str, int], digest: Any) -> tuple[Query, ...]:
    """The queries of a qrels file (query-id, corpus-id, score; a header or none) with a relevant document."""
    found: dict[str, dict[int, float]] = {}
    rows = csv.reader(read(path, digest).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and row[-1].strip() == "score"):
            continue
        try:
            query, document, score = row[0], row[1], float(row[2])
            if not abs(score) < float("inf"):
                raise ValueError(f"a score of {score}")
            if score > 0:
                found.setdefault(query, {})[numbers[document]] = score
                texts[query]
        except (IndexError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: {row} does not judge a known query and document ({error!r}); the folder is "
                "half-written or mixed; get the data set again."
            ) from error
    return tuple(Query(query, texts[query], relevant) for query, relevant in found.items())


def read(path: Path, digest: Any) -> str:
    """A file's text, its bytes fed to the digest too; `InputError` where it cannot be read or is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); a BEIR folder holds corpus.jsonl, queries.jsonl and "
            "qrels/test.tsv."
        ) from error
    digest.update(content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert it, or get it again.") from error


def write_beir(collection: Collection, folder: Path) -> None:
    """Write a collection as a folder in BEIR's format, which `beir` reads; its fields, but a title, as one text.

    Development queries go to qrels/dev.tsv; a file of no queries is left out.
    """
    titled = collection.fields[0] == "title"
    lines: dict[str, list[str]] = {"corpus.jsonl": [], "queries.jsonl": []}
    for name, document in zip(collection.ids, collection.documents, strict=True):
        title, rest = (document[0], document[1:]) if titled else ("", document)
        entry = {"_id": name, "title": title, "text": "\n".join(text for text in rest if text)}
        lines["corpus.jsonl"].append(json.dumps(entry))
    for split, name in {"train": "train.tsv", "development": "dev.tsv", "test": "test.tsv"}.items():
        rows = ["query-id\tcorpus-id\tscore"]
        for query in collection.queries[split]:
            lines["queries.jsonl"].append(json.dumps({"_id": query.id, "text": query.text}))
            rows += [f"{query.id}\t{collection.ids[number]}\t{gain:g}" for number, gain in query.relevant.items()]
        if len(rows) > 1:
            lines[f"qrels/{name}"] = rows
    for name, own in lines.items():
        write_atomically(folder / name, ("\n".join(own) + "\n").encode())
