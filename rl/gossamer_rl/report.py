"""What the page of `gossamer report` shows of agents: where they go on a layout, and an episode as a film strip."""

import io
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from gossamer.compare import percent
from gossamer.results import Result
from gossamer_rl.environments import EVALUATION_SEEDS
from gossamer_rl.gridworlds import TASKS
from gossamer_rl.gridworlds.stock import stock
from gossamer_rl.play import episode
from gossamer_rl.policy import Policy

EPISODES = 16
TRIED = 3
"""episodes that are played until one is solved"""
FRAMES = 8
TILE = 28
"""pixels of a cell"""


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps the actions of its last episode."""

    actions: tuple[int, ...] = ()

    def reset(self, **more: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment does it."""
        self.actions = ()
        return super().reset(**more)

    def step(self, action: Any) -> Any:
        """As the environment does it."""
        self.actions += (int(action),)
        return super().step(action)


def kept(policy: Policy) -> dict[str, Any]:
    """What a gridworld's result keeps for the page: steps on each cell [width, height] of a layout that no training
    saw, and the actions of an episode, a solved one where there is one among a few."""
    if policy.data not in TASKS:
        return {}
    from gossamer_rl.pictures import visits

    environment = Recorded(gymnasium.make(policy.data, disable_env_checker=True))
    seeds = EVALUATION_SEEDS[:TRIED]
    found = {"seed": seeds[0], "actions": []}
    for seed in seeds:
        *_, total = episode(policy, environment, seed)
        found = {"seed": seed, "actions": list(environment.actions)}
        if total > 0:
            break
    return {"visits": {"seed": seeds[0], "steps": visits(policy, seeds[0], EPISODES).tolist()}, "episode": found}


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """PNG by captions: a map of visits of the best dense, sparse and other run that kept one, and the best's film."""
    known = [result for result in results if {"visits", "episode"} <= result.extra.keys()]
    best = {result.kind: result for result in sorted(known, key=lambda result: result.value)}
    drawn = {
        f"Where {named(result)} goes in {EPISODES} episodes on a layout that it never saw: the redder, the longer": png(
            heat(result)
        )
        for kind in ("dense", "sparse", "other")
        if (result := best.get(kind))
    }
    if shown := best.get("sparse") or best.get("dense"):
        steps = len(shown.extra["episode"]["actions"])
        drawn[f"An episode of {named(shown)} on such a layout, {steps} steps, in {FRAMES} pictures at most"] = png(
            film(shown)
        )
    return drawn


def named(result: Result) -> str:
    """The method and what is sparse about it."""
    return result.method + (f" {percent(result.sparsity)}" if result.sparsity else "")


def heat(result: Result) -> np.ndarray:
    """The layout [height, width, 3] with each cell the redder the larger its share of the steps, by the root."""
    told = result.extra["visits"]
    layout = stock(result.data, render_mode="rgb_array")
    layout.reset(seed=told["seed"])
    frame = 255 - 0.7 * np.asarray(layout.get_frame(highlight=False, tile_size=TILE)).mean(2, keepdims=True)
    steps = np.array(told["steps"], float).T
    over = np.kron(np.sqrt(steps / steps.max(initial=1)), np.ones((TILE, TILE)))[..., None] * 0.85
    return (frame * (1 - over) + np.array([225, 40, 20]) * over).astype(np.uint8)


def film(result: Result) -> np.ndarray:
    """Pictures of the episode side by side, evenly spread from its beginning to its end."""
    told = result.extra["episode"]
    environment = gymnasium.make(result.data, render_mode="rgb_array", disable_env_checker=True, tile_size=TILE)
    environment.reset(seed=told["seed"])
    frames = [environment.render()]
    for action in told["actions"]:
        environment.step(action)
        frames.append(environment.render())
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
    shown = [np.pad(np.asarray(frames[place]), ((0, 0), (0, 4), (0, 0)), constant_values=255) for place in chosen]
    return np.concatenate(shown, 1).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """An image [height, width, 3] as a file's bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
