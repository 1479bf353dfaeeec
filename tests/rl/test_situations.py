import gymnasium
import minigrid  # noqa: F401
import numpy as np
import pytest
import torch
from minigrid.core.constants import STATE_TO_IDX
from minigrid.core.world_object import Ball, Box, Door, Key

from gossamer_rl.environments import make
from gossamer_rl.exploration import LifelongFirstVisit
from gossamer_rl.gridworlds.cells import BALL, BOX, DOOR, EMPTY, KEY
from gossamer_rl.observations import OBJECTS, STATES, grid_codes, hashed
from gossamer_rl.situations import Situation, ViewAndSituation, situations


def codes_of(*things, carried=None) -> np.ndarray:
    """The codes of what stock MiniGrid shows in an empty room with these things in a row ahead of the agent."""
    env = gymnasium.make("MiniGrid-Empty-8x8-v0").unwrapped
    env.reset(seed=0)
    env.agent_pos, env.agent_dir, env.carrying = (1, 3), 0, carried
    for i, thing in enumerate(things):
        env.grid.set(3, 1 + i, thing)
    shown, codes = env.gen_obs(), np.zeros((1, 50), np.uint8)
    grid_codes(shown["image"][None], np.array([shown["direction"]]), codes)
    return codes


def situation(codes: np.ndarray) -> np.ndarray:
    found = np.zeros((len(codes), OBJECTS * STATES + 1), np.int64)
    situations(codes, found)
    return found


def test_a_situation_is_what_is_seen_in_which_state_and_what_is_carried():
    door = Door("red", is_locked=True)
    found = situation(codes_of(Ball("blue"), door, Box("grey"), carried=Key("red")))[0]
    seen = {tuple(map(int, divmod(i, STATES))) for i in np.flatnonzero(found[:-1])}
    assert {(BALL, 0), (DOOR, STATE_TO_IDX["locked"]), (BOX, 0)} <= seen
    assert found[-1] == KEY and not any(kind == KEY for kind, _ in seen)
    assert situation(codes_of(door))[0, -1] == EMPTY


def test_colours_places_and_numbers_do_not_matter():
    one = situation(codes_of(Ball("blue"), Box("grey")))
    assert (one == situation(codes_of(Box("red"), None, Ball("green"), Ball("red")))).all()
    assert (one != situation(codes_of(Ball("blue")))).any()


def make_bonus(kind, name="MiniGrid-DoorKey-8x8-v0"):
    copies = make(name, 1)
    return kind(1, 640, copies.seen, copies.actions, torch.Generator().manual_seed(0))


def test_a_situation_is_paid_once_an_episode_and_less_the_more_often_it_was_met():
    bonus, views = make_bonus(Situation), [codes_of(), codes_of(Ball("blue")), codes_of(None, Ball("red"))]
    began = [[True], [False], [False], [True], [False]]
    paid = [
        float(bonus(hashed(view), torch.from_numpy(view), np.array(start))[0])
        for view, start in zip([*views, views[0], views[2]], began, strict=True)
    ]
    assert paid == pytest.approx([0, 1, 0, 0, 3**-0.5])  # met twice in the episode before


def test_half_is_of_views_and_half_of_situations():
    bonus, parts = make_bonus(ViewAndSituation), [make_bonus(LifelongFirstVisit), make_bonus(Situation)]
    views = [codes_of(), codes_of(Ball("blue")), codes_of(None, Ball("red"))]
    means = np.array([0.2, 0.02])
    for view, start in zip(views, ([True], [False], [False]), strict=True):
        told = hashed(view), torch.from_numpy(view), np.array(start)
        paid = np.array([part(*told)[0] for part in parts])
        means += (paid - means) / 1000
        assert np.allclose(bonus(*told), np.mean(paid / means))
    again = make_bonus(ViewAndSituation)
    again.load_state_dict(bonus.state_dict())
    assert np.array_equal(again(*told), bonus(*told))


def test_what_is_no_view_counts_by_its_key():
    bonus = make_bonus(Situation, "FrozenLake8x8-v1")
    shown = torch.zeros(1, 1, dtype=torch.int32)
    paid = [float(bonus(np.array([key], np.uint64), shown, np.array([False]))[0]) for key in (5, 6, 5)]
    assert paid == [1, 1, 0]
