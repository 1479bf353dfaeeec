from dataclasses import replace

import numpy as np
import pytest

from gossamer import InputError
from gossamer.results import Result
from gossamer_rl.config import Config
from gossamer_rl.environments import make
from gossamer_rl.gridworlds.stock import stock
from gossamer_rl.pictures import Options, curves, film, frames_of, heat, main, visits
from gossamer_rl.train import Run, train

pytest.importorskip("matplotlib")
TINY = Config(data="MiniGrid-Empty-5x5-v0", steps=96, copies=2, horizon=8, width=8, epochs=1, minibatch=8)


@pytest.fixture(scope="module")
def policy():
    return Run(TINY).policy


def result(seed: int, curve: list[tuple[int, float, float]]) -> Result:
    numbers = dict.fromkeys(("sparsity_asked", "sparsity", "value", "floor", "train_seconds"), 0.0)
    counts = dict.fromkeys(("parameters", "nonzeros", "bytes"), 0)
    texts = {"domain": "rl", "method": "dense", "data": "MiniGrid-Empty-5x5-v0", "pattern": "dense", "metric": "return"}
    return Result(**texts, **numbers, **counts, seed=seed, higher_is_better=True, config={}, extra={"curve": curve})


def test_curves_are_the_interquartile_mean_and_what_was_solved_stays_there():
    long = [(100, 0.0, 0.0), (200, 0.4, 0.4)]
    (axes,) = curves([result(1, [(100, 1.0, 1.0)]), result(2, long)]).axes
    x, y = axes.lines[0].get_data()
    assert y[np.searchsorted(x, 100)] == pytest.approx((100 + 0) / 2)
    assert y[-1] == pytest.approx((100 + 40) / 2) and x[-1] == 200
    assert len(axes.collections) == 1 and axes.get_legend().get_texts()[0].get_text() == "dense (2 seeds)"
    assert len(curves([result(1, long)]).axes[0].collections) == 0  # one seed has no interval


def test_visits_are_the_steps_of_all_episodes_on_one_layout(policy):
    counts, own = visits(policy, seed=3, episodes=8), stock(policy.data)
    own.reset(seed=3)
    assert counts.shape == (5, 5) and counts[tuple(own.agent_pos)] >= 8
    walls = np.array(
        [[own.grid.get(x, y) is not None and own.grid.get(x, y).type == "wall" for y in range(5)] for x in range(5)]
    )
    assert not counts[walls].any() and 8 <= counts.sum() <= 8 * make(policy.data, 1).limit
    assert len(heat({"one": policy, "other": policy}, 3).axes) == 3  # and a scale


def test_a_film_begins_and_ends_with_the_episode(policy):
    drawn = film(policy, 1)
    titles = [axes.get_title() for axes in drawn.axes if axes.get_title()]
    seed, steps = (int(drawn.get_suptitle().split(word)[1].split()[0].strip(":")) for word in ("seed ", "solved in "))
    frames, _, total = frames_of(policy, seed)
    assert titles[0] == "step 0" and titles[-1] == f"step {steps}" and len(frames) == steps + 1 and total > 0


def test_what_changes_the_grid_is_told(policy):
    key = replace(TINY, data="MiniGrid-DoorKey-5x5-v0")
    _, changed, _ = frames_of(Run(key).policy, 1)
    _, none, _ = frames_of(policy, 1)
    assert changed and not none


def test_the_command_writes_what_there_is(tmp_path, capsys):
    path = tmp_path / "policy.gossamer"
    train(replace(TINY, save=path))
    result(1, [(96, 0.5, 0.5)]).save(tmp_path / "results", "one")
    main(Options(tmp_path / "results", (path,), tmp_path / "pictures"))
    names = {"Empty-5x5-curves.svg", "Empty-5x5-visits.svg", "Empty-5x5-film.svg"}
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == names
    assert capsys.readouterr().out.count("wrote") == 3
    with pytest.raises(InputError, match="there are no results of rl"):
        main(Options(tmp_path / "nowhere"))


def test_a_policy_without_a_map_is_named():
    with pytest.raises(InputError, match=r"CartPole-v1 has no map"):
        visits(Run(replace(TINY, data="CartPole-v1")).policy, 1)
