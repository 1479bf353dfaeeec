"""The rules of MiniGrid: what an action does, what the agent sees, when an episode ends. Compiled for many copies.

The state of n copies: `cells` [n, width, height] int32 (see `cells`), `agents` [n, 3] int32 (x, y, direction),
`carried` [n] int32 (a cell, or 0), `steps` [n] int32, `targets` [n] int32 (the object that ends the episode when it is
picked up, or 0), `random` [n] uint64.
"""

import numpy as np

from gossamer_rl.gridworlds.cells import (
    BALL,
    BOX,
    CLOSED,
    DOOR,
    DX,
    DY,
    EMPTY,
    GOAL,
    KEY,
    LAVA,
    LOCKED,
    OPEN,
    WALL,
    WALL_CELL,
    loop,
)

TURN_LEFT, TURN_RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
VIEW = 7
GOES_ON, FAILED, SOLVED = range(3)


@loop
def act(
    cells: np.ndarray, agent: np.ndarray, carried: np.ndarray, i: int, action: int, target: int, opening: bool
) -> int:
    """Take one action in copy i, cells [width, height]; return GOES_ON, FAILED (lava) or SOLVED.

    `target`: the object to pick up, 0 for none; `opening`: whether an open door that was just toggled is the end.
    """
    direction = agent[2]
    x, y = agent[0] + DX[direction], agent[1] + DY[direction]
    ahead = cells[x, y]
    kind, state = ahead & 15, (ahead >> 8) & 15
    if action == TURN_LEFT:
        agent[2] = (direction + 3) % 4
    elif action == TURN_RIGHT:
        agent[2] = (direction + 1) % 4
    elif action == FORWARD:
        if kind in (EMPTY, GOAL, LAVA) or (kind == DOOR and state == OPEN):
            agent[0], agent[1] = x, y
        if kind == GOAL:
            return SOLVED
        if kind == LAVA:
            return FAILED
    elif action == PICK_UP:
        if carried[i] == 0 and kind in (KEY, BALL, BOX):
            carried[i] = ahead
            cells[x, y] = EMPTY
        if target != 0 and carried[i] == target:
            return SOLVED
    elif action == DROP:
        if carried[i] != 0 and kind == EMPTY:
            cells[x, y] = carried[i]
            carried[i] = 0
    elif action == TOGGLE:
        if kind == BOX:
            cells[x, y] = ahead >> 12 if ahead >> 12 else EMPTY
        elif kind == DOOR:
            fits = (carried[i] & 255) == KEY + (ahead & 240)
            if state != LOCKED or fits:
                now = CLOSED if state == OPEN else OPEN
                cells[x, y] = (ahead & 255) + 256 * now
                if opening and now == OPEN:
                    return SOLVED
    return GOES_ON


@loop
def look(
    cells: np.ndarray, agent: np.ndarray, carried: int, through_walls: bool, view: np.ndarray, seen: np.ndarray
) -> None:
    """Write what the agent sees to `view` bytes [7, 7, 3]: (object, colour, state) of each cell, 0 where unseen.

    The agent stands at (3, 6) and looks towards (3, 0); what it carries lies in its place. `seen` [7, 7] is scratch.
    A cell is seen where MiniGrid's `process_vis` says so: light goes sideways and forwards until something opaque.
    """
    width, height = cells.shape
    direction = agent[2]
    dx, dy = DX[direction], DY[direction]
    seen[:] = through_walls
    seen[3, 6] = True
    for j in range(VIEW):
        for i in range(VIEW):
            x = agent[0] + (6 - j) * dx - (i - 3) * dy
            y = agent[1] + (6 - j) * dy + (i - 3) * dx
            inside = 0 <= x < width and 0 <= y < height
            view[i, j, 0] = 0
            c = cells[x, y] if inside else WALL_CELL
            view[i, j, 0], view[i, j, 1], view[i, j, 2] = c & 15, (c >> 4) & 15, (c >> 8) & 15
    if not through_walls:
        for j in range(VIEW - 1, -1, -1):
            for i in range(VIEW - 1):
                if seen[i, j] and not opaque(view, i, j):
                    seen[i + 1, j] = True
                    if j > 0:
                        seen[i + 1, j - 1] = True
                        seen[i, j - 1] = True
            for i in range(VIEW - 1, 0, -1):
                if seen[i, j] and not opaque(view, i, j):
                    seen[i - 1, j] = True
                    if j > 0:
                        seen[i - 1, j - 1] = True
                        seen[i, j - 1] = True
        for j in range(VIEW):
            for i in range(VIEW):
                if not seen[i, j]:
                    view[i, j, 0] = view[i, j, 1] = view[i, j, 2] = 0
    here = carried if carried else EMPTY
    view[3, 6, 0], view[3, 6, 1], view[3, 6, 2] = here & 15, (here >> 4) & 15, (here >> 8) & 15


@loop
def opaque(view: np.ndarray, i: int, j: int) -> bool:
    """Whether nothing is seen behind this cell: a wall or a door that is not open."""
    kind = view[i, j, 0]
    return kind == WALL or (kind == DOOR and view[i, j, 2] != OPEN)
