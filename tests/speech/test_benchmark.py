import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.results import plain
from gossamer_speech import benchmark
from gossamer_speech.train import METHODS, Config

SMALL = Config(codes=40, active=4, epochs=1)


def numbers(result) -> dict:
    timed = {"train_seconds", "latency_ms"}
    return {name: value for name, value in vars(result).items() if name not in timed}


def test_the_grid_holds_every_method_and_seed_dense_first():
    grid = benchmark.grid(benchmark.PRESETS["quick"])
    assert [(c.seed, c.method) for c in grid] == [(seed, method) for seed in (1, 2, 3) for method in METHODS]
    assert METHODS[0] == "dense"
    assert next(iter(benchmark.PRESETS)) == "quick"


@pytest.mark.parametrize("method", ["rigl", "mfcc"])
def test_a_run_is_the_same_the_second_time(method):
    config = replace(SMALL, method=method)
    lines: list[str] = []
    first, second = benchmark.run(config, lines.append), benchmark.run(config)
    assert numbers(first) == numbers(second)
    assert first.value > 5 * benchmark.FLOOR == 5 * first.floor
    assert first.config == plain(config)
    assert first.latency_ms and lines[0].startswith("600 words to learn from, 1260 to recognise, 20 different")
    json.dumps(first.extra, allow_nan=False)


def test_sparsity_is_that_of_the_weights_and_codes_are_told_apart():
    sparse, codes = (benchmark.run(replace(SMALL, method=method)) for method in ("static-random", "topk"))
    assert sparse.sparsity == pytest.approx(0.8, abs=1e-3) and sparse.sparsity_asked == 0.8
    assert codes.sparsity == codes.sparsity_asked == 0.0
    assert sparse.pattern == "weights Unstructured(), codes TopK(4) of 40" and codes.pattern == "codes TopK(4) of 40"
    assert codes.extra["active_codes"] <= 4 and sparse.extra["active_codes"] <= 4
    assert sparse.nonzeros <= sparse.parameters - 0.79 * 200 * 40
    assert sparse.bytes < codes.bytes


@pytest.mark.skipif(
    not (Path(os.environ.get("GOSSAMER_DATA", "")) / "fsdd").is_dir(),
    reason="GOSSAMER_DATA names no folder with fsdd in it",
)
def test_real_digits_are_recognised():
    folder = Path(os.environ["GOSSAMER_DATA"], "fsdd")
    result = benchmark.run(replace(benchmark.PRESETS["fsdd"], method="random-relu", codes=100, data_dir=folder))
    assert result.extra["words"] == 3000 and result.floor == 10
    assert result.value > 85
