"""Runs from configuration to result."""

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.results import Result
from gossamer_nlp.benchmark import FLOOR, METRIC, PRESETS, grid, run
from gossamer_nlp.train import METHODS, Config


@pytest.fixture
def config(folder: Path) -> Config:
    return replace(PRESETS["beir"], data_dir=folder, epochs=2, batch=16, sparsity=0.95)


def numbers(result: Result) -> dict:
    return {**result.extra, "value": result.value, "bytes": result.bytes, "nonzeros": result.nonzeros}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_result(config: Config, method: str, tmp_path: Path):
    result = run(replace(config, method=method))
    assert result.metric == METRIC
    assert 0 <= result.value == result.extra[METRIC] <= 1
    assert result.extra["index_bytes"] > 0
    assert Result.load(result.save(tmp_path)) == result
    if method in ("bm25", "term-weights", "rigl"):
        assert result.value > 0.7  # three of the document's own words, of 60 in all, leave little doubt
    if method not in ("dense", "small-dense", "bm25"):
        fan_out = 1 if method == "term-weights" else 3
        assert result.sparsity == pytest.approx(1 - fan_out / 60)
        assert result.extra["active_per_document"] <= config.active


def test_the_same_configuration_gives_the_same_numbers(config: Config):
    own = replace(config, method="hybrid", seed=3)
    assert numbers(run(own)) == numbers(run(own))


def test_chance_is_at_the_floor(config: Config):
    result = run(replace(config, method="small-dense", sparsity=0.99, epochs=0))
    assert FLOOR <= result.value < 0.2


def test_the_grid_has_the_dense_run_of_a_seed_first_and_bm25_once():
    configs = grid(PRESETS["quick"])
    assert [c.method for c in configs if c.seed == 1] == list(METHODS)
    assert configs[0].method == "dense"
    assert sum(c.method == "bm25" for c in configs) == 1
    assert {c.seed for c in configs} == {1, 2, 3}


def test_docstrings_are_found_better_than_by_bm25_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines: list[str] = []
    learned = run(replace(PRESETS["quick"], method="term-weights", epochs=1), lines.append)
    start = run(replace(PRESETS["quick"], method="term-weights", epochs=0))
    assert learned.value > start.value > 0.3
    assert learned.data.startswith("docstrings-")
    assert learned.extra["sha256"].startswith(learned.data.removeprefix("docstrings-"))
    assert set(learned.extra["packages"]) == {"numpy", "scipy", "sklearn", "networkx"}
    assert any("documents" in line for line in lines)
