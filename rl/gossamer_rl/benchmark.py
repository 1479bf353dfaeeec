"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from gossamer import Result
from gossamer.measure import measure
from gossamer.results import plain
from gossamer_rl.environments import EVALUATION_SEEDS
from gossamer_rl.evaluate import policy_of, random_policy, returns
from gossamer_rl.train import METHODS, Config, train

METRIC = "return"
HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)

PRESETS = {
    "quick": Config(),
    "doorkey-6x6": Config(data="MiniGrid-DoorKey-6x6-v0", steps=40_960),
    "doorkey-8x8": Config(
        data="MiniGrid-DoorKey-8x8-v0",
        steps=122_880,
        horizon=128,
        bonus=0.01,
        learning_rate=1e-3,
        discount=0.99,
        epochs=4,
    ),
}
OWN = {"learning_rate": 3e-3, "entropy": 0.02, "discount": 0.98, "trace": 0.9, "epochs": 4}
WITHOUT_BONUS = {"MiniGrid-DoorKey-5x5-v0": OWN, "MiniGrid-DoorKey-6x6-v0": OWN}
FLOORS = {  # gossamer train rl PRESET --method random --seed 0 --episodes 1000
    "MiniGrid-DoorKey-5x5-v0": 0.0426,
    "MiniGrid-DoorKey-6x6-v0": 0.0166,
    "MiniGrid-DoorKey-8x8-v0": 0.0069,
}
FLOOR = FLOORS[PRESETS["quick"].data]


def grid(config: Config) -> list[Config]:
    """Every method with every seed, the dense one first; without the bonus, with the settings that suit it best."""
    own = {"no-bonus": WITHOUT_BONUS.get(config.data, {})}
    return [replace(config, method=name, seed=seed, **own.get(name, {})) for seed in SEEDS for name in METHODS]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> Result:
    """Train and evaluate one agent on one thread; `value` is its mean return over the evaluation episodes."""
    torch.set_num_threads(1)
    trained = None if config.method == "random" else train(config, log)
    generator = torch.Generator().manual_seed(config.seed)
    policy = policy_of(trained.agent) if trained else random_policy
    scores = returns(policy, config.data, EVALUATION_SEEDS[: config.episodes], generator)
    extra = {"success": float(np.mean([score > 0 for score in scores]))}
    cost = masking = None
    if trained:
        progress, masking = trained.progress, trained.masking
        extra |= {
            "steps_to_solve": progress.solved_after,
            "first_visits_per_step": progress.first_visits / progress.curve[-1][0],
            "curve": progress.curve,
        }
        example = torch.zeros(1, 7, 7, 3, dtype=torch.uint8, device=trained.fabric.device)
        cost = measure(trained.agent, example, masks=masking.masks if masking else None)
    return Result(
        domain="rl",
        method=config.method,
        data=config.data,
        pattern=str(masking.pattern) if masking else "dense",
        sparsity_asked=config.sparsity if masking else 0.0,
        sparsity=masking.sparsity if masking else 0.0,
        seed=config.seed,
        metric=METRIC,
        value=float(np.mean(scores)),
        higher_is_better=HIGHER_IS_BETTER,
        floor=FLOORS.get(config.data, 0.0),
        parameters=cost.parameters if cost else 0,
        nonzeros=cost.nonzeros if cost else 0,
        bytes=cost.bytes if cost else 0,
        latency_ms=cost.latency_ms if cost else None,
        train_seconds=trained.progress.seconds if trained else 0.0,
        config=plain(replace(config, checkpoint=None)),
        extra=extra,
    )
