"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from gossamer import Result
from gossamer.results import plain
from gossamer_rl.config import Config

METRIC = "return"
HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)
UNREAD = dict.fromkeys(("dense", "no-bonus", "random"), ("sparsity", "sparse_critic"))
COMPARED = ("dense", "no-bonus", "static-random", "rigl", "small-dense", "random")
COMMANDS = {
    "evaluate": "score a trained policy on layouts that no training saw",
    "play": "watch a trained policy play, in the terminal or as a GIF",
    "pictures": "draw learning curves, where policies go on a layout, and a solved episode",
}
PRESETS = {
    "quick": Config(steps=65_536, solved=1.0, copies=32, horizon=64, minibatch=512),
    "minigrid": Config(data="MiniGrid-DoorKey-8x8-v0", steps=2_000_000, memory=True, exploration="view-and-situation"),
    "doorkey-8x8": Config(data="MiniGrid-DoorKey-8x8-v0", steps=500_000, solved=1.0),
    "deepsea": Config(data="DeepSea20-v0", steps=1_000_000, copies=16, horizon=64, minibatch=256, entropy=0.1),
    "classic": Config(
        agent="dqn",
        data="MountainCar-v0",
        steps=100_000,
        solved=1.0,
        copies=8,
        horizon=125,
        minibatch=128,
        epochs=16,
    ),
}


def grid(config: Config) -> list[Config]:
    """Every compared method with every seed, the dense one first."""
    return [replace(config, method=name, seed=seed) for seed in SEEDS for name in COMPARED]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> Result:
    """Train and evaluate one agent; `value` is its mean return over episodes on layouts that no training saw.

    The floor is what acting at random gives on the same layouts; `latency_ms` is of the compiled policy, from one view.
    """
    import numpy as np
    import torch

    from gossamer.measure import latency, measure
    from gossamer_rl import report
    from gossamer_rl.environments import EVALUATION_SEEDS
    from gossamer_rl.rollouts import at_random, play
    from gossamer_rl.train import train

    seeds, generator = EVALUATION_SEEDS[: config.episodes], torch.Generator().manual_seed(config.seed)
    chance = play(at_random(config.data), config.data, seeds, torch.Generator().manual_seed(0))
    trained = None if config.method == "random" else train(config, log)
    found, cost, latency_ms, extra = chance, None, None, {}
    if trained:
        progress, policy = trained.progress, trained.policy
        found = play(policy.logits, config.data, seeds, generator)
        example = torch.from_numpy(trained.experience.environment.observe()[:1].copy())
        cost = measure(policy.agent, example, masks=policy.masks)
        latency_ms = latency(lambda: policy.logits(example.numpy()))
        extra = {
            "steps_to_solve": progress.solved_after,
            "seconds_to_solve": progress.solved_seconds,
            "steps": progress.curve[-1][0],
            "new_per_step": progress.new / progress.updates,
            "eager_ms": cost.latency_ms,
            "curve": progress.curve,
            **report.kept(policy),
        }
    masking = trained.masking if trained else None
    return Result(
        domain="rl",
        method=config.method,
        data=config.data,
        pattern=str(masking.pattern) if masking else "dense",
        sparsity_asked=config.sparsity if masking else 0.0,
        sparsity=masking.sparsity if masking else 0.0,
        seed=config.seed,
        metric=METRIC,
        value=float(np.mean(found.returns)),
        higher_is_better=HIGHER_IS_BETTER,
        floor=float(np.mean(chance.returns)),
        parameters=cost.parameters if cost else 0,
        nonzeros=cost.nonzeros if cost else 0,
        bytes=cost.bytes if cost else 0,
        latency_ms=latency_ms,
        train_seconds=trained.progress.seconds if trained else 0.0,
        caveat=", ".join(config.privileges),
        config=plain(config),
        extra={"success": found.success, "steps_of_an_episode": float(np.mean(found.lengths)), **extra},
    )


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """What the page of `gossamer report` shows of the results of one data set: PNG by captions."""
    from gossamer_rl import report

    return report.pictures(results)
