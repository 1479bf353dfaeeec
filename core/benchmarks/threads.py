"""What more threads give: kernels, whole networks and training steps on 1 … N threads, in one process.

    python core/benchmarks/threads.py [--threads 2] [--only steps|networks] [--batch 1 16]

`steps` measures programs of a hundred equal steps: what a step costs beside its share of the work. `networks` are
ResNet-50 over both patterns at 90%. `training_step.py` measures training.
Between calls the process sleeps, since threads of other runtimes, and torch's own, spin for a while after their work.
The first line says how far apart two processors are: on a virtual machine that may change from minute to minute, and
with it what a second thread gives where threads read what others wrote.
`--spins` and `--pieces` try other values of `tasks.SPINS` and `tasks.PIECES`.
"""

import argparse
import functools
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from layers import REST, machine
from networks import PATTERNS, network
from numba.core.types import int64, void

from gossamer import engine, kernels
from gossamer.kernels import tasks
from gossamer.kernels.compiled import c_function
from gossamer.kernels.team import acquire, release

TURNS = 20_000


def median(call: Callable[[], object], repeats: int, rest: float = REST) -> float:
    """The median milliseconds of a call."""
    times = []
    for _ in range(repeats):
        time.sleep(rest)
        call()  # threads wake, and caches fill
        for _ in range(3):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def steps(threads: list[int], repeats: int) -> None:
    """Print the microseconds of a step."""
    rng = np.random.default_rng(0)
    print("| step on one thread, µs | " + " | ".join(f"{n} threads" for n in threads[1:]) + " |")
    print("|---|" + "---|" * (len(threads) - 1))
    for channels in (8, 32, 128):
        weight = rng.standard_normal((channels, 64, 3, 3), np.float32)
        conv = kernels.conv2d(weight, rng.random(weight.shape) < 0.1, padding=1, size=(28, 28))
        x = kernels.allocate((1, 64, 28, 28), conv.halo)
        x[...] = rng.standard_normal(x.shape)
        out = kernels.allocate(conv.output_shape(x.shape), conv.halo)
        found = []
        for count in threads:
            one: tasks.Program = conv.bind(x, out, threads=count)  # pyright: ignore[reportAssignmentType]
            found.append(10 * median(tasks.Program(one.tasks * 100, count), repeats, 0))
        ratios = [
            f"{found[0] / t:.2f}× ({t - found[0] / n:+.1f} µs)" for n, t in zip(threads[1:], found[1:], strict=True)
        ]
        print(f"| {found[0]:.1f} | " + " | ".join(ratios) + " |", flush=True)


def networks(threads: list[int], batches: list[int], repeats: int) -> None:
    """Print the milliseconds of ResNet-50."""
    for pattern in PATTERNS:
        model = network("resnet50", PATTERNS[pattern], 0.9)
        x = torch.randn(max(batches), 3, 224, 224, generator=torch.Generator().manual_seed(1))
        torch.set_num_threads(1)
        compiled = engine.compile(model, x[:1])
        for batch in batches:
            table(f"ResNet-50, {pattern}, batch {batch}", functools.partial(compiled, x[:batch]), threads, repeats)


def table(name: str, call: Callable[[], object], threads: list[int], repeats: int) -> None:
    """Print a row: milliseconds by threads, and the ratio to one."""
    found = []
    for count in threads:
        torch.set_num_threads(count)
        found.append(median(call, repeats))
    cells = [f"{found[0]:.1f}", *(f"{t:.1f} ({found[0] / t:.2f}×)" for t in found[1:])]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


@c_function(void(int64, int64))
def answer(counter: int, turn: int) -> None:
    """Set the counter to the next number whenever it is even (turn 0) or odd (turn 1)."""
    for k in range(TURNS):
        while acquire(counter) != 2 * k + turn:
            pass
        release(counter, 2 * k + turn + 1)


def round_trip() -> str:
    """The nanoseconds in which two threads answer each other through memory: how far apart their processors are."""
    found = []
    for _ in range(5):
        counter = np.zeros(64, np.int64)
        other = threading.Thread(target=answer.call, args=(counter[32:].ctypes.data, 1))
        other.start()
        start = time.perf_counter()
        answer.call(counter[32:].ctypes.data, 0)
        found.append(1e9 * (time.perf_counter() - start) / TURNS)
        other.join()
    return f"{statistics.median(found):.0f} ns from one processor to another and back"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="the most threads")
    parser.add_argument("--only", choices=("steps", "networks"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=8, help="turns of three timed calls each")
    parser.add_argument("--spins", type=int, help="another value of team.SPINS")
    parser.add_argument("--pieces", type=int, help="another value of tasks.PIECES")
    options = parser.parse_args()
    if options.spins is not None:
        tasks.SPINS = options.spins
    if options.pieces is not None:
        tasks.PIECES = options.pieces
    threads = [2**k for k in range(options.threads.bit_length()) if 2**k <= options.threads]
    print(machine(), round_trip(), sep="; ")
    if options.only in (None, "steps"):
        steps(threads, options.repeats)
    if options.only in (None, "networks"):
        print("\n| | " + " | ".join(f"{n} threads, ms" for n in threads) + " |\n|---|" + "---|" * len(threads))
        with torch.no_grad():
            networks(threads, options.batch, options.repeats)


if __name__ == "__main__":
    main()
