"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable
from dataclasses import replace

import gossamer as gs
from gossamer import Result
from gossamer.measure import latency, measure
from gossamer.nn import Branches
from gossamer.results import plain
from gossamer_vision import evaluate, models
from gossamer_vision.methods import METHODS as ALL_METHODS
from gossamer_vision.methods import PATTERNS
from gossamer_vision.run import Run
from gossamer_vision.train import Config, train

METRIC = "top-1 accuracy"
HIGHER_IS_BETTER = True
FLOOR = 0.1
SEEDS = (1, 2, 3)
METHODS = tuple(ALL_METHODS)

PRESETS = {
    "quick": Config(width=8, stem=2, batch=32, learning_rate=0.4, every=10),
    "fashion-mnist": Config(
        data="fashion-mnist",
        model="vgg",
        sparsity=0.9,
        width=48,
        stem=2,
        epochs=12,
        fine_tune=6,
        batch=128,
        learning_rate=0.2,
        shift=1,
        every=100,
    ),
    "cifar-10": Config(
        data="cifar-10", model="wrn-22-2", sparsity=0.8, epochs=100, fine_tune=50, batch=128, shift=4, every=100
    ),
}

COMPARED = (
    "dense",
    "small-dense",
    "magnitude",
    "magnitude-finetune",
    "random-pruned",
    "random-finetune",
    "static-random",
    "rigl",
    "gmp",
)


def grid(config: Config) -> list[Config]:
    """The compared methods with every seed, dense first; then the Inception-style network, dense and wired sparsely."""
    inception = replace(config, model="inception")
    return [
        run
        for seed in SEEDS
        for run in (
            *(replace(config, method=method, seed=seed) for method in COMPARED),
            replace(inception, method="dense", seed=seed),
            replace(inception, method="wired", sparsity=0.75, seed=seed),
        )
    ]


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> Result:
    """Train and evaluate one network; `value` is its accuracy on the test part."""
    trained = train(config, log)
    data, network = trained.data, trained.network.cpu()
    example = data.scaled(data.test.images[:1])
    cost = measure(network, example, trained.masks)
    engine = gs.compile(network.eval(), example, masks=trained.masks)
    compiled_ms = latency(lambda: engine(example))
    outputs = evaluate.logits(network, data.test.images, data.scaled)
    counts = evaluate.confusion(outputs, data.test.labels)
    per_class = dict(zip(data.classes, evaluate.per_class(counts), strict=True))
    extra = {
        "held_out": trained.accuracy_held_out(),
        "calibration_error": evaluate.calibration_error(outputs, data.test.labels),
        "eager_ms": cost.latency_ms,
        "compiled_ms": compiled_ms,
        "flops": cost.flops,
        "training_bytes": trained.training_bytes,
        "epochs": len(trained.progress.held_out),
        "skipped_images": len(data.skipped),
        "corrupted": evaluate.under_corruption(network, data.test.images, data.test.labels, data.scaled),
        "per_class": per_class,
        "confusion": counts.tolist(),
        "wrong": (outputs.argmax(1) != data.test.labels).nonzero().flatten().tolist(),
        "curve": trained.progress.held_out,
    }
    return Result(
        domain="vision",
        method=f"inception-{config.method}" if config.model == "inception" else config.method,
        data=config.data,
        pattern=pattern(config),
        sparsity_asked=config.sparsity if pattern(config) != "dense" else 0.0,
        sparsity=sparsity(trained),
        seed=config.seed,
        metric=METRIC,
        value=evaluate.accuracy(outputs, data.test.labels),
        higher_is_better=HIGHER_IS_BETTER,
        floor=1 / len(data.classes),
        parameters=cost.parameters,
        nonzeros=cost.nonzeros,
        bytes=cost.bytes,
        latency_ms=min(cost.latency_ms, compiled_ms),
        train_seconds=trained.progress.seconds,
        config=plain(config),
        extra=extra,
    )


def pattern(config: Config) -> str:
    """What is sparse in the network: the pattern of its masks, its wiring, or nothing."""
    if config.method == "wired":
        return "wiring"
    return str(PATTERNS[config.pattern]) if ALL_METHODS[config.method].masked else "dense"


def sparsity(trained: Run) -> float:
    """The share of the masked weights that are dead; for a wired network, of the convolutions' that are not there."""
    if trained.config.method != "wired":
        return trained.sparsity
    whole = models.build(**{**trained.architecture, "density": 1.0})
    wired, full = (
        sum(
            p.numel() for branches in network.modules() if isinstance(branches, Branches) for p in branches.parameters()
        )
        for network in (trained.network, whole)
    )
    return 1 - wired / full
