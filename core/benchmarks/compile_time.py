"""How long `gossamer.compile` takes for a network with empty caches, and with full ones; and what an engine's file is.

    python core/benchmarks/compile_time.py [--network resnet50] [--pattern "Block(4,1)"]

Each time is that of a new process, from the call to the engine's first answer, imports aside.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMPILED = """
import sys, time
import torch
torch.set_num_threads(1)
from networks import PATTERNS, network
from gossamer import engine
model, x = network(sys.argv[1], PATTERNS[sys.argv[2]], 0.9), torch.randn(1, 3, 224, 224)
start = time.perf_counter()
compiled = engine.compile(model, x)
compiled(x)
print(time.perf_counter() - start)
compiled.save(sys.argv[3])
"""
LOADED = """
import sys, time
import numpy as np
from gossamer import engine
start = time.perf_counter()
loaded = engine.load(sys.argv[3])
loaded(np.zeros((1, 3, 224, 224), np.float32))
print(time.perf_counter() - start)
assert "torch" not in sys.modules
"""


def seconds(script: str, cache: Path, *arguments: str) -> tuple[float, float]:
    """What the script prints, and the whole process's time."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": str(cache / "numba")}
    environment |= {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, stdout=subprocess.PIPE, check=True
    )
    return float(ran.stdout), time.perf_counter() - start


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--pattern", default="Block(4,1)", choices=["Block(4,1)", "unstructured"])
    options = parser.parse_args()
    print("| caches | `compile` | `engine.load`, without torch | its whole process |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.gossamer")
        for caches in ("empty", "full"):
            compiled, _ = seconds(COMPILED, Path(folder) / "compile", options.network, options.pattern, path)
            loaded, whole = seconds(LOADED, Path(folder) / "load", options.network, options.pattern, path)
            print(f"| {caches} | {compiled:.1f} s | {loaded:.1f} s | {whole:.1f} s |", flush=True)
        print(f"\nThe file has {Path(path).stat().st_size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
