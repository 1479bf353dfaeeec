from dataclasses import asdict, replace

import pytest

from gossamer.results import Result
from gossamer_rl.benchmark import COMPARED, PRESETS, grid, run
from gossamer_rl.config import METHODS

TINY = replace(PRESETS["quick"], steps=256, copies=4, horizon=16, width=16, epochs=1, episodes=4)
TIMES = ("train_seconds", "latency_ms", "commit")


def numbers(result: Result) -> dict:
    found = {name: value for name, value in asdict(result).items() if name not in TIMES}
    found["extra"] = {name: value for name, value in found["extra"].items() if not name.endswith(("_ms", "seconds"))}
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_result(method, tmp_path):
    result = run(replace(TINY, method=method))
    assert (result.domain, result.method, result.metric) == ("rl", method, "return")
    assert 0 <= result.value <= 1 and 0 <= result.floor <= 1 and 0 <= result.extra["success"] <= 1
    sparse = method in ("rigl", "set", "gmp", "static-random")
    assert result.sparsity == pytest.approx(0.9 if sparse else 0.0, abs=0.001)
    if method != "random":
        assert result.nonzeros < 0.2 * 33_000 if sparse or method == "small-dense" else result.nonzeros > 31_000
        assert [steps for steps, _, _ in result.extra["curve"]] == [64, 128, 192, 256]
    assert Result.load(result.save(tmp_path)).value == result.value


def test_equal_configurations_give_equal_numbers():
    config = replace(TINY, method="rigl")
    assert numbers(run(config)) == numbers(run(config))


def test_the_grid_holds_every_compared_method_for_every_seed_dense_first():
    runs = grid(PRESETS["quick"])
    assert [c.method for c in runs if c.seed == 1] == list(COMPARED)
    assert COMPARED[0] == "dense" and {c.seed for c in runs} == {1, 2, 3}


def test_a_privilege_is_named():
    assert "state" in run(replace(TINY, bonus_on="state")).caveat and not run(TINY).caveat


def test_the_dense_agent_learns_doorkey():
    result = run(replace(PRESETS["quick"], seed=1))
    assert result.extra["success"] > 0.9
    assert result.extra["steps_to_solve"] < PRESETS["quick"].steps
