"""Train an agent by PPO with a bonus for what is new, its policy and value function dense or sparse.

gossamer train rl quick --seed 1
gossamer train rl doorkey-8x8 --method rigl --save policy.gossamer --checkpoint run.pt
gossamer train rl minigrid --data MiniGrid-KeyCorridorS3R3-v0
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gossamer as gs
from gossamer import checkpoints
from gossamer.devices import fabric
from gossamer.paths import refuse_unwritable
from gossamer.results import plain
from gossamer_rl.config import Config
from gossamer_rl.dqn import DQN
from gossamer_rl.experience import RECENT, Experience, Progress
from gossamer_rl.policy import Policy
from gossamer_rl.ppo import PPO


class Run:
    """An agent in training: everything that changes, and how it is kept and restored."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.experience = Experience(config, self.generator)
        learner = PPO if config.agent == "ppo" else DQN
        self.learner = learner(config, self.experience, fabric(config.accelerator), self.generator)
        self.agent, self.masking = self.learner.agent, self.learner.descent.masking

    @property
    def progress(self) -> Progress:
        """What the run can say of itself."""
        return self.experience.progress

    def save(self, path: Path) -> None:
        """Write all that the run goes on from."""
        checkpoints.save(
            path,
            config=plain(self.config),
            experience=self.experience.state_dict(),
            learner=self.learner.state_dict(),
            generator=self.generator.get_state(),
        )

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote, in gridworlds to the numbers of a run that was never interrupted."""
        state = checkpoints.load(path)
        if not {"config", "experience", "learner", "generator"} <= state.keys():
            raise gs.InputError(f"{path} is no checkpoint of this version's agents; start again with another one.")
        checkpoints.same_run(state["config"], self.config, path)
        self.experience.load_state_dict(state["experience"])
        self.learner.load_state_dict(state["learner"])
        self.generator.set_state(state["generator"])

    @property
    def policy(self) -> Policy:
        """The agent as it is now."""
        masks = self.masking.masks if self.masking else {}
        return Policy(self.agent.cpu().eval(), self.config.data, masks, greedy=self.config.agent == "dqn")

    @property
    def done(self) -> bool:
        """Whether the steps are used up, or the task is solved."""
        return self.progress.updates >= self.config.updates or (
            self.config.solved < 1 and self.progress.solved_after is not None
        )

    def step(self) -> None:
        """One update, and what it shows."""
        config, progress = self.config, self.progress
        start = time.perf_counter()
        self.learner.update()
        progress.updates += 1
        progress.seconds += time.perf_counter() - start
        steps = progress.updates * config.copies * config.horizon
        progress.curve.append((steps, progress.success, float(np.mean(progress.recent or [0.0]))))
        if progress.solved_after is None and len(progress.recent) == RECENT and progress.success >= config.solved:
            progress.solved_after, progress.solved_seconds = steps, progress.seconds


def train(config: Config, log: Callable[[str], None] = lambda line: None) -> Run:
    """Train the agent of `config`, or the rest of it from its checkpoint; the same numbers on every call."""
    if config.save:
        refuse_unwritable(config.save)
    run = Run(config)
    if config.checkpoint and config.checkpoint.exists():
        run.restore(config.checkpoint)
        log(f"going on after {run.progress.updates * config.copies * config.horizon:,} steps")
    board = board_at(config.tensorboard)
    with checkpoints.Checkpoint(config.checkpoint, run.save) as checkpoint:
        while not run.done:
            run.step()
            checkpoint.step()
            report(run, log, board)
    if config.save:
        log(f"wrote {config.save}: {run.policy.save(config.save):,} bytes")
    return run


def report(run: Run, log: Callable[[str], None], board: Any) -> None:
    """Tell of the update just done, twenty times a run, and to TensorBoard every time."""
    progress, updates = run.progress, run.config.updates
    steps, success, mean = progress.curve[-1]
    if progress.updates % max(1, updates // 20) == 0 or run.done:
        left = progress.seconds / progress.updates * (updates - progress.updates)
        log(
            f"step {steps:>9,}  solved {success:.0%}  return {mean:.3f}  {steps / progress.seconds:,.0f} steps/s  "
            f"{progress.seconds:.0f} s, at most {left:.0f} s to go"
        )
    if board:
        for name, value in {"success": success, "return": mean, "new": progress.new / progress.updates}.items():
            board.add_scalar(name, value, steps)


def board_at(folder: Path | None) -> Any:
    """A writer of TensorBoard's event files, or None where no folder is given."""
    if folder is None:
        return None
    refuse_unwritable(folder / "events")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise gs.InputError("--tensorboard needs the package tensorboard; type: pip install tensorboard") from error
    return SummaryWriter(folder)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("rl")
