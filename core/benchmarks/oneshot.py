"""One-shot pruning: the perplexity of a byte-level language model by solver, and a large layer's seconds and memory.

    python core/benchmarks/oneshot.py [--steps 3000] [--inputs 4096]

The model (4 blocks of 128 channels, a context of 64 bytes) is trained here on the docstrings of Python's standard
library, nine tenths of them; batches to prune by are of the same text, perplexity a byte is of the other tenth. All on
two threads. The layer is square, of random weights, its inputs correlated; its memory is the peak beyond weights and
inputs.
"""

import argparse
import copy
import importlib
import inspect
import math
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch
from layers import machine
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs

MODULES = (
    "argparse ast calendar collections csv datetime decimal difflib fractions functools heapq inspect json logging os "
    "pathlib pickle random re shutil socket statistics string subprocess tarfile textwrap threading unittest "
    "urllib.parse zipfile configparser ctypes doctest email.message gzip hashlib http.client imaplib ipaddress locale "
    "mailbox mimetypes multiprocessing.pool optparse pdb platform plistlib poplib pprint queue sched selectors shelve "
    "smtplib sqlite3 ssl struct symtable tempfile timeit tokenize trace traceback turtle uuid wave weakref"
)
CONTEXT = 64
SETTINGS: tuple[tuple[str, float, gs.Pattern | None], ...] = (
    ("50%", 0.5, None),
    ("2:4", 0.5, gs.NofM(2, 4)),
    ("70%", 0.7, None),
)


class Block(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, size) both ways."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.first(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Bytes(nn.Module):
    """A byte-level language model."""

    def __init__(self, size: int = 128, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(256, size), nn.Embedding(CONTEXT, size)
        self.blocks = nn.ModuleList(Block(size, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, 256)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next byte."""
        x = self.embed(ids) + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def docstrings() -> Tensor:
    """The docstrings of the standard library, as bytes."""
    texts = []
    for name in MODULES.split():
        for _, thing in sorted(vars(importlib.import_module(name)).items()):
            if inspect.isclass(thing) or inspect.isfunction(thing):
                members = [thing, *(m for _, m in sorted(vars(thing).items()) if inspect.isfunction(m))]
                texts += [m.__doc__ for m in members if isinstance(m.__doc__, str)]
    return torch.tensor(list("\n".join(dict.fromkeys(texts)).encode()))


def windows(data: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Places of the text, a byte longer than the context."""
    starts = torch.randint(len(data) - CONTEXT - 1, (count,), generator=generator)
    return data[starts[:, None] + torch.arange(CONTEXT + 1)]


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    """Of the next byte, in nats."""
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def trained(steps: int, rate: float = 3e-3) -> tuple[Bytes, list[Tensor], Tensor]:
    """The model, batches to prune it by, and held-out windows."""
    torch.manual_seed(0)
    generator, data = torch.Generator().manual_seed(0), docstrings()
    train, held_out = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]
    model = Bytes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0, betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 50) * (1 - step / steps)
        optimizer.zero_grad()
        loss(model, windows(train, 24, generator)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    batches = list(windows(train, 128, generator)[:, :-1].split(32))
    return model.eval(), batches, windows(held_out, 1024, generator)


@torch.no_grad()
def perplexity(model: nn.Module, batch: Tensor) -> float:
    """Of a byte."""
    return math.exp(loss(model, batch))


def layer(inputs: int) -> tuple[float, float]:
    """SparseGPT's seconds on a square layer at 50%, and its peak memory in MB beyond weights and inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(inputs, inputs, bias=False)), nn.Sequential(nn.Identity()))
    x = torch.randn(2048, inputs // 16) @ torch.randn(inputs // 16, inputs) + torch.randn(2048, inputs)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    gs.prune_blocks(model, [x], 0.5, blocks="0")
    return time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="of training")
    parser.add_argument("--inputs", type=int, default=4096, help="of the large layer; 0 for none")
    options = parser.parse_args()
    print(machine().replace("one thread", f"{torch.get_num_threads()} threads"))
    if options.inputs:
        seconds, megabytes = layer(options.inputs)
        print(f"SparseGPT, {options.inputs} × {options.inputs} at 50%: {seconds:.1f} s, {megabytes:.0f} MB\n")
    model, batches, held_out = trained(options.steps)
    print(
        f"| perplexity (dense {perplexity(model, held_out):.3f}) | SparseGPT | Wanda | magnitude |\n|---|---|---|---|"
    )
    for name, sparsity, pattern in SETTINGS:
        row = []
        for solver in ("sparsegpt", "wanda", "magnitude"):
            pruned = copy.deepcopy(model)
            gs.prune_blocks(pruned, batches, sparsity, solver=solver, pattern=pattern)
            row.append(f"{perplexity(pruned, held_out):.3f}")
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
