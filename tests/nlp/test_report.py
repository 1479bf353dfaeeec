from dataclasses import replace
from pathlib import Path

import pytest

from gossamer_nlp import benchmark
from gossamer_nlp.config import Config


@pytest.fixture
def config(folder: Path) -> Config:
    return Config(data="beir", data_dir=folder, epochs=1, batch=16, pairs="judged")


def test_a_lexical_result_keeps_what_matched(config: Config):
    results = [benchmark.run(replace(config, method=method)) for method in ("bm25", "related")]
    for result in results:
        told = result.extra["matched"]
        assert told["query"] and told["document"].startswith("d")
        shares = [share for _, share, _ in told["terms"]]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-3)
    assert all(own for *_, own in results[0].extra["matched"]["terms"])  # BM25 finds by words that are there
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    drawn = benchmark.pictures(results)
    assert [caption.partition(":")[0] for caption in drawn] == ["bm25", "related"]
    assert all(b"<svg" in svg for svg in drawn.values())


def test_a_result_without_named_terms_or_of_ones_own_files_keeps_nothing(config: Config, tmp_path: Path):
    assert "matched" not in benchmark.run(replace(config, method="small-dense")).extra
    own = tmp_path / "own"
    own.mkdir()
    for number in range(30):
        text = " ".join(f"word{number}{letter} is a sentence of this file number {number}." for letter in "abc")
        (own / f"{number}.txt").write_text(f"Title {number} of a private file\n\n{text}\n\n{text}")
    result = benchmark.run(Config(method="bm25", data="files", data_dir=own))
    assert "matched" not in result.extra and benchmark.pictures([result]) == {}
