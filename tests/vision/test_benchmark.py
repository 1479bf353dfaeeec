from dataclasses import asdict, replace

import pytest

from gossamer import runs
from gossamer.threads import using_threads
from gossamer_vision import benchmark

QUICK = replace(next(iter(benchmark.PRESETS.values())), width=4, epochs=2, fine_tune=1, batch=100, every=3)


@pytest.fixture(autouse=True)
def one_thread():
    with using_threads(1):
        yield


def test_grid_has_dense_first_and_the_baselines_for_every_seed():
    runs = benchmark.grid(QUICK)
    for seed in benchmark.SEEDS:
        methods = [run.method for run in runs if run.seed == seed]
        assert methods[0] == "dense"
        assert {"static-random", "small-dense", "random-pruned", "magnitude", "rigl", "wired"} <= set(methods)
    assert len(runs) == len(set(map(str, map(asdict, runs))))


def test_a_result_s_name_and_command_tell_no_place_but_one_s_own_folder(tmp_path):
    def named(config):
        return runs.Run("vision", config).path(tmp_path), runs.command("vision", config)

    away = replace(
        benchmark.PRESETS["fashion-mnist"], data_dir=tmp_path, checkpoint=tmp_path / "a", save=tmp_path / "b"
    )
    assert named(away)[0] == named(replace(away, data_dir=None, checkpoint=None, save=None))[0]
    assert named(away)[1] == "gossamer train vision fashion-mnist --data-dir DATA_DIR"
    own = replace(away, data="folder")
    assert named(own)[0] != named(replace(own, data_dir=tmp_path / "other"))[0]


TIMES = ("train_seconds", "latency_ms")


def numbers(result) -> dict:
    found = {name: value for name, value in asdict(result).items() if name not in TIMES}
    found["extra"] = {name: value for name, value in found["extra"].items() if not name.endswith("_ms")}
    return found


def test_a_sparse_run_s_numbers_and_the_same_again():
    config = replace(QUICK, method="rigl", sparsity=0.9)
    result = benchmark.run(config)
    assert result.pattern == "Unstructured()" and result.sparsity == pytest.approx(0.9, abs=1e-3)
    assert result.nonzeros < 0.25 * result.parameters and result.bytes < 4 * result.parameters
    assert 0 <= result.value <= 1 and set(result.extra["corrupted"]) == {"noise", "blur", "contrast"}
    assert sum(map(sum, result.extra["confusion"])) == 500
    assert numbers(benchmark.run(config)) == numbers(result)


def test_wiring_counts_as_sparsity():
    config = replace(QUICK, model="inception", width=8, method="wired", sparsity=0.75, epochs=1)
    result = benchmark.run(config)
    assert (result.method, result.pattern) == ("inception-wired", "wiring")
    assert result.sparsity == pytest.approx(0.75) and result.nonzeros == result.parameters


def test_a_quick_run_is_far_above_chance():
    result = benchmark.run(replace(QUICK, width=8, epochs=6))
    assert result.value > 0.8 and result.floor == pytest.approx(0.1)
