"""Where the weights of SET and RigL go: returns in training, and the share of first weights on inputs almost always 1.

python rl/benchmarks/growth.py --seeds 1 2 3
"""

from dataclasses import dataclass, replace

import torch
import tyro

import gossamer as gs
from gossamer.threads import using_threads
from gossamer_rl import descent
from gossamer_rl.benchmark import PRESETS
from gossamer_rl.centred import CentredRigL, CentredSET
from gossamer_rl.onehot import OneHotLinear
from gossamer_rl.train import train


class SET(CentredSET):
    """SET as published: drops by |w|."""

    drop_scores = gs.SET.drop_scores


class RigL(CentredRigL):
    """RigL as published: drops by |w|, grows by |g|."""

    drop_scores, grow_scores = gs.SET.drop_scores, gs.RigL.grow_scores


KINDS = {"set, published": SET, "set": CentredSET, "rigl, published": RigL, "rigl": CentredRigL}


@dataclass(frozen=True)
class Options:
    """What to train."""

    seeds: tuple[int, ...] = (1,)
    """a run each of the preset quick"""


def main(options: Options) -> None:
    """Train and print."""
    for seed in options.seeds:
        for name, kind in KINDS.items():
            method = name.partition(",")[0]
            setattr(descent, "CentredSET" if method == "set" else "CentredRigL", kind)
            run = train(replace(PRESETS["quick"], method=method, seed=seed))
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
