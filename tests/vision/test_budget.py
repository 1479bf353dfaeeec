import pytest

from gossamer import InputError
from gossamer_vision.budget import keep_to_budget, seconds_of_an_epoch
from gossamer_vision.config import Config
from gossamer_vision.run import Run
from gossamer_vision.start import load_data


def test_time_budget_leaves_fewer_epochs_or_is_refused():
    lines: list[str] = []
    config = Config(width=4, stem=2, epochs=100, batch=100, time_budget=25.0)
    run = Run(config, load_data(config), lines.append)
    assert 0 < seconds_of_an_epoch(run) < 60
    keep_to_budget(run, 2.0)
    assert run.progress.epochs == run.epochs == 12 and lines == ["a budget of 25 s holds 12 of 100 epochs"]
    with pytest.raises(InputError, match=r"time_budget is 25 s, and 1 epoch of this training would take about 66 s"):
        keep_to_budget(run, 66.0)
