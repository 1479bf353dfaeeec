import functools

import gymnasium
import numpy as np
import pytest

from gossamer import InputError
from gossamer_rl.environments import LONGEST, GymnasiumCopies, make, one
from gossamer_rl.observations import WORDS, grid_codes, read, seen_of, words_of


def test_codes_hold_object_colour_state_and_direction():
    views = np.zeros((1, 7, 7, 3), np.uint8)
    views[0, 2, 3] = (4, 4, 2)  # a locked yellow door
    codes = np.zeros((1, 50), np.uint8)
    grid_codes(views, np.array([3]), codes)
    assert codes[0, 2 * 7 + 3] == (4 * 6 + 4) * 3 + 2 and codes[0, 49] == 3 and codes.sum() == codes[0, 17] + 3


def test_compiled_worlds_and_minigrids_own_show_the_same():
    name = "MiniGrid-DoorKey-8x8-v0"
    ours, theirs = make(name, 2), GymnasiumCopies(name, 2)
    assert ours.seen.size == theirs.seen.size and np.array_equal(ours.seen.members, theirs.seen.members)
    theirs.reset(0)
    observation, _ = gymnasium.make(name, disable_env_checker=True).reset(seed=0)
    assert np.array_equal(theirs.observe()[0], read(theirs.seen, observation)[0])
    assert ours.limit == 640


def test_keys_are_equal_where_what_is_shown_is():
    copies = make("MiniGrid-DoorKey-8x8-v0", 64)
    copies.reset(0)
    rng = np.random.default_rng(0)
    shown: dict[int, bytes] = {}
    for _ in range(50):
        copies.step(rng.integers(0, 7, 64))
        for row, key in zip(copies.observe(), copies.keys().tolist(), strict=True):
            assert shown.setdefault(key, bytes(row)) == bytes(row)
    assert len(shown) == len(set(shown.values())) > 100
    assert not np.array_equal(copies.keys().copy(), copies.keys(state=True))


def test_an_episode_cut_short_shows_its_last_observation():
    copies = make("CartPole-v1", 3)
    copies.reset(0)
    for _ in range(200):
        before = copies.observe()
        step = copies.step(np.zeros(3, int))
        for i in np.flatnonzero(step.ended):
            assert abs(step.last[i, 2]) > 0.2 > abs(copies.observe()[i, 2])  # fallen; upright again
            assert step.terminated[i] and abs(step.last[i, 2] - before[i, 2]) < 0.1
    assert copies.seen.members is None and copies.seen.size == 4 and copies.actions == 2


def test_a_number_of_a_few_is_a_code_and_numbers_have_keys_by_parts_of_their_range():
    lake = make("FrozenLake8x8-v1", 4)
    lake.reset(0)
    assert lake.observe().tolist() == [[0]] * 4 and lake.seen.size == 64
    car = make("MountainCar-v0", 3)
    car.reset(0)
    car._now = np.array([[0.0, 0.001], [0.01, 0.002], [0.3, 0.002]], np.float32)
    first, near, far = car.keys().tolist()
    assert first == near != far


def test_the_first_episodes_do_not_all_end_together():
    copies = make("MiniGrid-Empty-5x5-v0", 64)
    copies.reset(3)
    ends = np.stack([copies.step(np.zeros(64, int)).ended.copy() for _ in range(100)])
    assert (ends.sum(0) == 1).all() and len(set(ends.argmax(0))) > 20


def test_the_state_of_gridworlds_goes_on():
    first, second = make("MiniGrid-DoorKey-6x6-v0", 4), make("MiniGrid-DoorKey-6x6-v0", 4)
    first.reset(1)
    second.reset(2)
    second.load_state_dict(first.state_dict())
    rng = np.random.default_rng(0)
    for _ in range(400):
        actions = rng.integers(0, 7, 4)
        assert np.array_equal(first.step(actions).rewards, second.step(actions).rewards)
        assert np.array_equal(first.observe(), second.observe())


def test_observations_of_several_parts_are_a_row_of_numbers():
    cards = make("Blackjack-v1", 2)
    cards.reset(0)
    assert cards.seen.size == 32 + 11 + 2 and cards.observe().sum(1).tolist() == [3, 3]
    observation, _ = gymnasium.make("Blackjack-v1").reset(seed=0)
    assert np.array_equal(read(cards.seen, observation)[0], cards.observe()[0])
    ended = np.zeros(2, bool)
    while not ended.any():
        step = cards.step(np.ones(2, int))
        ended = step.ended
    assert step.last.sum(1).tolist() == [3, 3] and not np.array_equal(step.last[ended], cards.observe()[ended])


def test_numbers_that_begin_elsewhere_are_told_apart():
    seen = seen_of(gymnasium.spaces.Discrete(3, start=5), "one")
    assert seen.size == 3 and read(seen, 6).tolist() == [[0, 1, 0]]


def test_an_episode_without_a_limit_is_cut():
    assert gymnasium.spec("CliffWalking-v1").max_episode_steps is None
    environment = one("CliffWalking-v1")
    environment.reset(seed=0)
    ends = [environment.step(3)[2:4] for _ in range(LONGEST)]  # to the left, at the left
    assert ends[-2:] == [(False, False), (False, True)]


class Picture(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.arange(60, dtype=np.uint8).reshape(4, 5, 3), {}

    def step(self, action):
        return np.full((4, 5, 3), 9, np.uint8), 1.0, True, False, {}


def test_an_image_is_read_as_a_row():
    gymnasium.register("Picture-v0", Picture)
    try:
        copies = make("Picture-v0", 2)
        copies.reset(0)
        assert copies.observe().tolist() == [list(range(60))] * 2
        assert (copies.step(np.zeros(2, int)).last == 9).all()
    finally:
        del gymnasium.registry["Picture-v0"]


def test_a_mission_that_differs_between_episodes_is_read():
    copies = make("MiniGrid-GoToDoor-5x5-v0", 3)
    copies.reset(0)
    shown = copies.observe()
    own = copies.envs.envs[0].unwrapped
    words = own.mission.split()
    assert words[:3] == ["go", "to", "the"] and shown.shape == (3, 50 + 16)
    assert [WORDS[code - 2] for code in shown[0, 50:] if code] == words
    assert copies.seen.size == 984 + 16 * (len(WORDS) + 2) and copies.seen.members.shape == (66, 198, 3)
    assert words_of("fly to the moon, then")[:6] == [
        1,
        *(WORDS.index(w) + 2 for w in ("to", "the")),
        1,
        WORDS.index("then") + 2,
        0,
    ]


def test_missions_of_minigrid_and_babyai_are_known_words():
    for name in (
        "MiniGrid-Fetch-8x8-N3-v0",
        "MiniGrid-PutNear-8x8-N3-v0",
        "BabyAI-GoToRedBall-v0",
        "BabyAI-PutNextLocal-v0",
    ):
        copies = make(name, 1)
        copies.reset(0)
        assert copies.seen.size > 984 and (copies.observe()[0, 50:] != 1).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MiniGrid-DoorKey-9x9-v0", r"did you mean 'MiniGrid-DoorKey"),
        ("CartPole-v11", r"did you mean 'CartPole-v1'"),
        ("Pendulum-v1", "agents here choose among numbered ones"),
        ("GymV21Environment-v0", "cannot be made"),
    ],
)
def test_what_no_agent_can_act_in_is_refused_by_name(name, message):
    with pytest.raises(InputError, match=message):
        make(name, 1)


def test_a_privilege_that_an_environment_does_not_grant_is_refused():
    lake = make("FrozenLake-v1", 1)
    lake.reset(0)
    with pytest.raises(InputError, match="whole state"):
        lake.keys(state=True)


class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, first: float, reward: float, last: float):
        self.first, self.reward, self.last = first, reward, last

    def reset(self, *, seed=None, options=None):
        return np.full(2, self.first, np.float32), {}

    def step(self, action):
        return np.full(2, self.last, np.float32), self.reward, True, False, {}


@pytest.mark.parametrize("kind", range(3))
def test_what_is_no_number_is_one_clear_error(kind):
    numbers = np.where(np.arange(3) == kind, np.nan, 0.0).tolist()
    gymnasium.register("Broken-v0", functools.partial(Broken, *numbers))
    try:
        copies = make("Broken-v0", 2)
        with pytest.raises(InputError, match="not a finite number"):
            copies.reset(0)
            copies.step(np.zeros(2, int))
    finally:
        del gymnasium.registry["Broken-v0"]


class Dying(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        raise RuntimeError("no more memory")


def test_an_environment_that_dies_is_named():
    gymnasium.register("Dying-v0", Dying)
    copies = make("Dying-v0", 2)
    copies.reset(0)
    with pytest.raises(InputError, match="Dying-v0 failed: RuntimeError: no more memory"):
        copies.step(np.zeros(2, np.int64))
