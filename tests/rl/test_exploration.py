import numpy as np
import torch

from gossamer_rl.environments import make
from gossamer_rl.exploration import Count, EpisodicCount, EpisodicCounts, FirstVisit, LifelongFirstVisit


def told(bonus, keys: list[list[int]], began: list[list[bool]]) -> list[list[float]]:
    shown = torch.zeros(len(keys[0]), 50, dtype=torch.uint8)
    pairs = zip(keys, began, strict=True)
    return [np.asarray(bonus(np.array(k, np.uint64), shown, np.array(b)), float).round(6).tolist() for k, b in pairs]


KEYS = [[5, 5], [5, 6], [5, 5], [5, 5]]
BEGAN = [[True, True], [False, False], [False, False], [True, False]]


def make_bonus(kind):
    copies = make("MiniGrid-DoorKey-8x8-v0", 2)
    return kind(2, 640, copies.seen, copies.actions, torch.Generator().manual_seed(0))


def test_first_visits_of_an_episode():
    assert told(make_bonus(FirstVisit), KEYS, BEGAN) == [[0, 0], [0, 1], [0, 0], [0, 0]]


def test_counts_of_an_episode():
    third, half = round(3**-0.5, 6), round(2**-0.5, 6)
    assert told(make_bonus(EpisodicCount), KEYS, BEGAN) == [[0, 0], [half, 1], [third, half], [0, third]]


def test_what_is_rare_in_all_episodes_is_worth_more():
    # key 6 is seen once; at its first visit in an episode key 5 has been seen five times, and 7 never before
    bonus = make_bonus(LifelongFirstVisit)
    assert told(bonus, KEYS[:2], BEGAN[:2]) == [[0, 0], [0, 1]]
    assert told(bonus, [[7, 7]], [[False, False]]) == [[round(2**-0.5, 6)] * 2]


def test_visits_of_all_episodes_are_counted_by_hash():
    # key 5 is seen twice at once, then once beside 6, and once more each time that it is shown
    third = round(3**-0.5, 6)
    assert told(make_bonus(Count), KEYS, BEGAN) == [[0, 0], [third, 1], [round(5**-0.5, 6)] * 2, [0, round(7**-0.5, 6)]]


def test_counting_equals_a_dictionary_for_each_episode():
    rng, counts = np.random.default_rng(0), EpisodicCounts(4, 20)
    seen: list[dict[int, int]] = [{} for _ in range(4)]
    some = rng.integers(0, 2**63, 15).astype(np.uint64)
    for _ in range(500):
        keys, began = some[rng.integers(0, 15, 4)], rng.random(4) < 0.05
        found = counts.visit(keys, began).tolist()
        for i, key in enumerate(keys.tolist()):
            if began[i]:
                seen[i] = {}
            seen[i][key] = seen[i].get(key, 0) + 1
        assert found == [seen[i][key] for i, key in enumerate(keys.tolist())]


def test_a_full_table_pays_nothing():
    counts = EpisodicCounts(1, 1)
    for key in range(64):
        assert counts.visit(np.array([key], np.uint64), np.array([False])).tolist() == [1]
    assert counts.visit(np.array([99], np.uint64), np.array([False])).tolist() == [2]
