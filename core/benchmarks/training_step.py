"""A training step of a ResNet-18 by sparse storage, beside the dense one and SparseProp, on 1 … N threads.

    python core/benchmarks/training_step.py [--threads 2] [--sparsities 0.9 0.95 0.99] [--rigl] [--sparseprop FOLDER]

A step is forward, backward and SGD on 32 images of 32×32. All convolutions but the first are sparse, of uniform
density; ratios are to the faster of both dense memory formats. All networks are in one process and take turns; medians.
SparseProp (Nikdan et al. 2023) is measured where `--sparseprop` names the folder that holds its package and its
compiled `backend` (`pip install --target FOLDER --no-build-isolation sparseprop`, with pybind11 and a compiler); it may
choose for each layer among its kernels and PyTorch's dense ones, as its own `swap_modules_with_sparse` does.
`--rigl` measures a hundred steps, in which one moves the topology and packs it anew, beside a hundred dense ones.
"""

import argparse
import contextlib
import copy
import ctypes
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision
from layers import machine, medians
from torch import Tensor, nn

import gossamer as gs

EVERY = 100  # steps from one of RigL's updates to the next


def network() -> nn.Module:
    """A ResNet-18 for images of 32×32."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.register_module("maxpool", nn.Identity())
    return model


def random_masks(model: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """Masks of all convolutions but the first."""
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.in_channels > 3}
    return {f"{name}.weight": torch.rand_like(m.weight) >= sparsity for name, m in convolutions.items()}


def sparseprop(folder: str, sparsity: float) -> nn.Module:
    """The network by SparseProp."""
    if folder not in sys.path:
        sys.path.append(folder)
    from sparseprop.utils import swap_modules_with_sparse  # pyright: ignore[reportMissingImports]

    model = network()
    with torch.no_grad():
        for name, mask in random_masks(model, sparsity).items():
            model.get_parameter(name).mul_(mask)
    with contextlib.redirect_stdout(sys.stderr):
        return swap_modules_with_sparse(model, (32, 3, 32, 32), inplace=True, skip_modules="conv1,fc")


def use(threads: int) -> None:
    """Have PyTorch use so many threads, and the system's OpenMP, which SparseProp is linked with."""
    torch.set_num_threads(threads)
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)


def training(model: nn.Module, last: bool = False) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """A step, and its optimizer; `last` is PyTorch's channels-last format."""
    x, labels = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step, optimizer


def steps(threads: list[int], options: argparse.Namespace) -> None:
    """Print the milliseconds of a step."""
    calls = {"dense": training(network())[0], "channels last": training(network(), last=True)[0]}
    for sparsity in options.sparsities:
        model = network()
        calls[f"{sparsity:.0%}"] = training(gs.nn.convert(model, random_masks(model, sparsity)))[0]
        if options.sparseprop:
            calls[f"{sparsity:.0%}, SparseProp"] = training(sparseprop(options.sparseprop, sparsity))[0]
    print("| | " + " | ".join(f"{n} threads, ms" for n in threads) + " |\n|---|" + "---|" * len(threads))
    found = []
    for count in threads:
        use(count)
        found.append(dict(zip(calls, (1000 * t for t in medians(list(calls.values()), options.repeats)), strict=True)))
    for name in calls:
        cells = []
        for times in found:
            dense = min(times["dense"], times["channels last"])
            cells.append(f"{times[name]:.1f} ({dense / times[name]:.2f}× dense)")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def rigl(threads: list[int], options: argparse.Namespace) -> None:
    """Print the seconds of a hundred steps with RigL."""
    for sparsity in options.sparsities:
        model = network()
        gs.nn.convert(model, random_masks(model, sparsity))
        dense = [training(network())[0], training(network(), last=True)[0]]
        for count in threads:
            use(count)
            moving = copy.deepcopy(model)
            masking = gs.sparsify(moving, sparsity)
            step, optimizer = training(moving)
            method = gs.RigL(masking.attach(optimizer), every=EVERY, until=10**6)
            ours, theirs = 0.0, [[], []]
            for turn in range(2 * EVERY):
                start = time.perf_counter()
                step()
                method.step()
                if turn >= EVERY // 2 and turn < EVERY // 2 + EVERY:  # an update in the middle
                    ours += time.perf_counter() - start
                if turn % (EVERY // 5) == 0:
                    for call, record in zip(dense, theirs, strict=True):
                        start = time.perf_counter()
                        call()
                        record.append(time.perf_counter() - start)
            slow = EVERY * min(statistics.median(record) for record in theirs)
            print(
                f"RigL at {sparsity:.0%}, {count} threads: {EVERY} steps and an update {ours:.1f} s, "
                f"dense {slow:.1f} s ({slow / ours:.2f}×)",
                flush=True,
            )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="the most threads")
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.9, 0.95, 0.99])
    parser.add_argument("--repeats", type=int, default=2, help="turns of each, of five timed steps each")
    parser.add_argument("--rigl", action="store_true", help="a hundred steps with RigL instead")
    parser.add_argument("--sparseprop", metavar="FOLDER", help="measure SparseProp too, from this folder")
    options = parser.parse_args()
    threads = [2**k for k in range(options.threads.bit_length()) if 2**k <= options.threads]
    print(machine())
    (rigl if options.rigl else steps)(threads, options)


if __name__ == "__main__":
    main()
