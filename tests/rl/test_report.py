from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from gossamer_rl import benchmark, report
from gossamer_rl.config import Config
from gossamer_rl.gridworlds.stock import stock
from gossamer_rl.train import Run

TINY = Config(data="MiniGrid-Empty-5x5-v0", steps=96, copies=2, horizon=8, width=8, epochs=1, minibatch=8, episodes=4)


@pytest.fixture(scope="module")
def results():
    return [benchmark.run(replace(TINY, method=method)) for method in ("dense", "static-random", "random")]


def test_an_episode_that_is_kept_plays_again(results):
    told = results[0].extra["episode"]
    environment = gymnasium.make(TINY.data)
    environment.reset(seed=told["seed"])
    ended = [any(environment.step(action)[2:4]) for action in told["actions"]]
    assert ended == [False] * (len(ended) - 1) + [True]


def test_the_page_shows_where_dense_and_sparse_go_and_an_episode(results):
    first, second, third = benchmark.pictures(results).items()
    assert first[0].startswith("Where dense goes") and second[0].startswith("Where static-random 90.0% goes")
    assert third[0].startswith("An episode of static-random 90.0%")
    assert all(png.startswith(b"\x89PNG") and len(png) < 20_000 for _, png in (first, second, third))
    assert benchmark.pictures(results[2:]) == {}  # of acting at random nothing is kept


def test_the_most_visited_cell_is_the_reddest(results):
    steps = np.array(results[0].extra["visits"]["steps"])
    warm = report.heat(results[0]).astype(int)
    red = (warm[..., 0] - warm[..., 2]).reshape(5, report.TILE, 5, report.TILE).mean((1, 3)).T
    assert np.unravel_index(red.argmax(), red.shape) == np.unravel_index(steps.argmax(), steps.shape)


def test_a_film_is_a_row_of_layouts(results):
    own = stock(TINY.data)
    film = report.film(results[0])
    assert film.shape[0] == own.height * report.TILE
    assert film.shape[1] <= report.FRAMES * (own.width * report.TILE + 4)


def test_what_has_no_map_keeps_nothing():
    assert report.kept(Run(replace(TINY, data="CartPole-v1")).policy) == {}
