"""Steps a second of the compiled gridworlds, observations included, on one core.

python rl/benchmarks/gridworlds.py --task MiniGrid-DoorKey-8x8-v0 --copies 64
"""

import argparse
import time
from statistics import median

import numpy as np

from gossamer_rl.gridworlds import Gridworlds

STEPS, REPEATS = 1000, 7

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="MiniGrid-DoorKey-8x8-v0")
parser.add_argument("--copies", type=int, default=64)
options = parser.parse_args()
worlds = Gridworlds(options.task, options.copies)
worlds.reset(seed=0)
actions = np.random.default_rng(0).integers(0, 7, (STEPS, options.copies))
worlds.advance(actions[0])  # compiled now
rates = []
for _ in range(REPEATS):
    start = time.perf_counter()
    for row in actions:
        worlds.advance(row)
    rates.append(STEPS * options.copies / (time.perf_counter() - start))
print(f"{options.task}, {options.copies} copies: {median(rates):,.0f} steps a second, the median of {REPEATS} runs")
