"""Collections: docstrings in three parts, BEIR folders whole or damaged, and pairs made without labels."""

from pathlib import Path

import pytest

import gossamer as gs
from gossamer_nlp.beir import write_beir
from gossamer_nlp.data import (
    SPLITS,
    Collection,
    held_out,
    judged_pairs,
    load,
    of_docstrings,
    pairs,
    with_pseudo_queries,
)
from gossamer_nlp.docstrings import FIELDS, Docstring


def items() -> list[Docstring]:
    def item(i: int) -> Docstring:
        package = ("scipy", "numpy", "sklearn", "networkx")[i % 4]
        return Docstring(package, f"{package}.m", f"name_{i}", f"Find the thing number {i} by name", f"Body of {i}.")

    return [item(i) for i in range(40)]


def test_every_document_is_indexed_and_a_package_stays_in_one_part():
    found = of_docstrings(items(), "summary", "docstrings", {"scipy": "1"})
    assert len(found.documents) == 40
    assert found.documents[3][FIELDS.index("lead")] == "Body of 3."
    assert [len(found.queries[split]) for split in ("train", "development", "test")] == [10, 10, 20]
    assert all(number % 4 == 0 for query in found.queries["train"] for number in query.relevant)
    assert found.queries["train"][0].text == "Find the thing number 0 by name"


def test_anonymous_queries_lose_the_name_and_short_ones_are_left_out():
    short = Docstring("numpy", "numpy.a", "find_thing", "Find the thing", "Body")
    found = of_docstrings([*items(), short], "anonymous", "docstrings", {})
    assert found.name.endswith("-anonymous")
    queries = {number: query.text for own in found.queries.values() for query in own for number in query.relevant}
    assert queries[7] == "Find the thing number by"
    assert 40 not in queries


def test_a_beir_folder(folder: Path):
    found = load("beir", folder=folder)
    assert found.fields == ("title", "text")
    assert [len(found.queries[split]) for split in ("train", "development", "test")] == [64, 16, 40]
    assert found.queries["test"][0].relevant == {80: 1.0}
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td1\t2\nq0\td0\t0\n")
    judged = load("beir", folder=folder).queries
    assert judged["development"] == ((judged["train"][0].id, judged["train"][0].text, {1: 2.0}),)
    assert len(judged_pairs(load("beir", folder=folder))) == 80


def test_a_beir_folder_with_test_queries_alone_is_chosen_by_its_own_titles(folder: Path):
    (folder / "qrels" / "train.tsv").unlink()
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace('"title": "', '"title": "the title of '))
    found = load("beir", folder=folder)
    assert len(found.queries["development"]) > 2
    query = found.queries["development"][0]
    (number,) = query.relevant
    assert found.documents[number][0] == ""
    assert query.text.startswith("the title of")
    assert number not in {pair.number for pair in pairs(found) if pair.query == query.text}


def test_valid_json_is_read(folder: Path):
    """A byte order mark, blank lines, U+2028 in a string, a title that is a number, and qrels without a header."""
    corpus = (folder / "corpus.jsonl").read_text()
    extra = '{"_id": "x", "title": 7, "text": "a\u2028b"}\n'
    (folder / "corpus.jsonl").write_text("\ufeff" + corpus + "\n" + extra, encoding="utf-8")
    test = folder / "qrels" / "test.tsv"
    test.write_text(test.read_text().partition("\n")[2])
    found = load("beir", folder=folder)
    assert found.documents[120] == ("7", "a\u2028b")
    assert len(found.queries["test"]) == 40
    corpus = (folder / "corpus.jsonl").read_text(encoding="utf-8-sig")
    (folder / "corpus.jsonl").write_text(corpus.replace('"x"', '"x\u2028y"'), encoding="utf-8")
    test.write_text(test.read_text() + "q1\tx\u2028y\t1\n", encoding="utf-8")
    assert 120 in {number for query in load("beir", folder=folder).queries["test"] for number in query.relevant}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", None, "corpus.jsonl cannot be read"),
        ("corpus.jsonl", "", "corpus.jsonl is empty"),
        (
            "corpus.jsonl",
            '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}',
            "line 2: the id 'a' stands there twice",
        ),
        ("corpus.jsonl", "[" * 100_000, "corpus.jsonl, line 1"),
        ("corpus.jsonl", b'{"_id": "a", "text": "x"}\n\xff', "line 2: not UTF-8"),
        ("queries.jsonl", '{"_id": "q0", "text": "a b"}\n{"_id": "q1", "te', "queries.jsonl, line 2"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "no test queries"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td999", "test.tsv, line 3"),
        ("qrels/test.tsv", "q1\td1\tinf\n", "a score of inf"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, name: str, content: str | bytes | None, message: str):
    path = folder / name
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(gs.InputError, match=message):
        load("beir", folder=folder)


def test_other_input_that_cannot_be_used(tmp_path: Path):
    for call, message in (
        (("docstring",), "did you mean 'docstrings'"),
        (("docstrings", "short"), "summary, anonymous"),
        (("beir",), "--data-dir"),
        (("beir", "summary", tmp_path / "none"), "does not exist"),
        (("beir", "anonymous", tmp_path), "names of their own"),
        (("docstrings", "summary", tmp_path), "belongs to the data sets"),
    ):
        with pytest.raises(gs.InputError, match=message):
            load(*call)


def collection(*documents: tuple[str, str]) -> Collection:
    ids = tuple(str(i) for i in range(len(documents)))
    return Collection("toy", ("title", "text"), ids, documents, {"train": (), "development": (), "test": ()}, "", {})


def test_pairs_are_made_of_titles_or_first_sentences_which_the_document_loses():
    found = pairs(
        collection(
            ("A title of its own", "The text of it is here."),
            ("", "The first sentence stands here. The second one stays, and so on."),
            ("", "全文検索エンジンの仕組みを説明する長い文章です。二つ目の文はここにあります。残ります。"),
            ("", "too short"),
            ("", ""),
        )
    )
    assert [(pair.query, pair.document) for pair in found] == [
        ("A title of its own", ("", "The text of it is here.")),
        ("The first sentence stands here.", ("", " The second one stays, and so on.")),
        ("全文検索エンジンの仕組みを説明する長い文章です。", ("", "二つ目の文はここにあります。残ります。")),
    ]
    kept, held = held_out(found, 0.5)
    assert sorted([*kept, *held]) == sorted(found)


def test_pseudo_queries_need_documents():
    with pytest.raises(gs.InputError, match="too few documents"):
        with_pseudo_queries(collection(("Only one title", "and one text for it")))


def test_a_collection_becomes_a_folder_of_beir_and_comes_back(folder: Path, tmp_path: Path):
    first = load("beir", folder=folder)
    write_beir(first, tmp_path / "again")
    again = load("beir", folder=tmp_path / "again")
    assert (again.ids, again.documents) == (first.ids, first.documents)
    for split in SPLITS:
        assert sorted(again.queries[split]) == sorted(first.queries[split])
