"""Sparse convolutions and linear layers against PyTorch's dense ones, one thread, in one process.

    python core/benchmarks/layers.py [--repeats 30] [--only 3×3]

Prints the median milliseconds of each convolution at batch 1, and the ratio to the faster of PyTorch's default and
channels-last formats; of a linear layer at several batch sizes, with PyTorch's own sparse (CSR) product beside it.
"""

import argparse
import platform
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable

import numba
import numpy as np
import torch

from gossamer import kernels
from gossamer.kernels.target import target

CONVOLUTIONS = (  # kernel, inputs, outputs, height and width
    (3, 64, 64, 56),
    (3, 128, 128, 28),
    (3, 256, 256, 14),
    (3, 512, 512, 7),
    (1, 256, 64, 56),
    (1, 1024, 256, 14),
    (1, 2048, 512, 7),
)
RUN = 5
REST = 0.05  # seconds in which other threads stop to spin
PATTERNS = (("unstructured", 1, 0.9), ("unstructured", 1, 0.95), ("Block(4,1)", 4, 0.9), ("Block(4,1)", 4, 0.95))


def medians(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """The median seconds of each call; the calls take turns, each running `RUN` times in its turn.

    On several threads each turn begins after a rest, for the threads of a runtime spin for a while after its work.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, record in zip(calls, times, strict=True):
            if torch.get_num_threads() > 1:
                time.sleep(REST)
            call()
            for _ in range(RUN):
                start = time.perf_counter()
                call()
                record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def machine() -> str:
    """The processor, the versions and the commit that the numbers belong to."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    processor = target()
    return (
        f"{model} ({processor.name}, {processor.lanes} lanes), threads: {torch.get_num_threads()}; "
        f"Python {platform.python_version()}, "
        f"torch {torch.__version__}, numba {numba.__version__}; commit {commit}"
    )


def sparse_weight(rng, shape: tuple[int, ...], block: int, sparsity: float) -> tuple[np.ndarray, np.ndarray]:
    """A random weight and a mask that keeps 1 - sparsity of it in blocks of `block` output channels."""
    places = rng.permutation(np.prod(shape) // block) >= round(sparsity * np.prod(shape) / block)
    mask = np.repeat(places.reshape(shape[0] // block, *shape[1:]), block, axis=0)
    return rng.standard_normal(shape, np.float32), mask


def convolution(kernel, inputs, outputs, size, repeats) -> list[float]:
    """Milliseconds: dense, then each of PATTERNS."""
    rng = np.random.default_rng(0)
    calls: list[Callable[[], object]] = []
    weights = [sparse_weight(rng, (outputs, inputs, kernel, kernel), block, s) for _, block, s in PATTERNS]
    image = rng.standard_normal((1, inputs, size, size), np.float32)
    for format in (torch.contiguous_format, torch.channels_last):
        x = torch.tensor(image).contiguous(memory_format=format)
        w = torch.tensor(weights[0][0]).contiguous(memory_format=format)
        calls.append(lambda x=x, w=w: torch.conv2d(x, w, padding=kernel // 2))
    for weight, mask in weights:
        prepared = kernels.conv2d(weight, mask, padding=kernel // 2)
        x = kernels.allocate(image.shape, prepared.halo)
        x[...] = image
        y = kernels.allocate(prepared.output_shape(x.shape), prepared.halo)
        calls.append(prepared.bind(x, y))
        calls[-1]()
        expected = torch.conv2d(torch.tensor(image), torch.tensor(weight * mask), padding=kernel // 2).numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)
    times = [1000 * t for t in medians(calls, repeats)]
    return [min(times[:2]), *times[2:]]


def linear(inputs, outputs, batch, repeats) -> list[float]:
    """Milliseconds: dense, then each of PATTERNS, then PyTorch's CSR product with the first of them."""
    rng = np.random.default_rng(0)
    weights = [sparse_weight(rng, (outputs, inputs), block, s) for _, block, s in PATTERNS]
    x = rng.standard_normal((batch, inputs), np.float32)
    tensor, dense = torch.tensor(x), torch.tensor(weights[0][0])
    calls: list[Callable[[], object]] = [lambda: torch.nn.functional.linear(tensor, dense)]
    for weight, mask in weights:
        y = np.zeros((batch, outputs), np.float32)
        calls.append(kernels.linear(weight, mask).bind(x, y))
        calls[-1]()
        np.testing.assert_allclose(y, x @ (weight * mask).T, rtol=1e-3, atol=1e-3)
    weight, mask = weights[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its CSR tensors a beta
        csr = torch.tensor(weight * mask).to_sparse_csr()
    columns = tensor.T.contiguous()
    calls.append(lambda: csr @ columns)
    return [1000 * t for t in medians(calls, repeats)]


def report(rows: list[tuple[str, list[float]]], means: bool = True):
    """Print the times with their ratios to dense, and the geometric means of the ratios if asked."""
    heads = [f"{name} {sparsity:.0%}" for name, _, sparsity in PATTERNS]
    heads += ["`torch.sparse` CSR 90%"] * (len(rows[0][1]) - 1 - len(heads))
    print("| layer | dense ms | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 2))
    for name, (dense, *sparse) in rows:
        cells = [f"{t:.3f} ({dense / t:.2f}×)" for t in sparse]
        print(f"| {name} | {dense:.3f} | " + " | ".join(cells) + " |")
    if means:
        ratios = [statistics.geometric_mean(times[0] / times[k + 1] for _, times in rows) for k in range(len(heads))]
        print("| geometric mean | | " + " | ".join(f"{mean:.2f}×" for mean in ratios) + " |")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="timed runs of each call")
    parser.add_argument("--only", default="", help="run the layers whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(machine())
    layers = {f"{k}×{k}, {i}→{o}, {size}×{size}": (k, i, o, size) for k, i, o, size in CONVOLUTIONS}
    rows = [(name, convolution(*layer, options.repeats)) for name, layer in layers.items() if options.only in name]
    if rows:
        report(rows)
    batches = {f"Linear 4096→4096, batch {batch}": batch for batch in (1, 16, 128)}
    rows = [(name, linear(4096, 4096, n, options.repeats)) for name, n in batches.items() if options.only in name]
    if rows:
        print()
        report(rows, means=False)


if __name__ == "__main__":
    main()
