"""The constants that the kernels were tuned with: what other values would do.

    python core/benchmarks/tuning.py [--only LEAST] [--threads 2] [--densities]

For each constant and each value it prints the geometric mean of the times of the layers of `layers.py` (those that the
constant concerns), at 90 and 95% sparsity over both patterns, beside the time with the value that stands in the code.
A value is better if its ratio is below 1 in several runs. `--densities` prints the ratio of the sparse kernel's time to
the dense kernel's at densities from 0.5 to 1, from which `engine.choice.SPARSE` follows.
"""

import argparse
import importlib
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from layers import CONVOLUTIONS, machine, medians, sparse_weight

from gossamer import kernels

VALUES: dict[str, tuple[str, tuple[Any, ...], tuple[str, ...]]] = {  # constant: module, values, kinds of layers
    "CACHE": ("strips", (4096, 8192, 16384), ("convolution",)),
    "LEAST": (
        "strips",
        ({1: 7, 2: 10, 4: 18, 8: 18}, {1: 14, 2: 20, 4: 36, 8: 36}, {1: 28, 2: 40, 4: 72, 8: 72}),
        ("convolution",),
    ),
    "CHUNK": ("strips", (1 << 16, 1 << 18, 1 << 20), ("convolution",)),
    "FILL": (
        "packing",
        ({8: 0.5, 4: 0.45, 2: 0.6}, {8: 0.6, 4: 0.55, 2: 0.75}, {8: 0.8, 4: 0.8, 2: 0.9}),
        ("alike",),
    ),
    "TOGETHER": ("binding", (1 << 15, 1 << 16, 1 << 18), ("strided",)),
    "FEW": ("linear_layer", (1, 2, 4, 8), ("rows",)),
    "ROWS": ("linear_layer", (64, 96, 128, 256), ("matrix", "training")),
    "RUN": ("training_batches", (256, 1024, 4096), ("training",)),
}


def convolutions(size: int | None, stride: int = 1, batch: int = 1, threads: int = 1) -> Iterator[Callable[[], None]]:
    """The layers of `layers.py`; `size` output channels share their support but for a few non-zeros, if it is given."""
    rng = np.random.default_rng(0)
    for kernel, inputs, outputs, pixels in CONVOLUTIONS:
        for block, sparsity in ((size or 1, 0.9), (size or 4, 0.95)):
            weight, mask = sparse_weight(rng, (outputs, inputs, kernel, kernel), block, sparsity)
            if size:
                mask &= rng.random(mask.shape) < 0.7
            conv = kernels.conv2d(weight, mask, padding=kernel // 2, stride=stride, activation="relu")
            x = kernels.allocate((batch, inputs, pixels, pixels), conv.halo)
            x[...] = rng.standard_normal(x.shape)
            yield conv.bind(x, kernels.allocate(conv.output_shape(x.shape), conv.halo), threads=threads)


def products(rows: tuple[int, ...], threads: int) -> Iterator[Callable[[], None]]:
    """Linear layers on so many rows."""
    rng = np.random.default_rng(0)
    weight, mask = sparse_weight(rng, (2048, 2048), 1, 0.9)
    for count in rows:
        x, out = rng.standard_normal((count, 2048), np.float32), np.empty((count, 2048), np.float32)
        yield kernels.linear(weight, mask).bind(x, out, threads=threads)


def trainings(threads: int) -> Iterator[Callable[[], None]]:
    """Forward and backward of a sparse matrix."""
    from gossamer.kernels import training
    from gossamer.kernels.geometry import Geometry
    from gossamer.kernels.layout import Floats

    rng = np.random.default_rng(0)
    for sparsity in (0.9, 0.99):
        _, mask = sparse_weight(rng, (1024, 1024), 1, sparsity)
        structure = training.Structure(np.flatnonzero(mask), Geometry((1024, 1024, 1, 1)))
        values = rng.standard_normal(np.count_nonzero(mask), np.float32)
        x, y = rng.standard_normal((2, 128, 1024), np.float32)
        back, grown = np.empty_like(x), np.empty_like(values)

        arrays = (values, x, y, back, grown)

        def step(structure=structure, arrays=arrays) -> None:
            values, x, y, back, grown = map(Floats.of, arrays)
            training.multiply(structure, values, None, x, y, threads)
            training.multiply_back(structure, values, x, y, back, grown, threads)

        yield step


KINDS: dict[str, Callable[[int], Iterator[Callable[[], None]]]] = {
    "convolution": lambda threads: convolutions(None, threads=threads),
    "alike": lambda threads: convolutions(4, threads=threads),
    "strided": lambda threads: convolutions(None, 2, 16, threads),
    "rows": lambda threads: products((2, 3, 4, 6, 8), threads),
    "matrix": lambda threads: products((128, 512), threads),
    "training": trainings,
}


def bound(name: str, value: Any, threads: int) -> list[Callable[[], None]]:
    """The calls of the layers that a constant concerns, bound with a value of it."""
    where, _, kinds = VALUES[name]
    modules = [importlib.import_module(f"gossamer.kernels.{module}") for module in (where, *USERS.get(name, ()))]
    before = [getattr(module, name) for module in modules]
    try:
        for module in modules:
            setattr(module, name, value)
        return [call for kind in kinds for call in KINDS[kind](threads)]
    finally:
        for module, old in zip(modules, before, strict=True):
            setattr(module, name, old)


USERS = {"ROWS": ("products", "training", "training_batches")}
"""The modules that import a constant by name."""


def densities(repeats: int) -> None:
    """Print the sparse kernel's time as a share of the dense one's."""
    rng = np.random.default_rng(0)
    print("| density | 0.5 | 0.7 | 0.8 | 0.9 | 1.0 |\n|---|---|---|---|---|---|")
    for kernel, inputs, outputs, pixels in CONVOLUTIONS:
        cells = []
        for density in (0.5, 0.7, 0.8, 0.9, 1.0):
            weight, mask = sparse_weight(rng, (outputs, inputs, kernel, kernel), 1, 1 - density)
            halo = (kernel // 2, kernel // 2)
            x = kernels.allocate((1, inputs, pixels, pixels), halo)
            x[...] = rng.standard_normal(x.shape)
            out = kernels.allocate((1, outputs, pixels, pixels), halo)
            calls = [kernels.conv2d(weight, m, padding=kernel // 2).bind(x, out) for m in (mask, None)]
            sparse, dense = medians(list(calls), repeats)
            cells.append(f"{sparse / dense:.2f}")
        print(f"| {kernel}×{kernel}, {inputs}→{outputs}, {pixels}×{pixels} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="turns of each value")
    parser.add_argument("--only", choices=sorted(VALUES), help="try this constant alone")
    parser.add_argument("--threads", type=int, default=1, help="threads that work on a call")
    parser.add_argument("--densities", action="store_true", help="compare sparse and dense kernels by density")
    options = parser.parse_args()
    print(machine())
    if options.densities:
        densities(options.repeats)
        return
    print("| constant | value | time, to the one that stands |\n|---|---|---|")
    for name in [options.only] if options.only else VALUES:
        where, values, _ = VALUES[name]
        standing = getattr(importlib.import_module(f"gossamer.kernels.{where}"), name)
        sets = [bound(name, value, options.threads) for value in (standing, *values)]
        times = medians([call for calls in sets for call in calls], options.repeats)
        means = [statistics.geometric_mean(times[k : k + len(sets[0])]) for k in range(0, len(times), len(sets[0]))]
        for value, mean in zip(values, means[1:], strict=True):
            print(f"| {name} | {value} | {mean / means[0]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
