"""How fast splade-doc reads documents on one core: its sparse transformer in PyTorch and compiled, and its head.

OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/reading.py
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/reading.py --layers 6
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro

import gossamer as gs
from gossamer.files import size
from gossamer_nlp.splade import CHUNK, Expansion, inputs


@dataclass(frozen=True)
class Options:
    """The network, its weights drawn at random, and how sparse its linear layers are."""

    words: int = 8000
    layers: int = 2
    width: int = 128
    longest: int = 128
    sparsity: float = 0.8
    rounds: int = 7


def main(options: Options) -> None:
    """Time the parts, each the least of some rounds."""
    torch.manual_seed(0)
    network = Expansion(options.words, options.layers, options.width, options.longest).eval()
    dense = size(network)
    gs.sparsify(network.body, options.sparsity)
    sequences = torch.randint(options.words, (CHUNK, options.longest))
    read = inputs(sequences)
    engine = gs.compile(network.body, inputs(sequences[:16]))

    def seconds(call: Callable[[], Any]) -> float:
        found = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        return min(found)

    with torch.no_grad():
        plain, compiled = network.body(*read), torch.as_tensor(engine(*read))
        torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)
        pytorch, ours = seconds(lambda: network.body(*read)), seconds(lambda: engine(*read))
        head = seconds(lambda: network.head(plain, sequences))
    print(
        f"{CHUNK} documents of {options.longest} terms: transformer {1000 * pytorch:.0f} ms in PyTorch, "
        f"{1000 * ours:.0f} compiled ({pytorch / ours:.1f}x), head {1000 * head:.0f}; "
        f"{CHUNK / (pytorch + head):.0f} and {CHUNK / (ours + head):.0f} documents a second; "
        f"{dense / 1e6:.1f} MB dense, {size(network) / 1e6:.1f} kept"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
