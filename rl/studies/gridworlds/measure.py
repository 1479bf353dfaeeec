"""One setting on many gridworlds: steps and seconds to 95% of 200 episodes solved, and success on held-out layouts.

python rl/studies/gridworlds/measure.py --to /tmp/gridworlds --seeds 1 2
python rl/studies/gridworlds/measure.py --to /tmp/gridworlds --agents static-random set --tasks DoorKey-8x8
python rl/studies/gridworlds/measure.py --to /tmp/views --exploration lifelong-first-visit --table views.md
python rl/studies/gridworlds/measure.py --to /tmp/bonuses --agents count rnd icm --tasks DoorKey-8x8 --table bonuses.md

What is already measured below the folder is not measured again, and a run that was stopped goes on; the table beside
this file is written anew from all: the interquartile means of each task's agents and of those over all tasks,
performance profiles, and every run.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from gossamer.paths import write_atomically
from gossamer.results import Result, read
from gossamer.runs import Run, execute
from gossamer_rl.benchmark import PRESETS
from gossamer_rl.config import BONUSES, Config
from gossamer_rl.evaluate import interquartile_mean, interval, profile

TASKS = (
    "DoorKey-8x8",
    "DoorKey-16x16",
    "UnlockPickup",
    "KeyCorridorS3R3",
    "MultiRoom-N6",
    "FourRooms",
    "LockedRoom",
    "BlockedUnlockPickup",
)
AGENTS: dict[str, dict[str, Any]] = {
    "dense": {},
    **{name: {"method": name, "sparse_critic": False} for name in ("static-random", "set", "rigl")},
    "gmp": {"method": "gmp", "sparse_critic": False, "solved": 1.0, "steps": 400_000},
    "small-dense": {"method": "small-dense"},
    "no-memory": {"memory": False},
    "long": {"memory": False, "steps": 10_000_000},
    "frontier": {"frontier": 0.5, "memory": False},
    "frontier-imitation": {"frontier": 0.5, "self_imitation": True, "memory": False},
    **{name: {"exploration": name, "memory": False, "steps": 400_000} for name in BONUSES},
}
LEVELS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
PROFILES = "\nPerformance profiles: the share of runs whose held-out success is above a level, the mean over tasks.\n\n"
COLUMNS = ("task", "agent", "seed", "steps to solve", "seconds", "held-out success", "steps trained", "curve")
SUMMARY = ("task", "agent", "seeds", "held-out success", "solved", "steps to solve", "seconds")


@dataclass(frozen=True)
class Options:
    """What to measure, and where to."""

    to: Path
    """folder of the results"""
    tasks: tuple[str, ...] = TASKS
    """names of MiniGrid's tasks"""
    agents: tuple[str, ...] = ("dense",)
    """which of AGENTS"""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """a run each"""
    exploration: str = PRESETS["minigrid"].exploration
    """the bonus of agents that name none"""
    table: str = "table.md"
    """name of the table"""


def kind(result: Result) -> str:
    """How the agent of a result differs from the preset's own."""
    config = vars(Config()) | result.config
    words = [config["method"], "memory" if config["memory"] else "no memory"]
    if config["method"] in ("rigl", "gmp", "set", "static-random"):
        words += [f"{config['sparsity']:.0%}", "critic sparse too" if config["sparse_critic"] else "critic dense"]
    if config["frontier"]:
        words.append(f"returns to a frontier {config['frontier']:.0%} (restores the simulator)")
    if config["self_imitation"]:
        words.append("self-imitation")
    for name in ("bonus", "copies", "epochs", "minibatch", "width", "steps", "exploration"):
        if config[name] != getattr(PRESETS["minigrid"], name):
            words.append(f"{name} {config[name]:,}" if name != "exploration" else config[name])
    return ", ".join(words)


def short(result: Result) -> str:
    """The task's name."""
    return result.data.removeprefix("MiniGrid-").removesuffix("-v0")


def cells(*values: object) -> str:
    """A line of a table."""
    return "| " + " | ".join(map(str, values)) + " |"


def table(columns: Sequence[str], lines: Sequence[str]) -> str:
    """A table."""
    return "\n".join([cells(*columns), "|" + " --- |" * len(columns), *lines, ""])


def row(result: Result) -> str:
    """One run."""
    extra, steps = result.extra, result.extra["steps"]
    solved, seconds = extra["steps_to_solve"], extra["seconds_to_solve"]
    tenth = max(1, len(extra["curve"]) // 10)
    curve = " ".join(f"{success:.0%}" for _, success, _ in extra["curve"][tenth - 1 :: tenth])
    numbers = (f"{solved:,}", f"{seconds:.0f}") if solved else ("not", "")
    return cells(short(result), kind(result), result.seed, *numbers, f"{extra['success']:.2f}", f"{steps:,}", curve)


def between(values: Sequence[Sequence[float]], form: str) -> str:
    """The interquartile mean over all runs of all tasks and, of several runs, its interval."""
    mean = interquartile_mean([value for task in values for value in task])
    if max(map(len, values)) == 1:
        return f"{mean:{form}}"
    low, high = interval(values, np.random.default_rng(0))
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def summary(results: Sequence[Result]) -> str:
    """One agent on one task, or on several, whose runs are drawn anew within each."""
    tasks = defaultdict(list)
    for result in results:
        tasks[short(result)].append(result)
    name = next(iter(tasks)) if len(tasks) == 1 else f"all {len(tasks)}"
    seeds = sorted({len(own) for own in tasks.values()})
    solved = [result.extra["steps_to_solve"] for result in results]
    whole = all(solved) and len(tasks) == 1
    steps = between([solved], ",.0f") if whole else ""
    seconds = between([[r.extra["seconds_to_solve"] for r in results]], ".0f") if whole else ""
    success = between([[r.extra["success"] for r in own] for own in tasks.values()], ".2f")
    count = f"{sum(map(bool, solved))} of {len(solved)}"
    return cells(name, kind(results[0]), "–".join(map(str, seeds)), success, count, steps, seconds)


def write(results: Sequence[Result], path: Path) -> None:
    """Write all tables: of each task, of all, and of every run."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    agents: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda r: (short(r), kind(r), r.seed)):
        groups[short(result), kind(result)].append(result)
        agents[kind(result)].append(result)
    several = {name: own for name, own in agents.items() if len({short(r) for r in own}) > 1}
    profiles = []
    for name, own in several.items():
        tasks = {short(r): [q.extra["success"] for q in own if short(q) == short(r)] for r in own}
        shares = profile(list(tasks.values()), LEVELS)
        profiles.append(cells(name, len(tasks), *(f"{share:.2f}" for share in shares)))
    text = (
        "Interquartile means over seeds with 95% intervals of the stratified bootstrap; steps and seconds are until 95%"
        " of the last 200 episodes were solved, and are given where every seed got there.\n\n"
        + table(SUMMARY, [summary(own) for own in [*groups.values(), *several.values()]])
        + (
            PROFILES + table(("agent", "tasks", *(f"above {level:g}" for level in LEVELS)), profiles)
            if profiles
            else ""
        )
        + "\nEvery run, and success in training in tenths of it:\n\n"
        + table(COLUMNS, [row(result) for own in groups.values() for result in own])
    )
    write_atomically(path, text.encode())


def main(options: Options) -> None:
    """Measure, and write the table."""
    for seed in options.seeds:
        for task in options.tasks:
            for name in options.agents:
                own = {"exploration": options.exploration, **AGENTS[name]}
                config = replace(PRESETS["minigrid"], data=f"MiniGrid-{task}-v0", seed=seed, **own)
                run = Run("rl", config)
                if not run.path(options.to).exists():
                    checkpoint = options.to / f"{run.name}.pt"
                    stoppable = replace(run, config=replace(config, checkpoint=checkpoint))
                    execute(stoppable, print, threads=1).save(options.to, run.name)
                    checkpoint.unlink()
    write(read(options.to, "rl"), Path(__file__).parent / options.table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
