"""The time of a network in DeepSparse, which wants an environment of its own; `networks.py --deepsparse` runs this.

    python core/benchmarks/deepsparse_time.py model.onnx input.npy output.npy 20

Prints the median milliseconds of as many calls on one core, and writes the output.
"""

import statistics
import sys
import time

import numpy as np
from deepsparse import Engine  # pyright: ignore[reportMissingImports]

path, source, target, repeats = sys.argv[1:]
x = np.load(source)
engine = Engine(model=path, batch_size=len(x), num_cores=1)
np.save(target, engine.run([x])[0])
times = []
for _ in range(int(repeats)):
    start = time.perf_counter()
    engine.run([x])
    times.append(time.perf_counter() - start)
print(1000 * statistics.median(times))
