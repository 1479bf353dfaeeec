"""Collections: docstrings in three parts, and BEIR folders whole or damaged."""

from pathlib import Path

import pytest

import gossamer as gs
from gossamer_nlp.data import SPLITS, load, of_docstrings, part
from gossamer_nlp.docstrings import Docstring
from gossamer_nlp.text import FIELDS


def items() -> list[Docstring]:
    def item(i: int) -> Docstring:
        rest = f"Body of {i}.\n\nReturns\n-------\nx{i}"
        return Docstring("p", f"p.module{i // 2}", f"name_{i}", f"Find the thing number {i} by name", rest)

    return [item(i) for i in range(40)]


def test_every_document_is_indexed_and_a_module_stays_in_one_part():
    found = of_docstrings(items(), "summary", "toy", {"p": "1"})
    assert len(found.documents) == 40
    assert found.fields == FIELDS
    assert found.documents[3][FIELDS.index("lead")] == ("body", "of", "3")
    assert found.documents[3][FIELDS.index("returns")] == ("x", "3")
    parts = {number: split for split, judged in found.queries.items() for _, relevant in judged for number in relevant}
    assert sorted(parts) == list(range(40))
    assert all(parts[i] == parts[i + 1] == part(f"p.module{i // 2}") for i in range(0, 40, 2))
    assert found.queries["train"][0][0][:3] == ("find", "the", "thing")


def test_the_parts_have_their_shares():
    counts = [part(f"module{i}") for i in range(4000)]
    assert [counts.count(split) / 4000 for split in SPLITS] == pytest.approx([0.6, 0.15, 0.25], abs=0.02)


def test_anonymous_queries_lose_the_name_and_short_ones_are_left_out():
    found = of_docstrings(
        [*items(), Docstring("p", "p.a", "find_thing", "Find the thing", "Body")], "anonymous", "toy", {}
    )
    assert found.name == "toy-anonymous"
    assert len(found.documents) == 41
    queries = {number: terms for judged in found.queries.values() for terms, relevant in judged for number in relevant}
    assert queries[7] == ("find", "the", "thing", "number", "by")
    assert 40 not in queries


def test_a_beir_folder(folder: Path):
    found = load("beir", folder=folder)
    assert found.fields == ("title", "text")
    assert {split: len(judged) for split, judged in found.queries.items()} == {
        "train": 64,
        "development": 16,
        "test": 40,
    }
    assert len(found.documents) == 120
    assert [len(field) for field in found.documents[0]] == [1, 11]
    assert found.queries["test"][0][1] == {80: 1.0}
    assert found.name == f"words-{found.sha256[:8]}"
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td1\t2\nq0\td0\t0\n")
    judged = load("beir", folder=folder).queries
    assert judged["development"] == ((judged["train"][0][0], {1: 2.0}),)
    assert len(judged["train"]) == 80


def damage(folder: Path, name: str, content: str | None) -> None:
    path = folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", None, "corpus.jsonl cannot be read"),
        ("corpus.jsonl", "", "corpus.jsonl is empty"),
        ("queries.jsonl", '{"_id": "q0", "text": "a b"}\n{"_id": "q1", "te', "queries.jsonl, line 2"),
        ("queries.jsonl", '{"_id": "q0"}\n', "queries.jsonl, line 1"),
        ("qrels/train.tsv", None, r"train.tsv cannot be read.*qrels/test.tsv"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "no test queries"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td999", "test.tsv, line 3"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td999\t1\n", "d999"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, name: str, content: str | None, message: str):
    damage(folder, name, content)
    with pytest.raises(gs.InputError, match=message):
        load("beir", folder=folder)


def test_other_input_that_cannot_be_used(tmp_path: Path):
    for call, message in (
        (("docstring",), "did you mean 'docstrings'"),
        (("docstrings", "short"), "summary, anonymous"),
        (("beir",), "--data-dir"),
        (("beir", "summary", tmp_path / "none"), "none is not a folder"),
        (("beir", "anonymous", tmp_path), "names of their own"),
        (("docstrings", "summary", tmp_path), "belongs to the data set 'beir'"),
    ):
        with pytest.raises(gs.InputError, match=message):
            load(*call)
