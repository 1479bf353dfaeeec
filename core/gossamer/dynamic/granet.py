"""GraNet: GMP and RigL at once."""

from gossamer.dynamic.gmp import GMP
from gossamer.dynamic.rigl import RigL


class GraNet(GMP, RigL):
    """Gradual pruning with neuroregeneration: RigL while the sparsity rises as GMP's (Liu et al. 2021).

    An initial sparsity of 0.5 or less serves well; the paper's distribution is "global". Options: `GMP`'s and `RigL`'s.
    """
