"""Word embeddings beside judged pairs, and intruders among a dimension's words."""

from pathlib import Path

import numpy as np
import pytest

import gossamer as gs
from gossamer_nlp.similarity import SHOWN, intrusion, read_pairs, spearman

WORDS = ["cat", "dog", "car"]
VECTORS = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)


@pytest.mark.parametrize(
    "text",
    [
        "cat\tdog\t8\ncat\tcar\t2\n",
        "\ufeffWord 1,Word 2,Human (mean)\r\nCat,dog,8\r\ncat,car,2\r\n",
        "# a comment\n\nword1\tword2\tPOS\tSimLex999\tconc\ncat\tdog\tN\t8\t1\ncat\tcar\tN\t2\t1\n",
        "cat dog 8.0\ncat car 2.0",
    ],
)
def test_the_files_of_pairs_are_read(tmp_path: Path, text: str):
    (tmp_path / "pairs").write_bytes(text.encode())
    assert read_pairs(tmp_path / "pairs") == [("cat", "dog", 8.0), ("cat", "car", 2.0)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat\tdog\t8\ncat\tcar\n", "line 2"),
        ("cat\tdog\t8\na\tb\tnan", "not finite"),
        ("", "no pairs"),
        ("a\tb\n", "no pairs"),
    ],
)
def test_a_line_that_is_no_pair_names_itself(tmp_path: Path, text: str, told: str):
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(gs.InputError, match=told):
        read_pairs(tmp_path / "pairs")
    with pytest.raises(gs.InputError, match="cannot be read"):
        read_pairs(tmp_path / "none")


def test_spearman_is_over_known_pairs():
    pairs = [("cat", "dog", 9.0), ("dog", "car", 2.0), ("cat", "car", 1.0), ("cat", "bird", 5.0)]
    found = spearman(WORDS, VECTORS, pairs)
    assert (found.rho, found.known, found.pairs) == (pytest.approx(1.0), 3, 4)
    assert spearman(WORDS, VECTORS, [(a, b, -v) for a, b, v in pairs]).rho == pytest.approx(-1.0)
    assert np.isnan(spearman(WORDS, VECTORS, pairs[-1:]).rho)


def test_intruders_are_found_where_dimensions_mean_something():
    draw = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 20)
    reference = np.eye(10)[group] + 0.1 * draw.standard_normal((200, 10))
    codes = np.eye(10)[group] * draw.uniform(0.5, 1, (200, 1))
    assert intrusion(codes, reference) == 1.0
    assert intrusion(draw.permutation(codes), reference) < 0.6
    assert np.isnan(intrusion(codes[: SHOWN - 1], reference[: SHOWN - 1]))


def test_gensim_s_copies_of_the_files_are_read():
    datapath = pytest.importorskip("gensim.test.utils").datapath
    for name, count in (("wordsim353.tsv", 353), ("simlex999.txt", 999)):
        if Path(datapath(name)).exists():
            assert len(read_pairs(datapath(name))) == count
