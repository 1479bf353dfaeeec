"""Intrinsic rewards of networks that learn what they are shown: prediction errors, and features of what can be changed.

Their interface is that of `exploration`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer_rl.agents import perceptron
from gossamer_rl.exploration import FirstVisit
from gossamer_rl.observations import Seen

SIZE = 32
"""of features"""
RIDGE = 0.1


class RND(FirstVisit):
    """‖f̂(o) − f(o)‖², f a random network and f̂ one that learns it (Burda et al. 2019); over its running mean."""

    apart = True

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.target = perceptron(seen, 64, 32, 1.0, generator).requires_grad_(False)
        self.predictor = perceptron(seen, 64, 32, 1.0, generator)
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=1e-3)
        self.scale = 0.0

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The error over its running mean."""
        with torch.no_grad():
            return ~began * (self.error(observations).numpy() / (self.scale or 1.0))

    def error(self, observations: Tensor) -> Tensor:
        """‖f̂(o) − f(o)‖² / 32 [n]."""
        return (self.predictor(observations) - self.target(observations)).square().mean(1)

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """One pass over the rollout in four batches."""
        for batch in observations.flatten(0, 1).chunk(4):
            error = self.error(batch).mean()
            self.scale = float(error.detach()) if not self.scale else 0.99 * self.scale + 0.01 * float(error.detach())
            self.optimizer.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(self.predictor.parameters(), 0.5)
            self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """With both networks, the optimizer and the scale."""
        parts = ("target", "predictor", "optimizer")
        return {
            **super().state_dict(),
            **{name: getattr(self, name).state_dict() for name in parts},
            "scale": self.scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With both networks, the optimizer and the scale."""
        super().load_state_dict(state)
        for name in ("target", "predictor", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.scale = state["scale"]


class NovelD(RND):
    """max(e(o′) − ½ e(o), 0) · 1[N_e(o′) = 1], e the error of RND: a frontier, once an episode (Zhang et al. 2021)."""

    apart = False

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.before = np.zeros(copies, np.float32)

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """What the error has risen by, at a first visit."""
        first = FirstVisit.__call__(self, keys, observations, began)
        with torch.no_grad():
            error = self.error(observations).numpy() / (self.scale or 1.0)
        risen, self.before = np.maximum(error - 0.5 * self.before, 0), error
        return risen * first

    def state_dict(self) -> dict[str, Any]:
        """With the errors before."""
        return {**super().state_dict(), "before": torch.from_numpy(self.before)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the errors before."""
        super().load_state_dict(state)
        self.before = state["before"].numpy().copy()


class Controllable(FirstVisit):
    """Features φ(o) [32] that tell which action led from one observation to the next, so that they hold what the agent
    can change: trained with a network that says the action of φ(o) and φ(o′) (Pathak et al. 2017)."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.features = perceptron(seen, 64, SIZE, 1.0, generator)
        self.inverse = perceptron(Seen(None, 2 * SIZE), 64, actions, 1.0, generator)
        parameters = [*self.features.parameters(), *self.inverse.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """One pass over the rollout in four batches: −log p(a | φ(o), φ(o′))."""
        pairs = (~ended[:-1]).flatten().nonzero()[:, 0]
        before, after, taken = (x.flatten(0, 1)[pairs] for x in (observations[:-1], observations[1:], actions[:-1]))
        for one, other, action in zip(before.chunk(4), after.chunk(4), taken.chunk(4), strict=True):
            guess = self.inverse(torch.cat([self.features(one), self.features(other)], 1))
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(guess, action).backward()
            self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """With both networks and the optimizer."""
        parts = ("features", "inverse", "optimizer")
        return {**super().state_dict(), **{name: getattr(self, name).state_dict() for name in parts}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With both networks and the optimizer."""
        super().load_state_dict(state)
        for name in ("features", "inverse", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


class RIDE(Controllable):
    """‖φ(o′) − φ(o)‖ / √N_e(o′): what was changed, N_e the episode's visits (Raileanu & Rocktäschel 2020)."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.before = torch.zeros(copies, SIZE)

    @torch.no_grad()
    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The change over the root of the visits."""
        now, before = self.features(observations), self.before
        self.before = now
        return ~began * (now - before).norm(dim=1).numpy() / np.sqrt(self.counts.visit(keys, began))

    def state_dict(self) -> dict[str, Any]:
        """With the features before."""
        return {**super().state_dict(), "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the features before."""
        super().load_state_dict(state)
        self.before = state["before"].clone()


class E3B(Controllable):
    """φᵀ C⁻¹ φ, C = RIDGE · I + Σ φφᵀ over what the episode has shown before: an ellipse of all that was (Henaff et al.
    2022). C⁻¹ is kept by C⁻¹ ← C⁻¹ − uuᵀ / (1 + φᵀu), u = C⁻¹ φ (Sherman & Morrison 1950)."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.ellipses = torch.eye(SIZE).repeat(copies, 1, 1) / RIDGE

    @torch.no_grad()
    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """How far outside of the episode's ellipse the features lie."""
        return ~began * self.outside(self.features(observations), began).numpy()

    def outside(self, features: Tensor, began: np.ndarray) -> Tensor:
        """φᵀ C⁻¹ φ [n] of the features [n, 32], which are then taken in; an episode that `began` has shown nothing."""
        self.ellipses[torch.from_numpy(began)] = torch.eye(SIZE) / RIDGE
        u = torch.einsum("nij,nj->ni", self.ellipses, features)
        bonus = (features * u).sum(1)
        self.ellipses -= u[:, :, None] * u[:, None] / (1 + bonus)[:, None, None]
        return bonus

    def state_dict(self) -> dict[str, Any]:
        """With the ellipses."""
        return {**super().state_dict(), "ellipses": self.ellipses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the ellipses."""
        super().load_state_dict(state)
        self.ellipses = state["ellipses"].clone()
