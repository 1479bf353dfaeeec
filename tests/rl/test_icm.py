import numpy as np
import torch

from gossamer_rl.environments import make
from gossamer_rl.icm import ICM


def test_what_an_action_is_known_to_do_is_worth_less_than_what_it_never_did():
    generator, seen = torch.Generator().manual_seed(0), make("MiniGrid-DoorKey-8x8-v0", 1).seen
    bonus = ICM(2, 640, seen, 7, generator)
    one, other = (
        torch.full((2, 50), code, dtype=torch.uint8) for code in (0, 1)
    )  # action 3 leads from one to the other
    shown, actions = torch.stack([one, other] * 8), torch.tensor([[3, 3], [5, 5]] * 8)
    ended = torch.zeros(16, 2, dtype=torch.bool)
    for _ in range(200):
        bonus.learn(shown, actions, ended)
    keys, paid = np.zeros(2, np.uint64), []
    for action in (3, 0):
        bonus(keys, one, np.array([True, True]))
        bonus.take(torch.tensor([action, action]))
        paid.append(bonus(keys, other, np.array([False, True])))
    assert 0 < paid[0][0] < 0.1 * paid[1][0]
    assert paid[0][1] == paid[1][1] == 0  # an episode that has just begun
