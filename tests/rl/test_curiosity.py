import numpy as np
import pytest
import torch

from gossamer_rl.bonuses import BONUSES
from gossamer_rl.config import BONUSES as NAMES
from gossamer_rl.curiosity import E3B, RIDE, RND, SIZE, Controllable, NovelD
from gossamer_rl.environments import make
from gossamer_rl.observations import Seen


def test_names_are_those_of_the_configuration():
    assert tuple(BONUSES) == NAMES


def make_bonus(kind, seen=None, copies=2):
    seen = make("MiniGrid-DoorKey-8x8-v0", 1).seen if seen is None else seen
    return kind(copies, 640, seen, 7, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [RND, NovelD])
def test_what_was_learned_is_no_longer_new(kind):
    copies = make("MiniGrid-FourRooms-v0", 64)
    copies.reset(0)
    actions, ended = torch.zeros(1, 64, dtype=torch.int64), torch.zeros(1, 64, dtype=torch.bool)
    bonus, known = make_bonus(kind), torch.from_numpy(copies.observe().copy())
    for _ in range(60):
        bonus.learn(known[None], actions, ended)
    copies.reset(1)
    new = torch.from_numpy(copies.observe().copy())
    assert bonus.error(known).mean() < 0.5 * bonus.error(new).mean()


@pytest.mark.parametrize("name", BONUSES)
def test_a_bonus_goes_on_from_its_state(name):
    copies, rng = make("MiniGrid-DoorKey-5x5-v0", 8), np.random.default_rng(0)
    copies.reset(0)
    first, second = (BONUSES[name](8, copies.limit, copies.seen, 7, torch.Generator().manual_seed(s)) for s in (1, 2))
    for step in range(300):
        shown, ended = torch.from_numpy(copies.observe().copy()), copies.step(rng.integers(0, 7, 8)).ended.copy()
        paid = np.asarray(first(copies.keys(), shown, ended), float)
        if step == 150:
            first.learn(
                torch.stack([shown, shown]), torch.ones(2, 8, dtype=torch.int64), torch.zeros(2, 8, dtype=torch.bool)
            )
            second.load_state_dict(first.state_dict())
        elif step > 150:
            assert np.array_equal(paid, np.asarray(second(copies.keys(), shown, ended), float))


def test_ellipse_by_hand():
    # C = 0.1 I: φᵀφ / 0.1 = 40 for φ = 2e₀; then C₀₀ = 4.1: 4 / 4.1; e₁ is new: 1 / 0.1; the next episode knows nothing
    bonus = make_bonus(E3B, copies=1)
    first, second = torch.zeros(1, SIZE), torch.zeros(1, SIZE)
    first[0, 0], second[0, 1] = 2.0, 1.0
    shown = [(first, False), (first, False), (second, False), (first, True)]
    found = [bonus.outside(features, np.array([began])).item() for features, began in shown]
    assert found == pytest.approx([40, 4 / 4.1, 10, 40], rel=1e-4)


def test_the_ellipse_is_the_inverse_of_what_was_shown():
    bonus, began = make_bonus(E3B, copies=3), np.zeros(3, bool)
    shown = torch.randn(20, 3, SIZE, generator=torch.Generator().manual_seed(0))
    for features in shown:
        bonus.outside(features, began)
    gram = torch.einsum("tni,tnj->nij", shown, shown) + 0.1 * torch.eye(SIZE)
    torch.testing.assert_close(bonus.ellipses @ gram, torch.eye(SIZE).expand(3, -1, -1), atol=1e-2, rtol=1e-2)


def test_ride_pays_the_change_over_the_root_of_the_visits():
    bonus = make_bonus(RIDE, Seen(None, SIZE), 1)
    bonus.features = torch.nn.Identity()
    shown = torch.zeros(4, 1, SIZE)
    shown[1, 0, :2] = torch.tensor([3.0, 4.0])  # 5 away from the first, and the third is 5 away from it
    keys, began = [1, 2, 1, 3], [True, False, False, True]
    steps = zip(keys, shown, began, strict=True)
    found = [float(bonus(np.array([k], np.uint64), x, np.array([b]))[0]) for k, x, b in steps]
    assert found == pytest.approx([0, 5, 5 / 2**0.5, 0])


def test_features_learn_what_the_action_was():
    bonus, generator = make_bonus(Controllable, Seen(None, 2)), torch.Generator().manual_seed(0)
    ended = torch.zeros(50, 8, dtype=torch.bool)
    for _ in range(80):
        actions = torch.randint(2, (50, 8), generator=generator)
        place = torch.cumsum(2.0 * actions - 1, 0) - (2.0 * actions - 1)
        shown = torch.stack([place, torch.randn(50, 8, generator=generator)], 2) / 5
        bonus.learn(shown, actions, ended)
    pairs = [bonus.features(x.flatten(0, 1)) for x in (shown[:-1], shown[1:])]
    guess = bonus.inverse(torch.cat(pairs, 1)).argmax(1)
    assert (guess == actions[:-1].flatten()).float().mean() > 0.95
