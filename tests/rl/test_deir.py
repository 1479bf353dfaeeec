import numpy as np
import pytest
import torch

from gossamer_rl.curiosity import SIZE
from gossamer_rl.deir import DEIR
from gossamer_rl.environments import make
from gossamer_rl.observations import Seen


def make_bonus(copies: int, limit: int = 640, seen: Seen | None = None) -> DEIR:
    seen = make("MiniGrid-DoorKey-8x8-v0", 1).seen if seen is None else seen
    return DEIR(copies, limit, seen, 7, torch.Generator().manual_seed(0))


def test_the_least_quotient_by_hand():
    # o₀ after way 0 and o₁ = 2e₀ after way 1·e₁; then o = 3e₀ after e₁ + e₂: 9 / √2 and 1 / 1
    bonus, no = make_bonus(1), np.array([False])
    zero = torch.zeros(1, SIZE)
    first, now, way, later = (zero.clone() for _ in range(4))
    first[0, 0], now[0, 0], way[0, 1], later[0, 1], later[0, 2] = 2.0, 3.0, 1.0, 1.0, 1.0
    assert bonus.unlike(zero, zero, ~no).tolist() == [0]
    assert bonus.unlike(first, way, no).item() == pytest.approx(4)
    assert bonus.unlike(now, later, no).item() == pytest.approx(1, abs=1e-4)
    assert bonus.unlike(now, later, ~no).tolist() == [0]  # nothing is remembered of the episode before


def test_more_than_is_remembered_is_written_over():
    bonus = make_bonus(1, limit=3)
    for value in range(6):
        bonus.unlike(torch.full((1, SIZE), float(value)), torch.zeros(1, SIZE), np.array([value == 0]))
    assert sorted(bonus.shown[0, :, 0].tolist()) == [2, 3, 4, 5]


def test_the_ways_of_a_rollout_are_those_that_were_gone():
    copies, rng = make("MiniGrid-DoorKey-5x5-v0", 4), np.random.default_rng(0)
    copies.reset(0)
    bonus, began = make_bonus(4), np.ones(4, bool)
    shown, gone, ended = [], [], []
    for _ in range(120):
        shown.append(torch.from_numpy(copies.observe().copy()))
        bonus(copies.keys(), shown[-1], began)
        gone.append(bonus.before)
        began = copies.step(rng.integers(0, 7, 4)).ended.copy()
        ended.append(torch.from_numpy(began))
    assert torch.stack(ended).any()
    torch.testing.assert_close(bonus.retrace(torch.stack(shown), torch.stack(ended)), torch.stack(gone))


def test_it_learns_to_tell_where_an_action_leads():
    generator, bonus = torch.Generator().manual_seed(0), make_bonus(8, seen=Seen(None, 2))
    bonus.optimizer.param_groups[0]["lr"] = 3e-3
    ended, keys = torch.zeros(50, 8, dtype=torch.bool), np.zeros(8, np.uint64)
    for _ in range(80):  # action 1 leads to (1, 0), action 0 to (0, 1), whatever was before
        actions = torch.randint(2, (50, 8), generator=generator)
        shown = torch.nn.functional.one_hot(1 - actions.roll(1, 0)).float()
        for row in shown[:2]:
            bonus(keys, row, np.zeros(8, bool))
        bonus.learn(shown, actions, ended)
    way = torch.zeros(2, SIZE)
    seen = bonus.features(torch.eye(2))
    truly = bonus.judged(way, torch.tensor([1, 0]), seen)
    falsely = bonus.judged(way, torch.tensor([0, 1]), seen)
    assert (truly > 1).all() and (falsely < -1).all()
