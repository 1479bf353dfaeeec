"""Layouts made of a grid of equal rooms: KeyCorridor, Unlock, UnlockPickup, BlockedUnlockPickup and ObstructedMaze.

As in `layouts`, each function fills the cells of copy i as MiniGrid does and returns the object to be picked up, or 0.
"""

import numpy as np

from gossamer_rl.gridworlds.cells import (
    BALL,
    BLUE,
    BOX,
    BY_NAME,
    CLOSED,
    COLOURS,
    DOOR,
    DX,
    DY,
    EMPTY,
    GREEN,
    GREY,
    KEY,
    LOCKED,
    RIGHT,
    WALL,
    below,
    between,
    cell,
    free_place,
    loop,
    place_agent,
    shuffle,
    wall_rectangle,
)


@loop
def room_grid(cells: np.ndarray, agent: np.ndarray, size: int, random: np.ndarray, i: int) -> np.ndarray:
    """Walls of rooms of that size, neighbours sharing them; the agent in the middle, looking right.

    Returns the places [columns, rows, 4, 2] where a door to the neighbour may be (right, down, left, up), 0 where there
    is no neighbour.
    """
    step = size - 1
    columns, rows = (cells.shape[0] - 1) // step, (cells.shape[1] - 1) // step
    places = np.zeros((columns, rows, 4, 2), np.int64)
    for row in range(rows):
        for column in range(columns):
            x, y = column * step, row * step
            wall_rectangle(cells, x, y, size, size)
            if column < columns - 1:
                places[column, row, 0] = (x + step, between(y + 1, y + step, random, i))
                places[column + 1, row, 2] = places[column, row, 0]
            if row < rows - 1:
                places[column, row, 1] = (between(x + 1, x + step, random, i), y + step)
                places[column, row + 1, 3] = places[column, row, 1]
    agent[0], agent[1], agent[2] = columns // 2 * step + size // 2, rows // 2 * step + size // 2, RIGHT
    return places


@loop
def put_into_room(
    cells: np.ndarray, agent: np.ndarray, room: tuple[int, int], size: int, thing: int, random: np.ndarray, i: int
) -> int:
    """Put an object on an empty cell of the room (column, row), not beside the agent; return it."""
    box = (room[0] * (size - 1), room[1] * (size - 1), size, size)
    x, y = free_place(cells, agent, box, True, random, i)
    cells[x, y] = thing
    return thing


@loop
def place_agent_in_room(
    cells: np.ndarray, agent: np.ndarray, room: tuple[int, int], size: int, random: np.ndarray, i: int
) -> None:
    """Put the agent into the room, nothing but a wall before it."""
    box = (room[0] * (size - 1), room[1] * (size - 1), size, size)
    while True:
        place_agent(cells, agent, box, random, i)
        ahead = cells[agent[0] + DX[agent[2]], agent[1] + DY[agent[2]]] & 15
        if ahead in (EMPTY, WALL):
            return


@loop
def unlock(cells: np.ndarray, agent: np.ndarray, with_box: bool, blocked: bool, random: np.ndarray, i: int) -> int:
    """Two rooms, a locked door between them; a box behind it to pick up, and a ball before it, where asked for."""
    places = room_grid(cells, agent, 6, random, i)
    target = 0
    if with_box:
        target = put_into_room(cells, agent, (1, 0), 6, cell(BOX, below(COLOURS, random, i)), random, i)
    x, y = places[0, 0, 0]
    colour = below(COLOURS, random, i)
    cells[x, y] = cell(DOOR, colour, LOCKED)
    if blocked:
        cells[x - 1, y] = cell(BALL, below(COLOURS, random, i))
    put_into_room(cells, agent, (0, 0), 6, cell(KEY, colour), random, i)
    place_agent_in_room(cells, agent, (0, 0), 6, random, i)
    return target


@loop
def key_corridor(cells: np.ndarray, agent: np.ndarray, size: int, random: np.ndarray, i: int) -> int:
    """A hallway with rooms on both sides; a ball behind a locked door on the right, the key in a room on the left."""
    places = room_grid(cells, agent, size, random, i)
    rows, step = places.shape[1], size - 1
    joined = np.zeros((3, rows, 4), np.bool_)
    for row in range(1, rows):
        cells[step + 1 : 2 * step, row * step] = EMPTY
        joined[1, row, 3] = joined[1, row - 1, 1] = True
    locked = below(rows, random, i)
    x, y = places[2, locked, 2]
    colour = below(COLOURS, random, i)
    cells[x, y] = cell(DOOR, colour, LOCKED)
    joined[2, locked, 2] = joined[1, locked, 0] = True
    target = put_into_room(cells, agent, (2, locked), size, cell(BALL, below(COLOURS, random, i)), random, i)
    put_into_room(cells, agent, (0, below(rows, random, i)), size, cell(KEY, colour), random, i)
    place_agent_in_room(cells, agent, (1, rows // 2), size, random, i)
    while not all_reached(joined, rows // 2):
        column, row, side = below(3, random, i), below(rows, random, i), below(4, random, i)
        x, y = places[column, row, side]
        other_column, other_row = column + DX[side], row + DY[side]
        if x + y == 0 or joined[column, row, side]:
            continue
        if (column == 2 and row == locked) or (other_column == 2 and other_row == locked):
            continue
        cells[x, y] = cell(DOOR, below(COLOURS, random, i), CLOSED)
        joined[column, row, side] = joined[other_column, other_row, (side + 2) % 4] = True
    return target


@loop
def all_reached(joined: np.ndarray, start: int) -> bool:
    """Whether all rooms are joined to the middle one of that row; `joined` [columns, rows, 4]."""
    columns, rows, _ = joined.shape
    reached = np.zeros((columns, rows), np.bool_)
    reached[1, start] = True
    for _ in range(columns * rows):
        for column in range(columns):
            for row in range(rows):
                for side in range(4):
                    if reached[column, row] and joined[column, row, side]:
                        reached[column + DX[side], row + DY[side]] = True
    return bool(reached.all())


@loop
def obstructed_maze(
    cells: np.ndarray,
    agent: np.ndarray,
    quarters: int,
    start: tuple[int, int],
    boxed: bool,
    blocked: bool,
    keys_last: bool,
    random: np.ndarray,
    i: int,
) -> int:
    """Rooms behind locked doors, which balls block, their keys in boxes; a blue ball in a corner is to be picked up.

    `quarters` 0 is two rooms with one such door, else so many quarters of nine rooms; the agent starts in room `start`.
    `keys_last` puts the keys of a room down after its doors and their balls (version 1 of the environments).
    """
    places = room_grid(cells, agent, 6, random, i)
    colours = np.array(BY_NAME)
    shuffle(colours, random, i)
    target = cell(BALL, BLUE)
    if quarters == 0:
        lock_door(cells, places, (0, 0), 0, colours[0], blocked)
        hide_key(cells, agent, (0, 0), colours[0], boxed, random, i)
        put_into_room(cells, agent, (1, 0), 6, target, random, i)
        place_agent_in_room(cells, agent, start, 6, random, i)
        return target
    sides, corners = ((2, 1), (1, 2), (0, 1), (1, 0)), ((2, 0), (2, 2), (0, 2), (0, 0))
    for k in range(quarters):
        side = sides[k]
        x, y = places[1, 1, k]
        cells[x, y] = cell(DOOR, colours[k], CLOSED)
        for turn in (-1, 1):
            lock_door(cells, places, side, (k + turn) % 4, colours[(k + turn) % COLOURS], blocked)
            if not keys_last:
                hide_key(cells, agent, side, colours[(k + turn) % COLOURS], boxed, random, i)
        if keys_last:
            for turn in (-1, 1):
                hide_key(cells, agent, side, colours[(k + turn) % COLOURS], boxed, random, i)
    put_into_room(cells, agent, corners[below(quarters, random, i)], 6, target, random, i)
    place_agent_in_room(cells, agent, start, 6, random, i)
    return target


@loop
def lock_door(
    cells: np.ndarray, places: np.ndarray, room: tuple[int, int], side: int, colour: int, blocked: bool
) -> None:
    """Put a locked door on that side of the room, a green ball before it where it is blocked."""
    x, y = places[room[0], room[1], side]
    cells[x, y] = cell(DOOR, colour, LOCKED)
    if blocked:
        cells[x - DX[side], y - DY[side]] = cell(BALL, GREEN)


@loop
def hide_key(
    cells: np.ndarray, agent: np.ndarray, room: tuple[int, int], colour: int, boxed: bool, random: np.ndarray, i: int
) -> None:
    """Put a key into the room, in a grey box where `boxed`."""
    key = cell(KEY, colour)
    put_into_room(cells, agent, room, 6, cell(BOX, GREY) + 4096 * key if boxed else key, random, i)
