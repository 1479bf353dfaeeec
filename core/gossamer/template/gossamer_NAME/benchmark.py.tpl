"""What is compared: the presets, their methods and seeds, and one run. Light: heavy parts load in `run`."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gossamer.results import plain
from gossamer_NAME.config import METHODS, PRESETS, Config

if TYPE_CHECKING:
    from gossamer import Result

METRIC = "accuracy"
HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)
COMMANDS = {"predict": "name the kind of a point, by a network that train kept"}

__all__ = ["COMMANDS", "HIGHER_IS_BETTER", "METRIC", "PRESETS", "grid", "run"]


def grid(config: Config) -> list[Config]:
    """Every method with every seed, dense first."""
    return [replace(config, method=method, seed=seed) for seed in SEEDS for method in METHODS]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> "Result":
    """Train and evaluate one network; `value` is its accuracy on the test part."""
    from gossamer import Result
    from gossamer.measure import measure
    from gossamer_NAME import evaluate
    from gossamer_NAME.train import train

    trained = train(config, log)
    data, masking = trained.data, trained.masking
    cost = measure(trained.model, data.test.points[:1], masks=masking.masks)
    sparse = config.method in ("static-random", "rigl")
    return Result(
        domain="NAME",
        method=config.method,
        data="points",
        pattern=str(masking.pattern) if sparse else "dense",
        sparsity_asked=config.sparsity if sparse else 0.0,
        sparsity=masking.sparsity,
        seed=config.seed,
        metric=METRIC,
        value=evaluate.accuracy(trained.model, data.test),
        higher_is_better=HIGHER_IS_BETTER,
        floor=evaluate.chance(data.train, data.test),
        parameters=cost.parameters,
        nonzeros=cost.nonzeros,
        bytes=cost.bytes,
        latency_ms=cost.latency_ms,
        train_seconds=trained.seconds,
        config=plain(config),
        extra={"curve": trained.curve},
    )
