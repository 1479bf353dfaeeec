"""Folders in BEIR's format (Thakur et al. 2021), in and out: corpus.jsonl, queries.jsonl, qrels/*.tsv."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossamer.errors import InputError
from gossamer.paths import folder as existing_folder
from gossamer.paths import write_atomically
from gossamer_nlp.data import SPLITS, Collection, Query, with_pseudo_queries


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
    rows = csv.reader(read(path, digest).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
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
