"""Where RigL grows: the return in training, and the share of first weights on inputs that are almost always 1.

python rl/benchmarks/growth.py
"""

from dataclasses import dataclass, replace

import torch
import tyro

import gossamer as gs
from gossamer.threads import using_threads
from gossamer_rl import descent
from gossamer_rl.benchmark import PRESETS
from gossamer_rl.centred import CentredRigL
from gossamer_rl.onehot import OneHotLinear
from gossamer_rl.train import train


class ByGradient(CentredRigL):
    """RigL as published."""

    grow_scores = gs.RigL.grow_scores


@dataclass(frozen=True)
class Options:
    """What to train."""

    seeds: tuple[int, ...] = (1,)
    """a run each of the preset quick"""
    methods: tuple[str, ...] = ("set", "by gradient", "centred")
    """set, by gradient, centred"""


def main(options: Options) -> None:
    """Train and print."""
    for seed in options.seeds:
        for name in options.methods:
            grown = ByGradient if name == "by gradient" else CentredRigL
            descent.CentredRigL = grown  # pyright: ignore[reportPrivateImportUsage]
            run = train(replace(PRESETS["quick"], method="set" if name == "set" else "rigl", seed=seed))
            first = run.agent.get_submodule("actor.0")
            assert isinstance(first, OneHotLinear)
            alive = (first.weight != 0).float()
            lit = first.one_hot(torch.from_numpy(run.experience.environment.observe())).mean(0) > 0.9
            curve = " ".join(f"{mean:.2f}" for _, _, mean in run.progress.curve[3::4])
            print(
                f"{name}, seed {seed}: returns {curve}; {alive[:, lit].sum() / alive.sum():.0%} of weights on the "
                f"{lit.float().mean():.0%} of inputs that are 1 in 9 of 10 copies; "
                f"units of {alive.sum(1).min():.0f} to {alive.sum(1).max():.0f} weights",
                flush=True,
            )


if __name__ == "__main__":
    with using_threads(1):
        main(tyro.cli(Options, description=__doc__))
