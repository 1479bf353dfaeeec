"""Documents expanded by their nearest."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from gossamer_nlp.index import Index
from gossamer_nlp.index.neighbours import expanded, nearest
from gossamer_nlp.model import Lexical

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
