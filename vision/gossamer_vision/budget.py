"""How many epochs a time budget holds."""

import copy
import time

import torch
from torch.nn.functional import cross_entropy

from gossamer.errors import InputError
from gossamer_vision import metrics
from gossamer_vision.run import Run


def keep_to_budget(run: Run, epoch: float | None = None) -> None:
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


def seconds_of_an_epoch(run: Run) -> float:
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
