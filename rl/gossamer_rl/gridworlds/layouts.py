"""Layouts of one piece: Empty, DoorKey, FourRooms, MultiRoom, LockedRoom, LavaGap and the Crossings.

Each function fills the cells [width, height] of copy i with a new layout, puts the agent into it and returns the object
that is to be picked up, 0 where the goal is a place. The probabilities are those of MiniGrid (Chevalier-Boisvert et al.
2023); the random numbers are not.
"""

import numpy as np

from gossamer_rl.gridworlds.cells import (
    BY_NAME,
    CLOSED,
    COLOURS,
    DOOR,
    EMPTY,
    GOAL_CELL,
    KEY,
    LAVA_CELL,
    LOCKED,
    RIGHT,
    WALL_CELL,
    YELLOW,
    below,
    between,
    cell,
    colour_but,
    free_place,
    loop,
    place_agent,
    shuffle,
    wall_rectangle,
)

ROOMS = 6
"""the most rooms of a MultiRoom, and the rooms of LockedRoom"""


@loop
def empty(cells: np.ndarray, agent: np.ndarray, anywhere: bool, random: np.ndarray, i: int) -> int:
    """A walled square, the goal in its corner; the agent in the other corner, or anywhere."""
    width, height = cells.shape
    wall_rectangle(cells, 0, 0, width, height)
    cells[width - 2, height - 2] = GOAL_CELL
    agent[0], agent[1], agent[2] = 1, 1, RIGHT
    if anywhere:
        place_agent(cells, agent, (0, 0, width, height), random, i)
    return 0


@loop
def door_key(cells: np.ndarray, agent: np.ndarray, random: np.ndarray, i: int) -> int:
    """Two rooms, a locked door between them, key and agent in the left one, the goal in the right one's corner."""
    width, height = cells.shape
    wall_rectangle(cells, 0, 0, width, height)
    cells[width - 2, height - 2] = GOAL_CELL
    split = between(2, width - 2, random, i)
    cells[split, :] = WALL_CELL
    left = (0, 0, split, height)
    place_agent(cells, agent, left, random, i)
    cells[split, between(1, width - 2, random, i)] = cell(DOOR, YELLOW, LOCKED)
    x, y = free_place(cells, agent, left, False, random, i)
    cells[x, y] = cell(KEY, YELLOW)
    return 0


@loop
def four_rooms(cells: np.ndarray, agent: np.ndarray, random: np.ndarray, i: int) -> int:
    """Four rooms with a gap in each wall between two; agent and goal anywhere."""
    width, height = cells.shape
    wall_rectangle(cells, 0, 0, width, height)
    w, h = width // 2, height // 2
    for row in range(2):
        for column in range(2):
            x, y = column * w, row * h
            if column == 0:
                cells[x + w, y : y + h] = WALL_CELL
                cells[x + w, between(y + 1, y + h, random, i)] = EMPTY
            if row == 0:
                cells[x : x + w, y + h] = WALL_CELL
                cells[between(x + 1, x + w, random, i), y + h] = EMPTY
    place_agent(cells, agent, (0, 0, width, height), random, i)
    x, y = free_place(cells, agent, (0, 0, width, height), False, random, i)
    cells[x, y] = GOAL_CELL
    return 0


@loop
def lava_gap(cells: np.ndarray, agent: np.ndarray, random: np.ndarray, i: int) -> int:
    """A stream of lava with one gap between the agent's corner and the goal's."""
    width, height = cells.shape
    empty(cells, agent, False, random, i)
    x, y = between(2, width - 2, random, i), between(1, height - 1, random, i)
    cells[x, 1 : height - 1] = LAVA_CELL
    cells[x, y] = EMPTY
    return 0


@loop
def crossing(cells: np.ndarray, agent: np.ndarray, obstacle: int, crossings: int, random: np.ndarray, i: int) -> int:
    """`crossings` streams of the obstacle across the square, opened where a random path to the goal needs it."""
    width, height = cells.shape
    empty(cells, agent, False, random, i)
    places = (height - 3) // 2  # of vertical streams at x = 2, 4, …; of horizontal ones as many
    streams = np.arange(2 * places)
    shuffle(streams, random, i)
    chosen = np.sort(streams[:crossings])
    xs, ys = np.zeros(crossings + 2, np.int64), np.zeros(crossings + 2, np.int64)
    vertical = horizontal = 0
    for stream in chosen:
        if stream < places:
            vertical += 1
            xs[vertical] = 2 + 2 * stream
        else:
            horizontal += 1
            ys[horizontal] = 2 + 2 * (stream - places)
    for k in range(1, horizontal + 1):
        cells[1 : width - 1, ys[k]] = obstacle
    for k in range(1, vertical + 1):
        cells[xs[k], 1 : height - 1] = obstacle
    xs[vertical + 1], ys[horizontal + 1] = height - 1, width - 1
    path = np.arange(crossings)  # the first `vertical` of them cross a vertical stream
    shuffle(path, random, i)
    column = row = 0
    for step in path:
        if step < vertical:
            cells[xs[column + 1], between(ys[row] + 1, ys[row + 1], random, i)] = EMPTY
            column += 1
        else:
            cells[between(xs[column] + 1, xs[column + 1], random, i), ys[row + 1]] = EMPTY
            row += 1
    return 0


@loop
def multi_room(cells: np.ndarray, agent: np.ndarray, rooms: int, largest: int, random: np.ndarray, i: int) -> int:
    """A chain of `rooms` rooms of sides from 4 to `largest`, a closed door between two; the goal in the last one."""
    width, height = cells.shape
    chain = np.zeros((ROOMS, 6), np.int64)  # x, y, width, height, and the entry's x, y
    while chain_of_rooms(chain, width, height, rooms, largest, random, i) < rooms:
        pass
    last = -1
    for k in range(rooms):
        x, y, w, h, door_x, door_y = chain[k]
        wall_rectangle(cells, x, y, w, h)
        if k > 0:
            last = colour_but(last, random, i)
            cells[door_x, door_y] = cell(DOOR, last, CLOSED)
    x, y, w, h, _, _ = chain[0]
    place_agent(cells, agent, (x, y, w, h), random, i)
    x, y, w, h, _, _ = chain[rooms - 1]
    x, y = free_place(cells, agent, (x, y, w, h), False, random, i)
    cells[x, y] = GOAL_CELL
    return 0


@loop
def chain_of_rooms(
    chain: np.ndarray, width: int, height: int, rooms: int, largest: int, random: np.ndarray, i: int
) -> int:
    """Place one room after another, each behind a door of the one before, eight attempts each; return how many."""
    door_x, door_y = below(width - 2, random, i), below(width - 2, random, i)
    wall, count, attempts = 2, 0, 1  # the wall of the entry: right, down, left, up
    while count < rooms and attempts > 0:
        attempts -= 1
        if count > 0:
            x, y, w, h, _, _ = chain[count - 1]
            exit_wall = below(3, random, i)
            exit_wall += exit_wall >= wall
            if exit_wall == 0:
                door_x, door_y = x + w - 1, y + between(1, h - 1, random, i)
            elif exit_wall == 1:
                door_x, door_y = x + between(1, w - 1, random, i), y + h - 1
            elif exit_wall == 2:
                door_x, door_y = x, y + between(1, h - 1, random, i)
            else:
                door_x, door_y = x + between(1, w - 1, random, i), y
            entry = (exit_wall + 2) % 4
        else:
            entry = 2
        w, h = between(4, largest + 1, random, i), between(4, largest + 1, random, i)
        if count == 0:
            x, y = door_x, door_y
        elif entry == 0:
            x, y = door_x - w + 1, between(door_y - h + 2, door_y, random, i)
        elif entry == 1:
            x, y = between(door_x - w + 2, door_x, random, i), door_y - h + 1
        elif entry == 2:
            x, y = door_x, between(door_y - h + 2, door_y, random, i)
        else:
            x, y = between(door_x - w + 2, door_x, random, i), door_y
        fits = x >= 0 and y >= 0 and x + w <= width and y + h < height
        for k in range(count - 1):
            a, b, c, d, _, _ = chain[k]
            fits = fits and (x + w < a or a + c <= x or y + h < b or b + d <= y)
        if fits:
            chain[count] = (x, y, w, h, door_x, door_y)
            count, attempts, wall = count + 1, 8, entry
    return count


@loop
def locked_room(cells: np.ndarray, agent: np.ndarray, random: np.ndarray, i: int) -> int:
    """Six rooms along a hallway, one of them locked with the goal inside, its key in another."""
    width, height = cells.shape
    wall_rectangle(cells, 0, 0, width, height)
    left, right, h = width // 2 - 2, width // 2 + 2, height // 3
    cells[left, :] = WALL_CELL
    cells[right, :] = WALL_CELL
    for row in range(3):
        cells[:left, row * h] = WALL_CELL
        cells[right:, row * h] = WALL_CELL
    locked = below(ROOMS, random, i)
    key_room = (locked + 1 + below(ROOMS - 1, random, i)) % ROOMS
    colours = np.array(BY_NAME)
    shuffle(colours, random, i)
    for room in range(ROOMS):
        x, y = (right if room % 2 else 0), room // 2 * h
        if room in (locked, key_room):
            inside_x, inside_y = between(x + 1, x + left, random, i), between(y + 1, y + h, random, i)
            cells[inside_x, inside_y] = GOAL_CELL if room == locked else cell(KEY, colours[locked])
        state = LOCKED if room == locked else CLOSED
        cells[right if room % 2 else left, y + 3] = cell(DOOR, colours[room], state)
    place_agent(cells, agent, (left, 0, right - left, height), random, i)
    return 0


assert COLOURS == ROOMS  # LockedRoom gives each room a colour of its own
