"""Word embeddings: co-occurrence, sparse codes by every method, and the formats of word vectors."""

import math
from pathlib import Path

import gensim
import numpy as np
import pytest
import scipy.stats

import gossamer as gs
from gossamer_nlp import vectors, words
from gossamer_nlp.cooccurrence import factorised, numbered, ppmi
from gossamer_nlp.wordcodes import METHODS, codes, kept
from gossamer_nlp.words import Options, SparseWords, learn, load_words, vocabulary

ANIMALS = ["zebra", "horse", "camel", "tiger", "sheep", "goat"]
TOOLS = ["saw", "drill", "hammer", "chisel", "plane", "pliers"]


def two_topics(count: int = 300) -> list[list[str]]:
    draw = np.random.default_rng(0)
    return [draw.choice((ANIMALS, TOOLS)[i % 2], 8).tolist() for i in range(count)]


def test_vocabulary_by_frequency_then_alphabet():
    assert vocabulary([["sum", "axis", "sum", "of", "x2y"], ["axis", "zip"]], 3) == ["axis", "sum", "zip"]


def test_ppmi_by_hand():
    stream = numbered([["aaa", "bbb", "unknown", "aaa"], ["bbb"]], ["aaa", "bbb"], 2)
    found = ppmi(stream, 2, 2).toarray()
    # Within two words: aaa–bbb twice (distances 1 and 2); the texts do not touch. Contexts: aaa 2, bbb 2.
    assert found.tolist() == [[0, pytest.approx(math.log(1 / 0.5))], [pytest.approx(math.log(2)), 0]]


@pytest.mark.parametrize("method", METHODS[:3])
def test_words_of_one_topic_share_dimensions(method):
    options = Options(method=method, dense=4, dimensions=6, active=2, epochs=200)
    found = learn(two_topics(), options)
    dense = found.matrix.toarray()
    assert (dense >= 0).all()
    assert (dense > 0).sum(1).max() <= 2
    used = {word: {d for d, _, _ in found.meanings(word)} for word in found.words}
    assert any(used[word] for word in ANIMALS)
    strongest = found.top(int(np.argmax(dense.sum(0))), 4)
    assert set(strongest) <= set(ANIMALS) or set(strongest) <= set(TOOLS)
    again = learn(two_topics(), options)
    assert (again.matrix != found.matrix).nnz == 0


def test_similar_words_are_of_the_same_topic():
    found = learn(two_topics(), Options(dense=4, dimensions=6, active=3, epochs=200))
    nearest = [word for word, _ in found.similar("zebra", 3)]
    assert set(nearest) <= set(ANIMALS) - {"zebra"}
    with pytest.raises(gs.InputError, match=r"'zebr' is not among the 12 \(did you mean 'zebra'\?\)"):
        found["zebr"]


def test_the_largest_positive_numbers_are_kept():
    values = np.array([[3, -1, 2, 1], [-1, -2, 0, 5]], np.float32)
    assert kept(values, 2).tolist() == [[3, 0, 2, 0], [0, 0, 0, 5]]
    with pytest.raises(gs.InputError, match="method is 'top'"):
        codes(values, 4, 2, "top")  # pyright: ignore[reportArgumentType]


def test_factorised_rows_have_unit_length():
    stream = numbered(two_topics(), ANIMALS + TOOLS, 5)
    dense = factorised(ppmi(stream, 12, 5), 2)
    assert np.linalg.norm(dense, axis=1) == pytest.approx(np.ones(12))


def toy() -> SparseWords:
    return learn(two_topics(), Options(dense=4, dimensions=6, active=2, epochs=5))


def test_embeddings_come_back_from_their_file_and_go_to_gensim(tmp_path: Path):
    found, path = toy(), tmp_path / "w.gossamer"
    found.save(path)
    again = load_words(path)
    assert again.words == found.words
    assert (again.matrix != found.matrix).nnz == 0
    assert found.keyed_vectors()["zebra"].tolist() == found["zebra"].tolist()
    for damaged in (b"", path.read_bytes()[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(gs.InputError):
            load_words(path)


def test_vectors_are_read_as_gensim_writes_them_and_written_as_it_reads_them(tmp_path: Path):
    keyed = gensim.models.KeyedVectors(5)
    names = ["one", "zwei", "三", "New_York"]
    keyed.add_vectors(names, np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32))
    for binary in (False, True):
        path = tmp_path / f"v{binary}"
        keyed.save_word2vec_format(str(path), binary=binary)
        found, matrix = vectors.read(path)
        assert found == names
        assert matrix == pytest.approx(keyed.vectors, rel=1e-5)
    (tmp_path / "glove.txt").write_text("a 1 2\nb c 3 4\na 5 6\n")
    found, matrix = vectors.read(tmp_path / "glove.txt")
    assert (found, matrix.tolist()) == (["a", "b c"], [[1, 2], [3, 4]])
    assert vectors.read(tmp_path / "glove.txt", 1)[0] == ["a"]
    vectors.write(tmp_path / "out.txt", names, keyed.vectors)
    again = gensim.models.KeyedVectors.load_word2vec_format(str(tmp_path / "out.txt"))
    assert again.vectors == pytest.approx(keyed.vectors, rel=1e-5)
    with pytest.raises(gs.InputError, match="holds a space"):
        vectors.write(tmp_path / "out.txt", ["b c"], np.ones((1, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no word vectors"), (b"a 1 2\nb 3\n", "line 2"), (b"a 1 x\n", "line 1"), (b"a 1 nan\n", "undefined")],
)
def test_damaged_vectors_are_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(gs.InputError, match=message):
        vectors.read(tmp_path / "v.txt")


def test_the_command_prints_dimensions_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "files"
    folder.mkdir()
    for i, text in enumerate(two_topics(60)):
        (folder / f"{i}.txt").write_text(" ".join(text))
    kept_at, exported = tmp_path / "w.gossamer", tmp_path / "w.txt"
    words.main(Options(folder, dense=4, dimensions=6, active=2, epochs=5, save=kept_at, export=exported))
    assert "of 6 dimensions active" in capsys.readouterr().out
    assert load_words(kept_at).words == vectors.read(exported)[0]
    words.main(Options(vectors=exported, dimensions=4, active=1, epochs=2))
    assert "12 words" in capsys.readouterr().out


def test_a_frame_keeps_the_order_of_cosines():
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(200, 16)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    found = codes(dense, 1000, 150, "frame")
    assert found.shape == (200, 1000)
    assert (found >= 0).all()
    assert ((found > 0).sum(1) == 150).all()
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    upper = np.triu_indices(200, 1)
    assert scipy.stats.spearmanr((unit @ unit.T)[upper], (dense @ dense.T)[upper])[0] > 0.97
    assert (codes(dense, 1000, 150, "frame") == found).all()
