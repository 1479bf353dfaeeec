"""The time of a network in DeepSparse, which wants an environment of its own; `--deepsparse` of others runs this.

    python core/benchmarks/deepsparse_time.py model.onnx inputs.npz output.npy 20 1

Prints the median milliseconds of 20 calls on one core, and writes the output.
"""

import statistics
import sys
import time

import numpy as np
from deepsparse import Engine  # pyright: ignore[reportMissingImports]

path, source, target, repeats, cores = sys.argv[1:]
x = list(np.load(source).values())
engine = Engine(model=path, batch_size=len(x[0]), num_cores=int(cores))
np.save(target, engine.run(x)[0])
times = []
for _ in range(int(repeats)):
    start = time.perf_counter()
    engine.run(x)
    times.append(time.perf_counter() - start)
print(1000 * statistics.median(times))
