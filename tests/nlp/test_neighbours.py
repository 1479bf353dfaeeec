"""Documents expanded by their nearest."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from gossamer_nlp.bm25 import rarity
from gossamer_nlp.index import Index, neighbours
from gossamer_nlp.index.neighbours import expanded, nearest
from gossamer_nlp.index.segment import Segment, invert
from gossamer_nlp.model import Lexical
from gossamer_nlp.phrases import KEYS

DOCUMENTS = scipy.sparse.csr_array(
    np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], np.float32)
)
RARE = np.ones(5, np.float32)


def test_the_nearest_are_those_that_share_most():
    found = nearest(DOCUMENTS, RARE, 1).toarray()
    assert found[0].tolist() == pytest.approx([0, 2, 0, 0])
    assert found[1].tolist() == pytest.approx([2, 0, 0, 0])
    assert found[2:].sum() == 0


def test_a_document_gets_its_neighbours_terms_in_part():
    found = expanded(DOCUMENTS, RARE, 1, 0.5).toarray()
    assert found[0].tolist() == pytest.approx([1.5, 1.5, 0.5, 0, 0])
    assert found[2].tolist() == [0, 0, 0, 1, 1]  # nothing is near
    assert found[3].sum() == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_few_documents_have_no_neighbours(rows: int):
    few = scipy.sparse.csr_array(DOCUMENTS[:rows])
    assert (expanded(few, RARE, 5, 0.4) != few).nnz == 0


def test_segments_are_widened_as_all_documents_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw = np.random.default_rng(0)
    matrix = (draw.random((60, 40)) * (draw.random((60, 40)) < 0.2)).astype(np.float32)
    matrix[:, 38:] *= 0.1
    matrix[7] = 0
    keys = np.arange(40, dtype=np.uint64)
    keys[38:] = KEYS[:2]  # phrases
    parts = [(own, Segment("s", 20, invert(scipy.sparse.csr_array(own), keys), {})) for own in np.split(matrix, 3)]
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    made = list(neighbours.widened([segment for _, segment in parts], 3, 0.5, tmp_path, lambda: "new"))
    stored = np.concatenate([dense(segment, keys) for _, segment in parts])
    words = scipy.sparse.csr_array(stored[:, :38])
    whole = expanded(words, rarity(np.bincount(words.nonzero()[1], minlength=38), 60), 3, 0.5).toarray()
    again = np.concatenate([dense(segment, keys) for segment in made])
    assert again[:, 38:] == pytest.approx(stored[:, 38:], rel=0.01)
    same = np.isclose(again[:, :38], whole, atol=0.01).all(1)
    assert same.mean() > 0.95  # of near neighbours that score alike, rounded, another may be taken
    assert (again > 0).sum() > 2 * (stored > 0).sum()
    assert list(tmp_path.iterdir()) == []


def dense(segment: Segment, keys: np.ndarray) -> np.ndarray:
    vectors, own = segment.vectors()
    found = np.zeros((segment.count, len(keys)), np.float32)
    found[:, np.searchsorted(keys, own)] = vectors.toarray()
    return found


def test_an_index_finds_documents_by_words_of_their_neighbours(tmp_path: Path):
    texts = {"a": "red apples ripen on old trees", "b": "old trees carry red apples and pears", "c": "ships at sea"}
    with Index.create(tmp_path / "i") as index:
        index.add({"id": name, "text": text} for name, text in texts.items())
        assert [hit.id for hit in index.search("pears")] == ["b"]
        index.use(Lexical(neighbours=1, borrowed=0.5))
    index = Index.open(tmp_path / "i")  # the model's file says so too
    assert (index.model.neighbours, index.model.borrowed) == (1, 0.5)
    hits = index.search("pears")
    assert [hit.id for hit in hits] == ["b", "a"]
    [match] = index.explain("pears", "a")
    assert (match.score, match.literal) == (hits[1].score, False)
    assert [hit.id for hit in index.search("red apples", 9)][:2] == ["a", "b"]
    assert [hit.id for hit in index.search("ships", 9)] == ["c"]
    assert {hit.id for hit in index.search("old pears", 9)} == {"a", "b"}
    assert len(list((tmp_path / "i" / "segments").iterdir())) == 1
