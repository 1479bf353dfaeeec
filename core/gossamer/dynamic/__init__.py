"""Dynamic sparse training: the masks move while the weights train. A method is a file that overrides a hook.

Each method stands below the one that it changes: `Method` ← `SET` ← `RigL` ← `SNFS` and `SRigL`; `Method` ← `GMP`;
`GraNet` is `GMP` and `RigL` at once.
"""

from gossamer.dynamic.gmp import GMP
from gossamer.dynamic.granet import GraNet
from gossamer.dynamic.method import Method, last_move
from gossamer.dynamic.rigl import RigL
from gossamer.dynamic.set import SET
from gossamer.dynamic.snfs import SNFS
from gossamer.dynamic.srigl import SRigL

__all__ = ["GMP", "SET", "SNFS", "GraNet", "Method", "RigL", "SRigL", "last_move"]
