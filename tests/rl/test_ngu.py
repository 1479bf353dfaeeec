import numpy as np
import pytest
import torch

from gossamer_rl.curiosity import SIZE
from gossamer_rl.environments import make
from gossamer_rl.ngu import LEAST, NGU, SOFTNESS


def test_far_from_the_episode_is_worth_more_and_an_end_forgets():
    bonus = NGU(2, 640, make("MiniGrid-DoorKey-8x8-v0", 1).seen, 7, torch.Generator().manual_seed(0))
    stays, far = torch.zeros(2, SIZE), torch.ones(2, SIZE)
    no = np.array([False, False])
    assert bonus.far(stays, ~no).tolist() == [0, 0]
    again = bonus.far(stays, no)  # at distance 0 the kernel is 1
    assert again == pytest.approx([1 / (1 + LEAST)] * 2)
    moved = bonus.far(far, no)  # both neighbours at d² = 32, of which 0.01 are the running mean: K = ε / (100 + ε)
    kernel = SOFTNESS / (SIZE / (0.01 * SIZE) + SOFTNESS)
    assert moved == pytest.approx([1 / ((2 * kernel) ** 0.5 + LEAST)] * 2, rel=1e-3)
    assert bonus.far(far, np.array([True, False]))[0] == 0  # nothing is remembered of the episode before


def test_more_than_is_remembered_is_written_over():
    bonus = NGU(1, 3, make("MiniGrid-DoorKey-8x8-v0", 1).seen, 7, torch.Generator().manual_seed(0))
    for value in range(6):
        bonus.far(torch.full((1, SIZE), float(value)), np.array([False]))
    assert sorted(bonus.remembered[0, :, 0].tolist()) == [2, 3, 4, 5]
