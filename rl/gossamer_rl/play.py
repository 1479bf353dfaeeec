"""Watch a trained policy play, in the terminal or as a GIF.

gossamer rl play policy.gossamer --seed 3
gossamer rl play policy.gossamer --gif episode.gif
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live
from rich.text import Text
from tyro.conf import Positional

from gossamer import InputError, errors
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer_rl.environments import one
from gossamer_rl.policy import Policy, load

MARKS = {"wall": "██", "goal": "◎ ", "key": "⚷ ", "ball": "● ", "box": "▢ ", "lava": "≈≈", "floor": "  "}
DOORS = ("╌╌", "▥ ", "▣ ")
ARROWS = ("▶ ", "▼ ", "◀ ", "▲ ")
COLOURS = {"grey": "bright_black", "purple": "magenta"}


@dataclass(frozen=True)
class Options:
    """What to watch."""

    model: Positional[Path]
    """the file that training wrote with --save"""
    seed: int = 1
    """of the layout and the actions"""
    delay: float = 0.08
    """seconds between two pictures"""
    gif: Path | None = None
    """write the episode there as an animated picture instead"""

    def __post_init__(self) -> None:
        errors.within(0, 2**63 - 1, seed=self.seed)
        errors.within(0, 10, delay=self.delay)


def picture(environment: Any) -> Text:
    """The whole grid of an environment of MiniGrid's as coloured text; another's own text, if it has one."""
    grid = getattr(environment, "grid", None)
    if grid is None:
        return Text(environment.render() if environment.render_mode == "ansi" else "")
    text = Text()
    for y in range(grid.height):
        for x in range(grid.width):
            thing = grid.get(x, y)
            if (x, y) == tuple(environment.agent_pos):
                text.append(ARROWS[environment.agent_dir], "bold red")
            elif thing is None:
                text.append("  ")
            else:
                mark = DOORS[thing.encode()[2]] if thing.type == "door" else MARKS[thing.type]
                text.append(mark, COLOURS.get(thing.color, thing.color))
        text.append("\n")
    return text


def episode(policy: Policy, environment: Any, seed: int) -> Any:
    """Play one episode of a Gymnasium environment; yields after every step the return so far."""
    generator = torch.Generator().manual_seed(seed)
    observation, _ = environment.reset(seed=seed)
    total, ended, state = 0.0, False, None
    yield total
    while not ended:
        action, state = policy.act(observation, generator, state)
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, ended = total + float(reward), terminated or truncated
        yield total


def film(policy: Policy, seed: int, delay: float) -> tuple[bytes, float]:
    """The episode of that seed as the bytes of a GIF, and its return."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise InputError('--gif needs Pillow; type: pip install "gossamer[rl]"') from error
    environment = one(policy.data, render_mode="rgb_array")
    frames, totals = [], []
    for total in episode(policy, environment, seed):
        frames.append(Image.fromarray(environment.render()))  # pyright: ignore[reportArgumentType]
        totals.append(total)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=max(20, round(1000 * delay)), loop=0)
    return file.getvalue(), totals[-1]


def main(options: Options) -> None:
    """Play one episode."""
    policy, console = load(options.model), Console(soft_wrap=True)
    if options.gif:
        refuse_unwritable(options.gif)
        content, total = film(policy, options.seed, options.delay)
        write_atomically(options.gif, content)
        console.print(f"wrote {options.gif}: {len(content):,} bytes, return {total:.3f}", markup=False)
        return
    environment = one(policy.data)
    if "ansi" in environment.metadata.get("render_modes", ()):
        environment = one(policy.data, render_mode="ansi")
    totals = []
    with Live(console=console, auto_refresh=False) as live:
        for total in episode(policy, environment, options.seed):
            totals.append(total)
            live.update(picture(environment.unwrapped), refresh=True)
            time.sleep(options.delay if console.is_terminal else 0)
    console.print(f"return {totals[-1]:.3f} after {len(totals) - 1} steps", markup=False)


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("rl", "play")
