"""Sparse training of a linear layer, forward and backward, against PyTorch's dense layer and SparseLab 0.2.2.

    pip install "gossamer[bench]"
    python core/benchmarks/linear_training.py [--repeats 30]

1024×1024 at batch 128, float32, one thread, all in one process, taking turns. Without SparseLab its column stays empty.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"  # SparseLab brings an OpenMP of its own, which reads it when loaded

import torch
from layers import machine, medians
from torch import nn

from gossamer.nn.linear import SparseLinear

SIZE, BATCH = 1024, 128


def training(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass, to the parameters and to the input."""
    x = x.clone().requires_grad_()

    def step():
        x.grad = None
        layer.zero_grad()
        layer(x).backward(gradient)

    return step


def sparselab(linear: nn.Linear, sparsity: float) -> nn.Module:
    """SparseLab's layer of that sparsity."""
    from sparselab import SparseLinear as Theirs  # pyright: ignore[reportMissingImports]

    return Theirs(linear.in_features, linear.out_features, sparsity=sparsity)


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="turns of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    present = importlib.util.find_spec("sparselab") is not None
    print(machine())
    print("| sparsity | dense ms | SparseLab ms | Gossamer ms | to dense | to SparseLab |\n|---|---|---|---|---|---|")
    x, gradient = torch.randn(2, BATCH, SIZE).unbind()
    for sparsity in (0.9, 0.95, 0.99):
        linear = nn.Linear(SIZE, SIZE)
        mask = torch.rand(SIZE, SIZE) >= sparsity
        sparse = SparseLinear.from_dense(linear, mask)
        layers = [linear, sparse] + ([sparselab(linear, sparsity)] if present else [])
        times = [1000 * t for t in medians([training(layer, x, gradient) for layer in layers], options.repeats)]
        dense, ours, theirs = *times[:2], times[2] if present else None
        theirs, ratio = ("", "") if theirs is None else (f"{theirs:.2f}", f"{theirs / ours:.2f}×")
        print(f"| {sparsity:.0%} | {dense:.2f} | {theirs} | {ours:.2f} | {dense / ours:.2f}× | {ratio} |")


if __name__ == "__main__":
    main()
