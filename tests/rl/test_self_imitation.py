import numpy as np
import pytest
import torch

from gossamer_rl.observations import Seen
from gossamer_rl.self_imitation import VALUE, SelfImitation, imitation_loss

SEEN = Seen(None, 1)


def filled(rewards, ended, terminated=None, room=8, length=2, discount=0.5) -> SelfImitation:
    """One copy, which shows the number of each step."""
    memory = SelfImitation(room, 1, SEEN, length, discount, torch.zeros(1, 1))
    for i, (reward, end) in enumerate(zip(rewards, ended, strict=True)):
        last = end if terminated is None else terminated[i]
        gave, over, cut = (np.array([x]) for x in (reward, last, end))
        step = torch.full((1, 1), float(i))
        memory.add(step, torch.tensor([i]), gave, over, cut, step)
    return memory


def test_returns_of_whole_episodes_by_hand():
    memory = filled([0, 0, 1, 2, 0], [False, False, True, True, False])
    assert memory.returns[:5, 0].tolist() == [0.25, 0.5, 1, 2, -np.inf]  # the last episode goes on


def test_an_episode_that_is_cut_off_has_no_return():
    memory = filled([1, 1, 1], [False, True, True], terminated=[False, False, True])
    assert memory.returns[:3, 0].tolist() == [-np.inf, -np.inf, 1]


def test_an_episode_longer_than_the_memory_has_returns_as_far_back_as_it_is_kept():
    # rows 0 and 1 hold steps 8 and 9; the episode's steps 2 to 9 are kept
    memory = filled([0] * 9 + [1], [False] * 9 + [True])
    assert memory.returns[:, 0].tolist() == [0.5, 1, *(0.5 ** (9 - step) for step in range(2, 8))]
    memory = filled([0] * 8 + [1], [False] * 8 + [True])  # step 1 is gone with its sequence, though not written over
    assert memory.returns[:, 0].tolist() == [1, -np.inf, *(0.5 ** (8 - step) for step in range(2, 8))]


def test_drawn_sequences_are_those_that_gave_something_with_the_state_before_them():
    generator = torch.Generator().manual_seed(0)
    memory = filled([0] * 8, [False] * 8)
    assert memory.draw(4, generator) is None
    memory = filled([0, 0, 0, 1, 0, 0], [True, True, False, True, False, True])
    drawn = memory.draw(16, generator)
    assert drawn is not None and drawn.slots.tolist() == [1] * 16
    assert drawn.observations[:, 0, 0].tolist() == [2, 3] == drawn.actions[:, 0].tolist()
    assert drawn.returns[:, 0].tolist() == [0.5, 1] and drawn.ended[:, 0].tolist() == [False, True]
    assert drawn.states[0].tolist() == [2]
    memory.note(drawn.slots, torch.zeros(2, 16))
    assert memory.draw(4, generator) is None  # the agent expects as much by now


def test_loss_by_hand():
    # R − V = 1, −1, −∞: only the first is imitated; 0.01 · ½ · 1 − log ½ · 1, over three
    logs = torch.tensor([0.5, 0.25, 0.1]).log().requires_grad_()
    values = torch.tensor([1.0, 2.0, 0.0], requires_grad=True)
    loss, better = imitation_loss(logs, values, torch.tensor([2.0, 1.0, -torch.inf]))
    assert better.tolist() == [1, 0, 0]
    assert loss.item() == pytest.approx((VALUE / 2 + np.log(2)) / 3)
    loss.backward()
    assert logs.grad is not None and logs.grad.tolist() == pytest.approx([-1 / 3, 0, 0])
    assert values.grad is not None and values.grad.tolist() == pytest.approx([-VALUE / 3, 0, 0])
