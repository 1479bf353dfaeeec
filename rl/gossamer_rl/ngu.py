"""Never give up (Badia et al. 2020): far from all that the episode has shown, times what is rare in all episodes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.curiosity import RND, SIZE, Controllable
from gossamer_rl.observations import Seen

ROOM = 512
"""features that an episode remembers, the last ones"""
NEIGHBOURS, SOFTNESS, LEAST, SIMILAR = 10, 1e-3, 1e-3, 8.0
HIGHEST = 5.0
"""what rarity in all episodes can multiply the bonus by"""


class NGU(Controllable):
    """min(max(α, 1), 5) / (√Σ K + c): K = ε / (d² / d̄² + ε) over the 10 nearest of the episode's features, d̄² the
    running mean of such d²; 0 where √Σ K + c is above 8. α is the error of RND over its running mean (NGU's own is by
    its deviation too)."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.lifelong = RND(copies, limit, seen, actions, generator)
        room = ROOM if limit is None else min(limit + 1, ROOM)
        self.remembered, self.count = torch.zeros(copies, room, SIZE), np.zeros(copies, np.int64)
        self.distance = 0.0

    @torch.no_grad()
    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The product."""
        rarity = self.lifelong.error(observations).numpy() / (self.lifelong.scale or 1.0)
        return ~began * self.far(self.features(observations), began) * np.clip(rarity, 1, HIGHEST)

    def far(self, features: Tensor, began: np.ndarray) -> np.ndarray:
        """1 / (√Σ K + c) [n] of the features [n, 32], which are then remembered; an episode that `began` has none."""
        self.count[began] = 0
        room = self.remembered.shape[1]
        known = torch.arange(room) < torch.from_numpy(np.minimum(self.count, room))[:, None]
        squares = (self.remembered - features[:, None]).square().sum(2).masked_fill(~known, torch.inf)
        nearest = squares.topk(min(NEIGHBOURS, room), largest=False).values
        there = nearest.isfinite()
        if there.any():
            self.distance = 0.99 * self.distance + 0.01 * float(nearest[there].mean())
        kernels = SOFTNESS / (nearest / max(self.distance, 1e-8) + SOFTNESS)
        similar = kernels.sum(1).sqrt() + LEAST
        self.remembered[torch.arange(len(features)), torch.from_numpy(self.count % room)] = features
        self.count += 1
        return torch.where((similar > SIMILAR) | ~there[:, 0], 0.0, 1 / similar).numpy()

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """The features, and what is rare."""
        super().learn(observations, actions, ended)
        self.lifelong.learn(observations, actions, ended)

    def state_dict(self) -> dict[str, Any]:
        """With what the episodes that go on have shown, and what is rare."""
        own = {"remembered": self.remembered, "count": torch.from_numpy(self.count), "distance": self.distance}
        return {**super().state_dict(), **own, "lifelong": self.lifelong.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With what the episodes that go on have shown, and what is rare."""
        super().load_state_dict(state)
        self.remembered, self.count = state["remembered"].clone(), state["count"].numpy().copy()
        self.distance = state["distance"]
        self.lifelong.load_state_dict(state["lifelong"])
