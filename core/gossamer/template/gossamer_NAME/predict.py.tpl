"""Name the kind of a point, by a network that training kept.

gossamer NAME predict NAME.gossamer --point 0.1 -1.2 0.3 0.8 0.0 1.1 -0.4 0.6 0.2 -0.9 1.3 0.5 -0.1 0.7 -0.6 0.4
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

import gossamer as gs
from gossamer import files


@dataclass(frozen=True)
class Options:
    """A network and a point."""

    model: Positional[Path]
    """what `gossamer train NAME --save` kept"""
    point: tuple[float, ...]
    """its sixteen numbers"""


def main(options: Options) -> None:
    """Print the kind."""
    import torch

    from gossamer_NAME.data import INPUTS
    from gossamer_NAME.model import network

    if len(options.point) != INPUTS:
        raise gs.InputError(f"--point has {len(options.point)} numbers; give {INPUTS}.")
    model = network(files.about(options.model)["width"]).eval()
    gs.load(options.model, model)
    print(f"kind {int(model(torch.tensor([options.point])).argmax())}")


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("NAME", "predict")
