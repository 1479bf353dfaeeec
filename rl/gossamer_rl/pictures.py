"""Pictures of results and policies: learning curves, where policies go on a layout, a solved episode as a film strip.

gossamer rl pictures --results results --to pictures
gossamer rl pictures --models with-bonus.gossamer without.gossamer --seed 3
"""

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from gossamer import InputError, errors
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer.results import Result, read
from gossamer_rl.environments import GridworldCopies, one
from gossamer_rl.evaluate import interquartile_mean, interval
from gossamer_rl.gridworlds import TASKS
from gossamer_rl.gridworlds.stock import cells_of, put, stock
from gossamer_rl.play import episode
from gossamer_rl.policy import Policy, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARYING = ("method", "sparsity", "sparse_critic", "seed", "steps", "solved")
FRAMES = 10
POINTS = 101
EPISODES = 64
TILE = 32
"""pixels of a cell"""
TRIED = 20
"""episodes that are played until one is solved"""


@dataclass(frozen=True)
class Options:
    """What to draw, and where to."""

    results: Path = Path("results")
    """the folder of the result files, for learning curves"""
    models: tuple[Path, ...] = ()
    """files that training wrote with --save: each is drawn where it goes on a layout, and the first one solving it"""
    to: Path = Path("pictures")
    """the folder to write the pictures to, as SVG"""
    seed: int = 1
    """of the layout and the actions"""

    def __post_init__(self) -> None:
        errors.within(0, 2**31 - 1, seed=self.seed)


def figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError('pictures need matplotlib; type: pip install "gossamer[report]"') from error
    return Figure((width, height), layout="constrained")


def alike(results: Sequence[Result]) -> list[Result]:
    """The results that differ in method, sparsity, seed and length alone: of those kinds, the most frequent."""

    def kind(result: Result) -> str:
        return str({name: value for name, value in sorted(result.config.items()) if name not in VARYING})

    common = Counter(map(kind, results)).most_common(1)[0][0]
    return [result for result in results if kind(result) == common]


def curves(results: Sequence[Result]) -> "Figure":
    """Success in training against steps, a line a method: the interquartile mean over seeds and its 95% interval.

    The results are of one task. What was solved, and so ended early, stays at its last success.
    """
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: (result.method != "dense", result.method, result.seed)):
        groups[f"{result.method}, {result.sparsity_asked:.0%}" if result.sparsity_asked else result.method].append(
            result
        )
    drawn = figure(6.5, 4)
    axes = drawn.subplots()
    furthest = max(result.extra["curve"][-1][0] for result in results)
    steps = np.linspace(0, furthest, POINTS)
    for name, own in groups.items():
        runs = np.array([np.interp(steps, *np.array([(0, 0), *(c[:2] for c in r.extra["curve"])]).T) for r in own])
        means = [100 * interquartile_mean(column) for column in runs.T]
        (line,) = axes.plot(steps, means, label=f"{name} ({len(own)} seed{'s' * (len(own) > 1)})")
        if len(own) > 1:
            ends = 100 * np.array([interval([column], np.random.default_rng(0)) for column in runs.T.tolist()]).T
            axes.fill_between(steps, *ends, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="steps", ylabel="of the last 200 episodes solved (%)", xlim=(0, furthest), ylim=(0, 102))
    axes.set_title(short(results[0].data), fontsize="medium")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e6 else f"{x / 1e3:g} k" if x else "0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return drawn


def short(name: str) -> str:
    """A task's id without what all of them share."""
    return name.removeprefix("MiniGrid-").removesuffix("-v0")


def visits(policy: Policy, seed: int, episodes: int = EPISODES) -> np.ndarray:
    """Steps on each cell [width, height] in so many episodes on the layout of one seed."""
    if policy.data not in TASKS:
        raise InputError(f"{policy.data} has no map of cells; name a policy of a gridworld.")
    copies, own = GridworldCopies(policy.data, episodes), stock(policy.data)
    copies.reset(0)
    own.reset(seed=seed)
    for i in range(episodes):
        put(copies.worlds, i, own)
    counts = np.zeros((own.width, own.height), np.int64)
    running, state, generator = np.ones(episodes, bool), None, torch.Generator().manual_seed(seed)
    while running.any():
        found, state = policy.logits(copies.observe(), state)
        np.add.at(counts, tuple(copies.worlds.state.agents[running, :2].T), 1)
        step = copies.step(torch.multinomial(found.softmax(1), 1, generator=generator)[:, 0].numpy())
        running &= ~step.ended
    return counts


def heat(policies: dict[str, Policy], seed: int) -> "Figure":
    """Where each policy spends its time on the layout of that seed, side by side: shares of steps, logarithmic."""
    from matplotlib.colors import LogNorm

    shares = {name: visits(policy, seed) for name, policy in policies.items()}
    shares = {name: counts / counts.sum() for name, counts in shares.items()}
    drawn = figure(0.9 + 3.1 * len(policies), 3.4)
    rows = drawn.subplots(1, len(policies), squeeze=False)[0]
    scale = LogNorm(1e-4, 1)
    image = None
    for axes, (name, share) in zip(rows, shares.items(), strict=True):
        layout = stock(policies[name].data, render_mode="rgb_array")
        layout.reset(seed=seed)
        grey = 1 - 0.7 * layout.get_frame(highlight=False, tile_size=TILE).mean(2) / 255
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, layout.width, layout.height, 0))
        shown = np.ma.masked_less(share.T, 1e-4)
        image = axes.imshow(shown, cmap="YlOrRd", norm=scale, alpha=0.7, extent=(0, layout.width, layout.height, 0))
        axes.set_title(name, fontsize="medium")
        axes.set(xticks=[], yticks=[])
    assert image is not None
    drawn.colorbar(image, ax=list(rows), label="share of steps", shrink=0.8)
    return drawn


def film(policy: Policy, seed: int) -> "Figure":
    """Ten pictures of a solved episode, of the first seed from `seed` on whose episode is: begin, end, and between them
    what changes the grid (a key taken, a door opened), or else evenly spread steps."""
    for tried in range(seed, seed + TRIED):
        frames, changed, total = frames_of(policy, tried)
        if total > 0:
            break
    else:
        raise InputError(
            f"of {TRIED} episodes from seed {seed} on none was solved; train longer, or name another seed."
        )
    last = len(frames) - 1
    evenly = np.linspace(0, last, FRAMES).round().astype(int).tolist()
    chosen = {0, last, *changed[: FRAMES - 2]}
    for step in sorted(evenly, key=lambda step: -min(abs(step - other) for other in chosen)):
        chosen |= {step} if len(chosen) < FRAMES else set()
    height, width = frames[0].shape[:2]
    columns = -(-len(chosen) // 2)
    drawn = figure(1.75 * columns, 2 * (0.3 + 1.75 * height / width) + 0.3)
    places = drawn.subplots(2, columns, squeeze=False).flat
    for axes in places:
        axes.axis("off")
    for axes, step in zip(drawn.axes, sorted(chosen), strict=False):
        axes.imshow(frames[step])
        axes.set_title(f"step {step}", fontsize="small", pad=3)
    drawn.suptitle(f"{short(policy.data)}, seed {tried}: solved in {last} steps, return {total:.2f}", fontsize="medium")
    return drawn


def frames_of(policy: Policy, seed: int) -> tuple[list[np.ndarray], list[int], float]:
    """A picture [height, width, 3] of each step of an episode, the steps that changed the grid, and the return."""
    environment = one(policy.data, render_mode="rgb_array")
    own = cast(Any, environment.unwrapped)
    frames, changed, before, totals = [], [], None, []
    for step, total in enumerate(episode(policy, environment, seed)):
        totals.append(total)
        frames.append(np.asarray(environment.render()))
        now = (cells_of(own).tobytes(), own.carrying is None) if policy.data in TASKS else None
        if step and now != before:
            changed.append(step)
        before = now
    return frames, changed, totals[-1]


def main(options: Options) -> None:
    """The command."""
    found = [result for result in read(options.results, "rl") if "curve" in result.extra]
    if not found and not options.models:
        raise InputError(
            f"there are no results of rl below {options.results}; run `gossamer compare`, or name --models."
        )
    drawn: dict[str, Figure] = {}
    for name in dict.fromkeys(result.data for result in found):
        drawn[f"{short(name)}-curves"] = curves(alike([result for result in found if result.data == name]))
    policies = {path.stem: load(path) for path in options.models}
    if policies:
        first = next(iter(policies.values()))
        if all(policy.data in TASKS for policy in policies.values()):
            drawn[f"{short(first.data)}-visits"] = heat(policies, options.seed)
        drawn[f"{short(first.data)}-film"] = film(first, options.seed)
    for name, plot in drawn.items():
        path, buffer = options.to / f"{name}.svg", io.BytesIO()
        refuse_unwritable(path)
        plot.savefig(buffer, format="svg")
        write_atomically(path, buffer.getvalue())
        print(f"wrote {path}")


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("rl", "pictures")
