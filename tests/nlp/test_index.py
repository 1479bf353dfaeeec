"""The index: what is added is found, explained, deleted, kept through crashes, shared with readers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import gossamer as gs
from gossamer_nlp.bm25 import BM25
from gossamer_nlp.index import Index, kernels, log, merging, reference
from gossamer_nlp.index.index import MOST_PENDING
from gossamer_nlp.index.segment import FIXED, NONE, Segment, fixed, invert, store
from gossamer_nlp.model import Lexical
from gossamer_nlp.text import Analyzer

TEXTS = {
    "cats": ("Cats", "Cats purr when they are content."),
    "dogs": ("Dogs", "Dogs bark, and some dogs purr too."),
    "flood": ("Überschwemmung", "Der Fluss trat über die Ufer."),
    "search": ("全文検索", "検索エンジンの仕組み"),
    "code": ("C++ and C#", "Languages with classes: sparse_csrMatrix"),
}


def documents() -> list[dict[str, str]]:
    return [{"id": name, "title": title, "text": text} for name, (title, text) in TEXTS.items()]


def numbered(first: int, last: int) -> list[dict[str, str]]:
    return [{"id": f"n{i}", "text": f"common word and number{i % 7} of x{i}"} for i in range(first, last)]


def vectors(seed: int = 0, count: int = 1500, width: int = 60) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    draw = np.random.default_rng(seed)
    values = scipy.sparse.random_array((count, width), density=0.1, rng=draw, format="csr", dtype=np.float32)
    return scipy.sparse.csr_array(values), draw.integers(0, 2**63, width).astype(np.uint64)


def segment(values: scipy.sparse.csr_array, keys: np.ndarray, name: str = "s") -> Segment:
    names = [f"{name}{i}" for i in range(values.shape[0])]
    made = Segment(name, len(names), invert(values, keys), store(names, [{"i": i} for i in range(len(names))]))
    made.check()
    return made


def test_the_kernel_finds_what_its_twin_finds():
    values, keys = vectors()
    own = segment(values, keys)
    p, draw = own.postings, np.random.default_rng(1)
    places = (p["entry_pointers"], p["entry_blocks"], p["entry_counts"], p["offsets"])
    numbers = reference.posting_documents(*places)
    assert (kernels.posting_documents(*places) == numbers).all()
    for trial in range(60):
        asked = draw.choice(len(keys), draw.integers(1, 8), replace=False)
        weights, k = np.round(draw.random(len(asked)) * 4, 1), int(draw.integers(1, 30))
        own.gone[:] = 0
        own.gone[draw.choice(own.count, 20 * trial, replace=False)] = 1
        base = draw.integers(0, 2**34, len(own.gone)) if trial % 3 == 0 else NONE
        scores, found = np.zeros(k, np.int64), np.zeros(k, np.int64)
        size = own.best(keys[asked], weights, base, 1000, 1.0, scores, found, 0)
        known = own.places(keys[asked])
        whole = fixed(weights, p["exponents"][known])
        expected = reference.best(whole, known, p["pointers"], numbers, p["impacts"], own.gone, base, k)
        order = np.lexsort((found[:size], -scores[:size]))
        assert (found[:size][order] - 1000).tolist() == expected[0].tolist()
        assert scores[:size][order].tolist() == expected[1].tolist()
        if size:
            parts = own.parts(int(expected[0][0]), keys[asked], weights)
            begun = base[expected[0][0]] if len(base) else 0
            assert parts.sum() + begun / 2**FIXED == expected[1][0] / 2**FIXED


def test_stored_vectors_are_within_half_a_step_of_those_given_and_merging_keeps_them():
    values, keys = vectors()
    own = segment(values, keys)
    stored, order = own.vectors()
    given = values.toarray()[:, np.argsort(keys)]
    assert (order == np.sort(keys)).all()
    assert np.abs(stored.toarray() - given).max() <= given.max() / 128
    assert ((stored.toarray() > 0) == (given > 0)).all()
    halves = [segment(values[:700], keys, "a"), segment(values[700:], keys, "b")]
    halves[0].gone[3] = 1
    made, numbers = merging.merged(halves, "m")
    kept = np.delete(stored.toarray(), 3, 0)
    assert made.count == 1499
    assert made.vectors()[0].toarray() == pytest.approx(kept, abs=float(given.max()) / 100)
    assert numbers[0][:5].tolist() == [0, 1, 2, -1, 3]
    assert made.find("a3") == -1
    assert made.id(made.find("b0")) == "b0"


def test_less_slack_finds_most():
    values, keys = vectors(count=5000)
    own = segment(values, keys)
    found = {}
    for slack in (1.0, 0.7):
        scores, numbers = np.zeros(10, np.int64), np.zeros(10, np.int64)
        own.best(keys[:6], np.ones(6), NONE, 0, slack, scores, numbers, 0)
        found[slack] = set(numbers.tolist())
    assert len(found[1.0] & found[0.7]) >= 7


@pytest.mark.parametrize("bad", [-1.0, np.inf, np.nan])
def test_values_that_no_score_can_be_made_of_are_refused(bad: float):
    values, keys = vectors(count=10)
    values.data[0] = bad
    with pytest.raises(gs.InputError, match="negative, infinite or undefined"):
        invert(values, keys)


def test_what_is_added_is_found_in_every_script(tmp_path: Path):
    with Index.create(tmp_path / "i", Lexical(Analyzer("german"))) as index:
        assert index.add(documents()) == 5
        for query, name in (("purr cats", "cats"), ("überschwemmungen", "flood"), ("検索", "search"), ("c#", "code")):
            assert index.search(query, 1)[0].id == name
        assert index.search("CSRMATRIX", 3) == []
        assert index.search("sparse", 3)[0].fields["title"] == "C++ and C#"
        for nothing in ("", "   ", "zebra", "!?", "x" * 1_000_000):
            assert index.search(nothing) == []


def test_scores_are_bm25_and_are_explained_exactly(tmp_path: Path):
    index = Index.create(tmp_path / "i")
    index.add(documents())
    (first, second) = index.search("do dogs purr", 5)
    assert (first.id, second.id) == ("dogs", "cats")
    model = Lexical().fit(documents())
    expected = (model.encode_query(["do dogs purr"]) @ model.encode_document(documents()).T).toarray()[0]
    assert [first.score, second.score] == pytest.approx([expected[1], expected[0]], rel=0.01)  # 8-bit impacts
    for hit in (first, second):
        parts = index.explain("do dogs purr", hit.id)
        assert sum(part.score for part in parts) == hit.score
        assert all(part.literal and part.score > 0 for part in parts)
    with pytest.raises(gs.InputError, match="no document 'nobody'"):
        index.explain("dogs", "nobody")


def test_adding_again_replaces_and_deleting_twice_is_once(tmp_path: Path):
    with Index.create(tmp_path / "i") as index:
        index.add(documents())
        index.commit()
        index.add([{"id": "cats", "text": "zebras"}])
        assert [hit.id for hit in index.search("zebra cats", 5)] == ["cats"]
        index.add([{"id": "cats", "text": "lions"}, {"id": "cats", "text": "tigers"}])
        assert (len(index), index.search("lion"), index.search("tiger")[0].id) == (5, [], "cats")
        assert index.delete(["cats", "cats", "nobody"]) == 1
        assert index.delete(["cats"]) == 0
        assert len(index) == 4
    with Index.open(tmp_path / "i") as again:
        assert "cats" not in again
        assert "dogs" in again


def test_a_reader_sees_the_moment_it_was_opened_until_told(tmp_path: Path):
    writer = Index.create(tmp_path / "i")
    writer.add(documents())
    reader = Index.open(tmp_path / "i")
    assert [hit.score for hit in reader.search("purr")] == [hit.score for hit in writer.search("purr")]
    writer.delete(["dogs"])
    writer.commit()
    assert len(reader.search("purr")) == 2
    reader.refresh()
    assert len(reader.search("purr")) == 1
    with pytest.raises(gs.InputError, match="open for reading"):
        reader.add(documents())
    with pytest.raises(gs.InputError, match=rf"being written by process {os.getpid()} .* since"):
        Index.open(tmp_path / "i", write=True)
    writer.close()
    Index.open(tmp_path / "i", write=True).close()


def test_many_segments_are_merged_and_nothing_is_lost(tmp_path: Path):
    with Index.create(tmp_path / "i") as index:
        for start in range(0, 300, 10):
            index.add(numbered(start, start + 10))
            index.commit()
            index.delete([f"n{start}"])
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 270
        assert len(index.manifest.segments) < merging.MANY
        assert {hit.id for hit in index.search("common", 400)} == {f"n{i}" for i in range(300) if i % 10}
        assert index.search("x123", 1)[0].id == "n123"
    files = {path.stem for path in (tmp_path / "i" / "segments").glob("*.segment")}
    assert files == set(index.manifest.segments)


def test_another_model_weighs_all_documents_anew(tmp_path: Path):
    with Index.create(tmp_path / "i", Lexical(Analyzer("none"))) as index:
        index.add(documents())
        assert index.search("cat") == []
        index.use(Lexical(Analyzer("english"), BM25(0.9, 0.4)))
        assert index.search("cat")[0].id == "cats"
        index.add(numbered(0, 5))
    assert len(Index.open(tmp_path / "i").search("common")) == 5


@pytest.mark.parametrize("document", [{"text": "a"}, {"id": 7, "text": "a"}, {"id": "", "text": "a"}])
def test_a_document_without_an_id_is_refused_with_its_batch(tmp_path: Path, document: dict):
    index = Index.create(tmp_path / "i")
    with pytest.raises(gs.InputError, match="id is"):
        index.add([{"id": "fine", "text": "b"}, document])
    assert len(index) == 0


def test_what_cannot_be_opened_is_refused(tmp_path: Path):
    with pytest.raises(gs.InputError, match="holds no index"):
        Index.open(tmp_path)
    folder = tmp_path / "i"
    with Index.create(folder) as index:
        index.add(documents())
    with pytest.raises(gs.InputError, match="holds an index already"):
        Index.create(folder)
    state = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**state, "format": 99}))
    with pytest.raises(gs.InputError, match=r"newer Gossamer.*99"):
        Index.open(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(gs.InputError, match="damaged"):
        Index.open(folder)
    (folder / "index.json").write_text(json.dumps(state))
    (path,) = folder.glob("segments/*.segment")
    content = path.read_bytes()
    for damaged in (b"", content[:50], content[:-40], b"\xff" * len(content)):
        path.write_bytes(damaged)
        with pytest.raises(gs.InputError, match="damaged"):
            Index.open(folder)
    path.unlink()
    with pytest.raises(gs.InputError, match="lacks files"):
        Index.open(folder)


def test_a_torn_end_of_the_log_is_no_record(tmp_path: Path):
    path = tmp_path / "a.log"
    own = log.Log(path)
    own.append({"add": ["é", "\ud800"]})
    own.append({"delete": ["b"]})
    own.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        records = log.Follower(path).new() or []
        assert records == [{"add": ["é", "\ud800"]}, {"delete": ["b"]}][: len(records)]
        assert len(records) < 2
    path.write_bytes(whole + bytes(100))  # as a machine that lost its power may leave it
    assert log.Follower(path).new() == [{"add": ["é", "\ud800"]}, {"delete": ["b"]}]
    path.write_bytes(whole[:-1])
    again = log.Log(path)
    again.append({"delete": ["c"]})
    again.close()
    assert log.Follower(path).new() == [{"add": ["é", "\ud800"]}, {"delete": ["c"]}]


def test_a_log_is_followed_and_what_its_writer_takes_back_is_noticed(tmp_path: Path):
    own = log.Log(tmp_path / "a.log")
    followed = log.Follower(own.path)
    assert followed.new() == []
    own.append({"delete": ["a"]})
    end = own.end
    own.append({"delete": ["b"]})
    assert followed.new() == [{"delete": ["a"]}, {"delete": ["b"]}]
    assert followed.new() == []
    own.append({"delete": ["c"]})
    assert followed.new() == [{"delete": ["c"]}]
    own.end = end  # as where the disk was full
    own.append({"delete": ["d"]})
    assert followed.new() is None
    assert log.Follower(own.path).new() == [{"delete": ["a"]}, {"delete": ["d"]}]


def test_a_reader_takes_in_what_is_new_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer, reader = Index.create(tmp_path / "i"), Index.open(tmp_path / "i")
    applied = []
    monkeypatch.setattr(reader, "_apply", lambda record, take=reader._apply: (applied.append(record), take(record)))
    for start in (0, 5):
        writer.add(numbered(start, start + 5))
        reader.refresh()
        assert len(reader.search("common", 20)) == start + 5
    assert len(applied) == 2
    writer.commit()
    writer.delete(["n3"])
    reader.refresh()
    assert (len(reader), len(applied), "n3" in reader) == (9, 3, False)


WRITER = """
import sys
from gossamer_nlp.index.index import Index
index = Index.open(sys.argv[1], write=True, memory=2**20)
start = int(sys.argv[2])
for i in range(start, start + 100_000, 5):
    words = "common word and number"
    index.add([{"id": f"n{j}", "text": f"{words}{j % 7} of x{j} " + "filling " * (j % 50)} for j in range(i, i + 5)])
    if i % 3 == 0:
        index.delete([f"n{i}"])
        print("gone", i, flush=True)
    if i % 100 == 0:
        index.commit()
    print("added", i + 5, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(tmp_path: Path):
    folder = tmp_path / "i"
    Index.create(folder).close()
    draw, there, gone, start = np.random.default_rng(0), set(), set(), 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(folder), str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            lines = [process.stdout.readline()]
            reader = Index.open(folder)
            time.sleep(draw.uniform(0.05, 0.8))
            reader.refresh()  # beside the writer: a consistent state
            seen = {hit.id for hit in reader.search("common", 100_000)}
            assert len(seen) == len(reader)
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        for line in lines:
            kind, _, number = line.strip().partition(" ")
            if kind == "added":
                there |= {f"n{j}" for j in range(int(number) - 5, int(number))}
                start = int(number)
            elif kind == "gone":
                gone.add(f"n{number}")
        index = Index.open(folder)
        found = {hit.id for hit in index.search("common", 100_000)}
        assert there - gone <= found
        assert not (gone & found)
        assert len(found) == len(index)
        start += 10  # one batch may have been written and not acknowledged
    assert start > 40


FULL = """
import resource, signal, sys
from gossamer_nlp.index.index import Index
from gossamer import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
words = lambda j: " ".join(f"x{j}y{k}" for k in range(50))
size, memory, limit = map(int, sys.argv[2:])
index = Index.open(sys.argv[1], write=True, memory=memory)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
count = 0
try:
    for i in range(0, 10_000, size):
        index.add([{"id": f"n{j}", "text": f"common {words(j)}"} for j in range(i, i + size)])
        count += size
except InputError as error:
    print(count, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
index.add([{"id": "later", "text": "common"}])
"""


@pytest.mark.parametrize(
    ("batch", "memory", "limit", "part"),
    [(1, 2**27, 60_000, 0), (50, 2**20, 500_000, 0), (5000, 2**27, 1_500_000, 3000)],
    ids=["the log", "a segment", "the log, in a long call"],
)
def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, batch: int, memory: int, limit: int, part: int):
    folder = tmp_path / "i"
    Index.create(folder).close()
    command = [sys.executable, "-c", FULL, *map(str, (folder, batch, memory, limit))]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count = int(output.split()[0]) + part
    assert 0 < count < 10_000
    assert "cannot be written" in output
    assert "ake room" in output
    assert (f"The {part:,} documents before it were added" in output) == (part > 0)
    found = {hit.id for hit in Index.open(folder).search("common", 20_000)}
    assert found == {"later", *(f"n{i}" for i in range(count))}


def test_a_small_memory_is_kept_by_writing_sooner(tmp_path: Path):
    with Index.create(tmp_path / "i", memory=2**20) as index:
        index.add({"id": str(i), "text": f"words {i} " * 30} for i in range(3000))
        assert len(index.manifest.segments) >= 1
        assert len(index._pending.ids) < 3000 < MOST_PENDING
        assert len(index) == 3000
    with pytest.raises(gs.InputError, match="memory is 5"):
        Index.create(tmp_path / "j", memory=5)


def test_texts_that_utf_8_cannot_hold_are_kept(tmp_path: Path):
    with Index.create(tmp_path / "i") as index:
        index.add([{"id": "lone \ud800", "text": "a lone \ud800 surrogate", "more": "\udfff"}])
    (hit,) = Index.open(tmp_path / "i").search("surrogate")
    assert (hit.id, hit.fields["more"]) == ("lone \ud800", "\udfff")


def test_what_cannot_be_stored_is_refused_and_nothing_else_is_lost(tmp_path: Path):
    with Index.create(tmp_path / "i") as index:
        index.add([{"id": "a", "text": "first"}])
        with pytest.raises(gs.InputError, match="cannot be stored"):
            index.add([{"id": "b", "text": "second", "more": {1, 2}}])
        index.add([{"id": "c", "text": "third"}])
    assert len(Index.open(tmp_path / "i")) == 2


def test_merging_takes_no_more_memory_than_there_is_room_for():
    segments = [Segment.of(vectors(seed, 300)[0]) for seed in range(12)]
    for number, segment in enumerate(segments):
        segment.name = str(number)
    size = merging.COST * max(len(segment.postings["impacts"]) for segment in segments)
    assert len(merging.chosen(segments, 100 * size)) == merging.MERGED
    assert len(merging.chosen(segments, 3 * size)) == 3
    assert merging.chosen(segments, size) == []
    assert merging.chosen(segments[:11], 100 * size) == []
