"""MiniGrid's tasks as compiled kernels: `Gridworlds("MiniGrid-DoorKey-8x8-v0", copies=64)`, for Gymnasium a vector.

`cells` (what a cell holds), `layouts` and `rooms` (how a layout is drawn), `rules` (actions and views), `tasks` (ids),
`worlds` (many copies at once), `stock` (layouts made by the package `minigrid`, with which all agrees step for step).
"""

from gossamer_rl.gridworlds.tasks import TASKS
from gossamer_rl.gridworlds.worlds import Gridworlds

__all__ = ["TASKS", "Gridworlds"]
