"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gossamer.results import Result, plain
from gossamer_vision.config import PRESETS as PRESETS
from gossamer_vision.config import Config
from gossamer_vision.methods import METHODS, pattern

if TYPE_CHECKING:
    from gossamer_vision.run import Run

METRIC = "top-1 accuracy"
HIGHER_IS_BETTER = True
SEEDS = (1, 2, 3)
UNREAD = {"dense": ("sparsity", "pattern", "distribution")}
COMMANDS = {
    "predict": "say what pictures show, or export the network for other runtimes",
    "evaluate": "accuracy of each class, under corruptions, and calibration",
    "latency": "time a network: PyTorch, torch.compile, ONNX Runtime, compiled",
    "study": "methods by settings by seeds, as one table",
    "pictures": "draw results: accuracy by sparsity and latency, masks, confusions",
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
    from gossamer.measure import measure
    from gossamer_vision import metrics, report
    from gossamer_vision.latency import milliseconds
    from gossamer_vision.train import train

    trained = train(config, log)
    data, network = trained.data, trained.network.cpu()
    cost = measure(network, data.scaled(data.test.images[:1]), trained.masks)
    times = milliseconds(network, data.scaled(data.test.images[:1]), trained.masks)
    outputs = metrics.logits(network, data.test.images, data.scaled)
    counts = metrics.confusion(outputs, data.test.labels)
    value = metrics.accuracy(outputs, data.test.labels)
    per_class = dict(zip(data.classes, metrics.per_class(counts), strict=True))
    extra = {
        "held_out": trained.accuracy_held_out(),
        "calibration_error": metrics.calibration_error(outputs, data.test.labels),
        "eager_ms": times["eager"],
        "flops": cost.flops,
        "training_bytes": trained.training_bytes,
        "epochs": len(trained.progress.held_out),
        "skipped_images": len(data.skipped),
        "corrupted": metrics.under_corruption(network, data.test.images, data.test.labels, data.scaled),
        "per_class": per_class,
        "confusion": counts.tolist(),
        "wrong": (outputs.argmax(1) != data.test.labels).nonzero().flatten().tolist(),
        "curve": trained.progress.held_out,
        **report.kept(trained.masks),
    }
    asked = trained.settings.sparsity if METHODS[config.method].masked or config.method == "wired" else 0.0
    caveats = list(warnings(trained, asked, per_class, metrics.near_chance(value, data.test.labels)))
    for caveat in caveats:
        log(f"warning: {caveat}")
    return Result(
        domain="vision",
        method=f"inception-{config.method}" if config.model == "inception" else config.method,
        data=config.data,
        pattern=kind(config),
        sparsity_asked=asked,
        sparsity=sparsity(trained),
        seed=config.seed,
        metric=METRIC,
        value=value,
        higher_is_better=HIGHER_IS_BETTER,
        floor=1 / len(data.classes),
        reference="inception-dense" if config.model == "inception" else "dense",
        caveat="; ".join(caveats),
        parameters=cost.parameters,
        nonzeros=cost.nonzeros,
        bytes=cost.bytes,
        latency_ms=times["compiled"],
        train_seconds=trained.progress.seconds,
        config=plain(config),
        extra=extra | ({"chosen": trained.settings.chosen} if trained.settings.chosen else {}),
    )


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """What the page of `gossamer report` shows of the results of one data set: SVG by captions."""
    from gossamer_vision import report
    from gossamer_vision.pictures import for_page

    return {**for_page(results), **report.pictures(results)}


def warnings(trained: "Run", asked: float, per_class: Mapping[str, float], at_chance: bool) -> Iterator[str]:
    """What a reader of the result should know: of its sparsity, steps, test images and classes."""
    found = sparsity(trained)
    if asked and abs(found - asked) > 0.002:
        reason = "the masks are those of --from" if trained.given else "whole channels, blocks or wires come and go"
        yield f"the sparsity is {found:.2%}, where {asked:.2%} was asked: {reason}"
    if skipped := trained.progress.skipped:
        yield (
            f"{skipped:,} of {skipped + trained.progress.steps:,} steps were left out to end within the time budget: "
            "the machine was slower than on trial"
        )
    if trained.config.data == "folder" and (twins := trained.data.twins):
        yield f"{twins} of the {len(trained.data.test)} test images are copies of ones trained on, which flatters it"
    if at_chance:
        yield (
            f"the accuracy on the {len(trained.data.test)} test images is near chance; train for more steps "
            "(a smaller --batch, more --epochs), wider, less sparse, or on more images"
        )
    elif never := [name for name, share in per_class.items() if share == 0]:
        yield f"no test image of {', '.join(never[:5])} is recognised; add images of what is rare, or train for longer"


def kind(config: Config) -> str:
    """What is sparse in the network: the pattern of its masks, its wiring, or nothing."""
    if config.method == "wired":
        return "wiring"
    return str(pattern(config.pattern)) if METHODS[config.method].masked else "dense"


def sparsity(trained: "Run") -> float:
    """The share of the masked weights that are dead; for a wired network, of the convolutions' that are not there."""
    if trained.config.method != "wired":
        return trained.sparsity
    from gossamer.nn import Branches
    from gossamer_vision import models

    whole = models.build(**{**trained.architecture, "density": 1.0})
    wired, full = (
        sum(
            p.numel() for branches in network.modules() if isinstance(branches, Branches) for p in branches.parameters()
        )
        for network in (trained.network, whole)
    )
    return 1 - wired / full
