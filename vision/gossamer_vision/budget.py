"""How many epochs a time budget holds, and which steps a training that is late leaves out."""

import copy
import math
import time
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from gossamer.errors import InputError
from gossamer_vision import metrics

if TYPE_CHECKING:
    from gossamer_vision.run import Run


def keep_to_budget(run: "Run", epoch: float | None = None) -> None:
    """Cut the run's epochs to what its time budget holds, of that many seconds each, or as a few steps on trial say.

    Raises `InputError` where it does not hold the fewest epochs that the method can do with.
    """
    budget = run.config.time_budget
    if budget is None:
        return
    if epoch is None:
        epoch = run.fabric.broadcast(seconds_of_an_epoch(run))
    each = epoch * run.epochs / run.progress.epochs  # fine-tuning and rewinding train longer
    fewest = 2 if run.method.rewinds else 1
    if budget < each * fewest:
        raise InputError(
            f"time_budget is {budget:g} s, and {fewest} epoch{'s' * (fewest > 1)} of this training would take about "
            f"{each * fewest:.0f} s; give more, or a smaller --width or --image-size."
        )
    run.progress.epochs = min(run.settings.epochs, int(budget / each))
    run.log(f"a budget of {budget:g} s holds {run.progress.epochs} of {run.settings.epochs} epochs")


def seconds_of_an_epoch(run: "Run") -> float:
    """What an epoch takes, held-out images included, by the median of five steps on a copy, a fifth added."""
    network, seconds = copy.deepcopy(run.network), []
    optimizer = torch.optim.SGD(network.parameters(), 0.0, 0.9)
    batches = run.batches
    images, labels = batches.images[: batches.size], batches.labels[: batches.size]
    with torch.random.fork_rng([]):
        for _ in range(6):
            begin = time.perf_counter()
            changed = batches.changed(images, torch.Generator())
            optimizer.zero_grad()
            cross_entropy(network(run.data.scaled(changed)), labels).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
    held_out = run.data.held_out.images
    begin = time.perf_counter()
    metrics.logits(network, held_out[:200], run.data.scaled)
    looking = (time.perf_counter() - begin) * len(held_out) / min(200, len(held_out))
    return 1.2 * (batches.steps * sorted(seconds[1:])[2] + looking)


def late(spent: float, budget: float, done: int, steps: int) -> int:
    """How many steps to leave out after `done` of them, so that the rest ends within the budget, in seconds.

    Steps are due in proportion to the time after a first tenth, so that a slow start leaves none out, and before a last
    twentieth, which a last look at the held-out images may take.
    """
    due = (spent / budget - 0.1) / 0.85
    return max(0, math.ceil(min(1.0, due) * steps) - done)


def catch_up(run: "Run") -> int:
    """Leave out steps after the one just done, where the time budget asks for it; return how many.

    Never the first of an epoch, nor one after which the topology moves; what moves it counts those left out as done.
    """
    progress, movement, in_epoch, begun = run.progress, run.movement, run.batches.steps, run.clock
    run.clock = time.perf_counter()
    progress.spent += run.clock - begun
    if not run.config.time_budget:
        return 0
    cycles = run.cycles[: progress.cycle + 1]
    epochs = sum(cycle.epochs - cycle.rewound for cycle in cycles) - cycles[-1].epochs + progress.epoch
    done = epochs * in_epoch + progress.step + 1
    skipped = late(progress.spent, run.config.time_budget, done, run.epochs * in_epoch)
    skipped = run.fabric.broadcast(min(skipped, in_epoch - progress.step - 1))
    if movement and skipped:
        moves = (step for step in range(skipped) if movement.due(movement.seen + step + 1))
        skipped = next(moves, skipped)
        movement.masking.steps += skipped
        movement.step()
    progress.skipped += skipped
    return skipped
