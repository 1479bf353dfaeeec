import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from gossamer import InputError
from gossamer_vision.budget import keep_to_budget, seconds_of_an_epoch
from gossamer_vision.config import Config
from gossamer_vision.progress import late
from gossamer_vision.run import Run
from gossamer_vision.start import load_data

SMALL = Config(width=4, stem=2, epochs=1, batch=100)


def test_time_budget_leaves_fewer_epochs_or_is_refused():
    lines: list[str] = []
    config = Config(width=4, stem=2, epochs=100, batch=100, time_budget=25.0)
    run = Run(config, load_data(config), lines.append)
    assert 0 < seconds_of_an_epoch(run) < 60
    keep_to_budget(run, 2.0)
    assert run.progress.epochs == run.epochs == 12 and lines == ["a budget of 25 s holds 12 of 100 epochs"]
    with pytest.raises(InputError, match=r"time_budget is 25 s, and 1 epoch of this training would take about 66 s"):
        keep_to_budget(run, 66.0)


def test_steps_are_left_out_where_the_time_runs_out():
    assert late(9, 100, 1, 1000) == late(44, 100, 500, 1000) == 0
    assert late(44, 100, 300, 1000) == 100 and late(500, 100, 300, 1000) == 700


@pytest.mark.parametrize("method", ["gmp", "granet", "lottery"])
def test_a_machine_that_became_slow_ends_within_the_budget_and_resumes(tmp_path, monkeypatch, method):
    clock = count()  # a second a step
    now = SimpleNamespace(perf_counter=time.perf_counter, monotonic=lambda: next(clock))
    monkeypatch.setattr("gossamer_vision.run.time", now)
    config = replace(SMALL, epochs=4, every=3, sparsity=0.8, method=method, time_budget=30.0)
    data = load_data(config)
    runs = [Run(config, data), Run(config, data)]
    for number, run in enumerate(runs):
        clock, run.clock = count(), -1
        while not run.done:
            run.step()
            if number and run.progress.steps == 11:
                run.save(tmp_path / "run.pt")
                run = runs[1] = Run(config, data)
                run.restore(tmp_path / "run.pt")
                run.clock = next(clock)
                clock = count(run.clock + 1)
    whole, resumed = (replace(run.progress, seconds=0.0) for run in runs)
    assert whole == resumed and torch.equal(*(next(run.network.parameters()) for run in runs))
    assert whole.steps + whole.skipped == runs[0].epochs * 10 and 25 <= whole.spent <= 30
    assert len(whole.held_out) == runs[0].epochs and runs[0].optimizer.param_groups[0]["lr"] < 0.005
    assert runs[0].sparsity == pytest.approx(0.8, abs=0.001)


def test_a_budget_that_holds_changes_nothing():
    runs = [Run(config, load_data(config)) for config in (SMALL, replace(SMALL, time_budget=1000.0))]
    for run in runs:
        while not run.done:
            run.step()
    assert runs[0].progress.losses == runs[1].progress.losses and not runs[1].progress.skipped
