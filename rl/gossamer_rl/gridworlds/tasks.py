"""The tasks by MiniGrid's own ids: which layouts, how large, how many steps; and a new episode of each, compiled."""

from dataclasses import dataclass

import numpy as np

from gossamer_rl.gridworlds import layouts, rooms
from gossamer_rl.gridworlds.cells import EMPTY, LAVA_CELL, WALL_CELL, loop

(
    EMPTY_ROOM,
    DOOR_KEY,
    FOUR_ROOMS,
    LAVA_GAP,
    CROSSING,
    MULTI_ROOM,
    LOCKED_ROOM,
    UNLOCK,
    KEY_CORRIDOR,
    OBSTRUCTED_MAZE,
) = range(10)


@dataclass(frozen=True)
class Task:
    """Layouts of a family with its options (see `draw`), `width` × `height` cells, at most `steps` actions."""

    family: int
    options: tuple[int, ...]
    width: int
    height: int
    steps: int
    through_walls: bool = False
    opening: bool = False
    """whether opening a door is the end"""


def square(family: int, size: int, steps: int, *options: int, **more: bool) -> Task:
    """A square task."""
    return Task(family, options, size, size, steps, **more)


def tasks() -> dict[str, Task]:
    """Every task by its id."""
    found: dict[str, Task] = {}
    for n in (5, 6, 8, 16):
        found[f"Empty-{n}x{n}"] = square(EMPTY_ROOM, n, 4 * n * n, 0, through_walls=True)
        found[f"DoorKey-{n}x{n}"] = square(DOOR_KEY, n, 10 * n * n)
    for n in (5, 6):
        found[f"Empty-Random-{n}x{n}"] = square(EMPTY_ROOM, n, 4 * n * n, 1, through_walls=True)
    for n in (5, 6, 7):
        found[f"LavaGapS{n}"] = square(LAVA_GAP, n, 4 * n * n)
    for name, obstacle in (("Simple", WALL_CELL), ("Lava", LAVA_CELL)):
        for n, crossings in ((9, 1), (9, 2), (9, 3), (11, 5)):
            found[f"{name}CrossingS{n}N{crossings}"] = square(CROSSING, n, 4 * n * n, obstacle, crossings)
    found["MultiRoom-N2-S4"] = square(MULTI_ROOM, 25, 40, 2, 4)
    found["MultiRoom-N6"] = square(MULTI_ROOM, 25, 120, 6, 10)
    found["MultiRoom-N4-S5"] = square(MULTI_ROOM, 25, 120, 6, 5)  # version 0 has six rooms, whatever its name says
    found["FourRooms"] = square(FOUR_ROOMS, 19, 100)
    found["LockedRoom"] = square(LOCKED_ROOM, 19, 190)
    found["Unlock"] = Task(UNLOCK, (0, 0), 11, 6, 288, opening=True)
    found["UnlockPickup"] = Task(UNLOCK, (1, 0), 11, 6, 288)
    found["BlockedUnlockPickup"] = Task(UNLOCK, (1, 1), 11, 6, 576)
    for n, rows in ((3, 1), (3, 2), (3, 3), (4, 3), (5, 3), (6, 3)):
        found[f"KeyCorridorS{n}R{rows}"] = Task(KEY_CORRIDOR, (n,), 3 * (n - 1) + 1, rows * (n - 1) + 1, 30 * n * n)
    # quarters, the agent's room, keys in boxes, doors blocked, keys last
    for name, boxed, blocked in (("1Dl", 0, 0), ("1Dlh", 1, 0), ("1Dlhb", 1, 1)):
        found[f"ObstructedMaze-{name}"] = Task(OBSTRUCTED_MAZE, (0, 0, 0, boxed, blocked, 0), 11, 6, 288)
    for name, quarters, column, boxed, blocked, visited in (
        ("2Dl", 1, 2, 0, 0, 4),
        ("2Dlh", 1, 2, 1, 0, 4),
        ("2Dlhb", 1, 2, 1, 1, 4),
        ("1Q", 1, 1, 1, 1, 5),
        ("2Q", 2, 2, 1, 1, 11),
        ("Full", 4, 1, 1, 1, 25),
    ):
        options, steps = (quarters, column, 1, boxed, blocked, 0), 144 * visited
        found[f"ObstructedMaze-{name}"] = square(OBSTRUCTED_MAZE, 16, steps, *options)
        if boxed and blocked:
            found[f"ObstructedMaze-{name}-v1"] = square(OBSTRUCTED_MAZE, 16, steps, *options[:-1], 1)
    named = {f"MiniGrid-{name}" + ("" if name.endswith("-v1") else "-v0"): task for name, task in found.items()}
    named["MiniGrid-MultiRoom-N4-S5-v1"] = square(MULTI_ROOM, 25, 80, 4, 5)
    return named


TASKS = tasks()


@loop
def draw(cells: np.ndarray, agent: np.ndarray, family: int, options: np.ndarray, random: np.ndarray, i: int) -> int:
    """Fill the cells [width, height] of copy i with a layout of the family; return the object to be picked up, or 0."""
    cells[:] = EMPTY
    if family == EMPTY_ROOM:
        return layouts.empty(cells, agent, options[0] == 1, random, i)
    if family == DOOR_KEY:
        return layouts.door_key(cells, agent, random, i)
    if family == FOUR_ROOMS:
        return layouts.four_rooms(cells, agent, random, i)
    if family == LAVA_GAP:
        return layouts.lava_gap(cells, agent, random, i)
    if family == CROSSING:
        return layouts.crossing(cells, agent, options[0], options[1], random, i)
    if family == MULTI_ROOM:
        return layouts.multi_room(cells, agent, options[0], options[1], random, i)
    if family == LOCKED_ROOM:
        return layouts.locked_room(cells, agent, random, i)
    if family == UNLOCK:
        return rooms.unlock(cells, agent, options[0] == 1, options[1] == 1, random, i)
    if family == KEY_CORRIDOR:
        return rooms.key_corridor(cells, agent, options[0], random, i)
    start = (options[1], options[2])
    return rooms.obstructed_maze(
        cells, agent, options[0], start, options[3] == 1, options[4] == 1, options[5] == 1, random, i
    )
