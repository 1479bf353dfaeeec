"""A small collection in BEIR's format, in which each query names its document with words of its own."""

import json
import random
from pathlib import Path

import pytest

WORDS = [f"{first}{last}" for first in "bdfgklmnprst" for last in ("aro", "eli", "ino", "oda", "usk")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """120 documents of 12 words; the query of each is 3 of its words: 80 train, 40 test."""
    draw = random.Random(0)
    path = tmp_path / "words"
    (path / "qrels").mkdir(parents=True)
    documents, queries = [], []
    for number in range(120):
        words = draw.sample(WORDS, 12)
        documents.append({"_id": f"d{number}", "title": words[0], "text": " ".join(words[1:])})
        queries.append({"_id": f"q{number}", "text": " ".join(draw.sample(words, 3))})
    (path / "corpus.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in documents))
    (path / "queries.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in queries))
    for name, numbers in (("train", range(80)), ("test", range(80, 120))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in numbers)]
        (path / "qrels" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return path
