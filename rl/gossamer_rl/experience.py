"""What happens to an agent: copies of an environment, the bonus for what is new there, and the tally of both."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.bonuses import BONUSES
from gossamer_rl.config import Config
from gossamer_rl.environments import Step, make
from gossamer_rl.go_explore import GoExplore

RECENT = 200
MEMORY = 1000
"""steps over which the bonus has its running mean, by which it is divided"""


@dataclass
class Progress:
    """What a run can say of itself so far; `curve` has (environment steps, success, mean return) of recent episodes."""

    updates: int = 0
    seconds: float = 0.0
    episodes: int = 0
    new: float = 0.0
    solved_after: int | None = None
    solved_seconds: float | None = None
    recent: list[float] = field(default_factory=list)
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def success(self) -> float:
        """The share of recent episodes that gave a positive return."""
        return float(np.mean([x > 0 for x in self.recent])) if self.recent else 0.0


class Experience:
    """All copies of an environment, what is paid there for what is new, and how the episodes went."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        self.config, self.progress = config, Progress()
        self.environment = make(config.data, config.copies)
        own, kind = self.environment, BONUSES[config.exploration]
        self.bonus = kind(config.copies, own.limit, own.seen, own.actions, generator)
        self.environment.reset(int(torch.randint(2**31, (), generator=generator)))
        self.frontier = GoExplore(own, config.frontier, generator) if config.frontier else None
        self.totals, self.mean_bonus = np.zeros(config.copies), 0.2
        self._arrive(np.ones(config.copies, bool))

    def observe(self) -> Tensor:
        """What all copies show now, on the CPU; written anew at every step."""
        return torch.from_numpy(self.environment.observe())

    @property
    def weight(self) -> float:
        """What the bonus adds to a step's reward now, in the mean of many."""
        config = self.config
        return 0.0 if config.method == "no-bonus" else config.bonus * (1 - self.progress.updates / config.updates)

    def step(self, actions: Tensor) -> tuple[Step, np.ndarray]:
        """Take the actions [n]; what the environment answers, and what is paid [n] beside it for what is new."""
        self.bonus.take(actions.cpu())
        step, progress = self.environment.step(actions.cpu().numpy()), self.progress
        whole = step.ended
        if self.frontier:
            whole = step.ended & ~self.frontier.returned
            self.frontier.step(step.ended)
        new = self._arrive(step.ended)
        progress.new += float(new.mean()) / self.config.horizon
        self.mean_bonus += float(new.mean() - self.mean_bonus) / MEMORY
        if self.frontier:
            new *= ~self.frontier.returned
        self.totals += step.rewards
        progress.episodes += int(step.ended.sum())
        progress.recent = [*progress.recent, *self.totals[whole].tolist()][-RECENT:]
        self.totals[step.ended] = 0
        return step, self.weight * new / max(self.mean_bonus, 1e-6)

    def _arrive(self, began: np.ndarray) -> np.ndarray:
        """The bonus [n] for what is shown now, where `began` says which copies have just begun an episode."""
        keys = self.environment.keys(state=self.config.bonus_on == "state")
        return self.bonus(keys, self.observe(), began).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        return {
            "bonus": self.bonus.state_dict(),
            "environment": self.environment.state_dict(),
            "frontier": self.frontier and self.frontier.state_dict(),
            "totals": self.totals.tolist(),
            "mean_bonus": self.mean_bonus,
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.bonus.load_state_dict(state["bonus"])
        self.environment.load_state_dict(state["environment"])
        if self.frontier:
            self.frontier.load_state_dict(state["frontier"])
        self.totals, self.mean_bonus = np.array(state["totals"]), state["mean_bonus"]
        self.progress = Progress(**state["progress"])
