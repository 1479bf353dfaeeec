import math
from dataclasses import asdict, replace

import pytest

from gossamer.results import Result
from gossamer_rl.benchmark import FLOOR, PRESETS, grid, run
from gossamer_rl.train import METHODS

TINY = replace(PRESETS["quick"], steps=256, copies=4, horizon=16, width=16, epochs=1, episodes=4)
TIMES = ("train_seconds", "latency_ms", "commit")


def numbers(result: Result) -> dict:
    return {name: value for name, value in asdict(result).items() if name not in TIMES}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_result(method, tmp_path):
    result = run(replace(TINY, method=method))
    assert (result.domain, result.method, result.metric, result.floor) == ("rl", method, "return", FLOOR)
    assert 0 <= result.value <= 1 and 0 <= result.extra["success"] <= 1
    sparse = method in ("rigl", "static-random")
    assert result.sparsity == pytest.approx(0.9 if sparse else 0.0, abs=0.001)
    if method != "random":
        assert result.nonzeros < 0.2 * 33_000 if sparse or method == "small-dense" else result.nonzeros > 32_000
        assert [steps for steps, _ in result.extra["curve"]] == [64, 128, 192, 256]
    assert Result.load(result.save(tmp_path)).value == result.value


def test_equal_configurations_give_equal_numbers():
    config = replace(TINY, method="rigl")
    assert numbers(run(config)) == numbers(run(config))


def test_the_grid_holds_every_method_for_every_seed_dense_first():
    runs = grid(PRESETS["quick"])
    assert [c.method for c in runs if c.seed == 1] == list(METHODS)
    assert METHODS[0] == "dense" and {c.seed for c in runs} == {1, 2, 3}


def test_floor_is_what_acting_at_random_scores():
    score = run(replace(PRESETS["quick"], method="random", seed=7, episodes=200)).value
    assert score == pytest.approx(FLOOR, abs=4 * 0.2 / math.sqrt(200))


def test_the_dense_agent_learns_doorkey():
    result = run(replace(PRESETS["quick"], seed=1))
    assert result.extra["success"] > 0.9
    assert result.extra["steps_to_solve"] < PRESETS["quick"].steps
