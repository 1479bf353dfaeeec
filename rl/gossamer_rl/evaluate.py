"""Score a trained policy on layouts that no training saw.

gossamer rl evaluate policy.gossamer
gossamer rl evaluate policy.gossamer --data MiniGrid-DoorKey-16x16-v0 --episodes 1000
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import trim_mean
from tyro.conf import Positional

from gossamer import errors
from gossamer_rl.environments import EVALUATION_SEEDS
from gossamer_rl.policy import load
from gossamer_rl.rollouts import play


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of the middle half of the values, a quarter cut off at each end (Agarwal et al. 2021)."""
    return float(trim_mean(np.asarray(values, float), 0.25))


def interval(
    tasks: Sequence[Sequence[float]], generator: np.random.Generator, draws: int = 2000
) -> tuple[float, float]:
    """The 95% interval of the interquartile mean over all runs [runs] of all tasks, by the stratified bootstrap.

    The runs of each task are drawn anew from that task's own (Agarwal et al. 2021); percentiles of `draws` draws.
    """
    drawn = [generator.choice(np.asarray(runs, float), (draws, len(runs))) for runs in tasks]
    low, high = np.percentile(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1), [2.5, 97.5])
    return float(low), float(high)


def profile(tasks: Sequence[Sequence[float]], levels: Sequence[float]) -> list[float]:
    """For each level the share of a task's runs above it, in the mean over the tasks (Agarwal et al. 2021)."""
    return [float(np.mean([np.mean(np.asarray(runs) > level) for runs in tasks])) for level in levels]


@dataclass(frozen=True)
class Options:
    """What to score, and where."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    data: str | None = None
    """another environment that shows the same kind of view; the policy's own where this is not given"""
    episodes: int = 100
    """how many layouts, at most 10,000"""
    seed: int = 1
    """of the actions, which are drawn"""

    def __post_init__(self) -> None:
        errors.within(1, len(EVALUATION_SEEDS), episodes=self.episodes)
        errors.within(0, 2**63 - 1, seed=self.seed)


def main(options: Options) -> None:
    """Print success, return and length."""
    policy = load(options.model)
    name = policy.elsewhere(options.data) if options.data else policy.data
    generator = torch.Generator().manual_seed(options.seed)
    found = play(policy.logits, name, EVALUATION_SEEDS[: options.episodes], generator)
    low, high = interval([found.returns], np.random.default_rng(options.seed))
    print(f"{name}: {len(found.returns)} layouts that no training saw")
    print(f"solved {found.success:.1%}, return {np.mean(found.returns):.3f}, steps {np.mean(found.lengths):.0f}")
    print(f"interquartile mean of returns {interquartile_mean(found.returns):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("rl", "evaluate")
