"""Steps a second of the compiled gridworlds, observations included, on one core, and navix's (JAX) beside them.

python rl/benchmarks/gridworlds.py --task MiniGrid-DoorKey-8x8-v0 --copies 64
pip install navix; taskset -c 0 python rl/benchmarks/gridworlds.py --navix

navix runs jitted, all copies by `vmap` and the steps by `scan`, with the same random actions and MiniGrid's view.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from gossamer_rl.gridworlds import Gridworlds

STEPS, REPEATS = 1000, 7


def ours(task: str, actions: np.ndarray) -> Callable[[], Any]:
    """A function that takes the actions [steps, copies] in the kernels."""
    worlds = Gridworlds(task, actions.shape[1])
    worlds.reset(seed=0)

    def run() -> None:
        for row in actions:
            worlds.advance(row)

    return run


def navix(task: str, actions: np.ndarray) -> Callable[[], Any]:
    """A function that takes the actions [steps, copies] in navix's environment of that name."""
    jax, nx, shown = (importlib.import_module(name) for name in ("jax", "navix", "navix.observations"))
    environment = nx.make(task.replace("MiniGrid", "Navix"), observation_fn=shown.symbolic_first_person)
    begun = jax.vmap(environment.reset)(jax.random.split(jax.random.PRNGKey(0), actions.shape[1]))

    @jax.jit
    def take(state: Any, actions: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            state = jax.vmap(environment.step)(state, row)
            return state, (state.observation, state.reward)

        return jax.lax.scan(step, state, actions)

    return lambda: jax.block_until_ready(take(begun, actions))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="MiniGrid-DoorKey-8x8-v0")
parser.add_argument("--copies", type=int, default=64)
parser.add_argument("--navix", action="store_true", help="measure navix in turn")
options = parser.parse_args()
actions = np.random.default_rng(0).integers(0, 7, (STEPS, options.copies))
runs = {"gossamer": ours(options.task, actions)} | ({"navix": navix(options.task, actions)} if options.navix else {})
rates: dict[str, list[float]] = {name: [] for name in runs}
for run in runs.values():
    run()  # compiled now
for _ in range(REPEATS):
    for name, run in runs.items():
        start = time.perf_counter()
        run()
        rates[name].append(STEPS * options.copies / (time.perf_counter() - start))
for name, found in rates.items():
    more = median(rates["gossamer"]) / median(found)
    print(f"{name}: {median(found):,.0f} steps a second of {options.task}, gossamer {more:.1f} times as many")
