"""What a cell of a gridworld holds, as one number; and the random numbers that layouts are drawn with.

A cell is kind + 16 · colour + 256 · state + 4096 · (kind + 16 · colour of what a box contains), with MiniGrid's own
numbers for kinds, colours and states.
"""

import numba
import numpy as np
from numba import njit

UNSEEN, EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA = range(10)
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
OPEN, CLOSED, LOCKED = range(3)
BY_NAME = (BLUE, GREEN, GREY, PURPLE, RED, YELLOW)
"""the colours in the order of their English names, as MiniGrid draws them"""
COLOURS = len(BY_NAME)
WALL_CELL = WALL + 16 * GREY
GOAL_CELL = GOAL + 16 * GREEN
LAVA_CELL = LAVA + 16 * RED
RIGHT, DOWN, LEFT, UP = range(4)
DX = np.array((1, 0, -1, 0), np.int32)
DY = np.array((0, 1, 0, -1), np.int32)

loop = njit(cache=True, error_model="numpy", nogil=True)


@loop
def cell(kind: int, colour: int, state: int = 0) -> int:
    """The number of a cell with this object."""
    return kind + 16 * colour + 256 * state


@loop
def below(n: int, random: np.ndarray, i: int) -> int:
    """A whole number in [0, n), drawn from the i-th generator, which moves on (SplitMix64; Steele et al. 2014)."""
    random[i] += np.uint64(0x9E3779B97F4A7C15)
    z = random[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
    return numba.int64((z * np.uint64(n)) >> np.uint64(32))


@loop
def between(low: int, high: int, random: np.ndarray, i: int) -> int:
    """A whole number in [low, high), drawn from the i-th generator."""
    return low + below(high - low, random, i)


@loop
def colour_but(excluded: int, random: np.ndarray, i: int) -> int:
    """A colour other than `excluded`, each equally likely; any colour where that is none (−1)."""
    while True:
        colour = below(COLOURS, random, i)
        if colour != excluded:
            return colour


@loop
def shuffle(values: np.ndarray, random: np.ndarray, i: int) -> None:
    """Bring the values into a random order (Fisher & Yates)."""
    for last in range(len(values) - 1, 0, -1):
        other = below(last + 1, random, i)
        values[last], values[other] = values[other], values[last]


@loop
def wall_rectangle(cells: np.ndarray, x: int, y: int, width: int, height: int) -> None:
    """Draw walls along the edges of a rectangle in cells [width, height]."""
    for dx in range(width):
        cells[x + dx, y] = WALL_CELL
        cells[x + dx, y + height - 1] = WALL_CELL
    for dy in range(height):
        cells[x, y + dy] = WALL_CELL
        cells[x + width - 1, y + dy] = WALL_CELL


@loop
def free_place(
    cells: np.ndarray, agent: np.ndarray, box: tuple[int, int, int, int], apart: bool, random: np.ndarray, i: int
) -> tuple[int, int]:
    """An empty cell in the box (x, y, width, height) without the agent; `apart`: not beside the agent, either."""
    x0, y0, width, height = box
    x1, y1 = min(x0 + width, cells.shape[0]), min(y0 + height, cells.shape[1])
    while True:
        x, y = between(max(x0, 0), x1, random, i), between(max(y0, 0), y1, random, i)
        distance = abs(agent[0] - x) + abs(agent[1] - y)
        if cells[x, y] == EMPTY and distance > 0 and not (apart and distance < 2):
            return x, y


@loop
def place_agent(
    cells: np.ndarray, agent: np.ndarray, box: tuple[int, int, int, int], random: np.ndarray, i: int
) -> None:
    """Put the agent (x, y, direction) on an empty cell of the box, looking anywhere."""
    agent[0] = agent[1] = -1
    agent[0], agent[1] = free_place(cells, agent, box, False, random, i)
    agent[2] = below(4, random, i)
