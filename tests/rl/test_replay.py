import numpy as np
import pytest
import torch

from gossamer_rl.observations import Seen
from gossamer_rl.replay import EXPONENT, FLOOR, Replay, find, put_priorities, sum_ahead


def test_sums_of_priorities_and_what_they_find():
    tree = np.zeros(16)
    put_priorities(tree, np.array([0, 1, 3, 6]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert tree[1] == 10 and tree[2] == 6 and tree[3] == 4 and tree[8:].tolist() == [1, 2, 0, 3, 0, 0, 4, 0]
    slots = np.zeros(6, np.int64)
    find(tree, np.array([0.0, 0.05, 0.1, 0.35, 0.65, 0.999]), slots)  # of 10: 0, ½, 1, 3½, 6½, 9.99
    assert slots.tolist() == [0, 0, 1, 3, 6, 6]


def test_returns_of_several_steps_by_hand():
    # copy 0 ends after its third step, copy 1 is cut off after its second; γ = ½
    rewards = np.array([[1, 1], [2, 2], [4, 4], [8, 8]], np.float32)
    terminated = np.array([[0, 0], [0, 0], [1, 0], [0, 0]], bool)
    ended = np.array([[0, 0], [0, 1], [1, 0], [0, 0]], bool)
    slots = np.array([0, 2, 1, 5, 6])
    sums, lasts, factors = np.zeros(5, np.float32), np.zeros(5, np.int64), np.zeros(5, np.float32)
    sum_ahead(rewards, terminated, ended, slots, 2, 0.5, sums, lasts, factors)
    assert sums.tolist() == [1 + 2 / 2, 2 + 4 / 2, 1 + 2 / 2, 4 + 8 / 2, 8 + 1 / 2]  # the last goes around
    assert lasts.tolist() == [2, 4, 3, 7, 0] and factors.tolist() == [0.25, 0, 0.25, 0.25, 0.25]


def filled(rows: int, written: int) -> Replay:
    replay, none = Replay(rows * 2, 2, Seen(None, 1), 2, 0.5), np.zeros(2, bool)
    for k in range(written):
        now = torch.tensor([[float(k)], [k + 100.0]])
        replay.add(now, torch.tensor([k, k]), np.full(2, k, np.float32), none, none, now + 1)
    return replay


@pytest.mark.parametrize(("written", "known"), [(3, {0, 1}), (5, {0, 1, 2, 3}), (8, {2, 3, 4, 5, 6})])
def test_only_steps_whose_several_steps_are_known_are_drawn(written, known):
    replay = filled(6, written)
    batch = replay.draw(200, 1.0, torch.Generator().manual_seed(0))
    assert set(batch.actions.tolist()) == known and len(replay) == 2 * len(known)
    assert torch.equal(batch.sums, batch.actions + 0.5 * (batch.actions + 1))
    assert torch.equal(batch.beyond, batch.observations + 2)
    assert (batch.weights == 1).all()  # all are equally likely


def test_large_errors_are_drawn_more_often_and_weigh_less():
    replay, generator = filled(6, 5), torch.Generator().manual_seed(0)
    slots = np.arange(8)
    replay.note(slots, torch.tensor([1.0] * 7 + [-8.0]))
    batch = replay.draw(4000, 1.0, generator)
    likely = np.array([1.0 + FLOOR] * 7 + [8 + FLOOR]) ** EXPONENT
    assert (batch.slots == 7).mean() == pytest.approx(likely[7] / likely.sum(), abs=0.01)
    light = batch.weights[torch.from_numpy(batch.slots == 7)]
    torch.testing.assert_close(light, torch.full_like(light, likely[0] / likely[7]))


@pytest.mark.parametrize(("written", "known"), [(5, {2, 3}), (8, {4, 5, 6})])
def test_what_is_forgotten_is_drawn_no_more(written, known):
    replay = filled(6, written)
    seen, actions = replay.oldest(2)
    start = max(0, written - 6)
    assert actions.tolist() == [start, start, start + 1, start + 1]
    assert seen[:, 0].tolist() == [start, start + 100, start + 1, start + 101]
    replay.forget(2)
    batch = replay.draw(200, 1.0, torch.Generator().manual_seed(0))
    assert set(batch.actions.tolist()) == known and len(replay) == 2 * len(known) and (batch.weights == 1).all()
    one = replay.draw(200, 1.0, torch.Generator().manual_seed(0), several=1)
    assert torch.equal(one.sums, one.actions.float()) and torch.equal(one.beyond, one.observations + 1)


def test_it_goes_on_from_its_state():
    first, second = filled(6, 8), filled(6, 1)
    first.forget(1)
    first.note(np.array([4, 5]), torch.tensor([3.0, 0.1]))
    second.load_state_dict(first.state_dict())
    batches = [replay.draw(50, 0.5, torch.Generator().manual_seed(1)) for replay in (first, second)]
    assert all(np.array_equal(a, b) for a, b in zip(*batches, strict=True))
