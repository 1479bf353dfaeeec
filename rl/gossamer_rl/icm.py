"""Intrinsic curiosity (Pathak et al. 2017): what the agent's own actions do that it did not foresee."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer_rl.agents import perceptron
from gossamer_rl.curiosity import SIZE, Controllable
from gossamer_rl.observations import Seen


class ICM(Controllable):
    """½ ‖f(φ(o), a) − φ(o′)‖², φ the features that tell an action and f a network that learns where it leads."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.actions = actions
        self.forward = perceptron(Seen(None, SIZE + actions), 64, SIZE, 1.0, generator)
        self.forward_optimizer = torch.optim.Adam(self.forward.parameters(), lr=1e-3)
        self.before, self.taken = torch.zeros(copies, SIZE), torch.zeros(copies, dtype=torch.int64)

    def take(self, actions: Tensor) -> None:
        """What leads to what is shown next."""
        self.taken = actions.clone()

    @torch.no_grad()
    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The error of what was foreseen."""
        now = self.features(observations)
        error = self.error(self.before, self.taken, now)
        self.before = now
        return ~began * error.numpy()

    def error(self, before: Tensor, taken: Tensor, after: Tensor) -> Tensor:
        """½ ‖f(φ, a) − φ′‖² [n] of features [n, 32], actions [n] and features [n, 32]."""
        given = torch.cat([before, nn.functional.one_hot(taken, self.actions).float()], 1)
        return (self.forward(given) - after).square().sum(1) / 2

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """One pass over the rollout in four batches: the features, then where actions lead in them."""
        super().learn(observations, actions, ended)
        with torch.no_grad():
            found = self.features(observations.flatten(0, 1)).unflatten(0, ended.shape)
        pairs = (~ended[:-1]).flatten().nonzero()[:, 0]
        for some in pairs.chunk(4):
            parts = (x.flatten(0, 1)[some] for x in (found[:-1], actions[:-1], found[1:]))
            self.forward_optimizer.zero_grad()
            self.error(*parts).mean().backward()
            self.forward_optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """With the network that foresees, and what it is asked next."""
        networks = {name: getattr(self, name).state_dict() for name in ("forward", "forward_optimizer")}
        return {**super().state_dict(), **networks, "before": self.before, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the network that foresees, and what it is asked next."""
        super().load_state_dict(state)
        for name in ("forward", "forward_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.before, self.taken = state["before"].clone(), state["taken"].clone()
