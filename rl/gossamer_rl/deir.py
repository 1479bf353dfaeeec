"""DEIR (Wan et al. 2023): how unlike all that the episode has shown, as a discriminator that knows the way sees it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer_rl.agents import perceptron
from gossamer_rl.curiosity import SIZE
from gossamer_rl.exploration import FirstVisit
from gossamer_rl.observations import Seen
from gossamer_rl.replay import stored

ROOM = 512
"""observations that an episode remembers, the last ones"""
QUEUE = 4096
"""observations that false pairs are drawn from, the last ones that paid more than the mean"""
LEAST = 1e-6
NETWORKS = ("features", "memory", "judge", "optimizer")
MEMORIES = ("shown", "ways", "before", "way", "first", "queue")


class DEIR(FirstVisit):
    """minᵢ ‖φ(oᵢ) − φ(o′)‖² / (‖wᵢ − w‖ + ε) over what the episode has shown, oᵢ after the way wᵢ, o′ after w.

    w is a gated recurrent unit's state over the features φ [32] of the way so far. Both learn with a network that tells
    the observation which an action led to from one that was shown elsewhere, by w, the action and φ.
    """

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.generator, self.actions = generator, actions
        self.features = perceptron(seen, 64, SIZE, 1.0, generator)
        self.memory = nn.GRUCell(SIZE, SIZE)
        for weight in (self.memory.weight_ih, self.memory.weight_hh):
            nn.init.orthogonal_(weight, 1.0, generator)
        for bias in (self.memory.bias_ih, self.memory.bias_hh):
            nn.init.zeros_(bias)
        self.judge = perceptron(Seen(None, 2 * SIZE + actions), 64, 1, 1.0, generator)
        networks = (self.features, self.memory, self.judge)
        self.optimizer = torch.optim.Adam([p for network in networks for p in network.parameters()], lr=3e-4)
        room = ROOM if limit is None else min(limit + 1, ROOM)
        self.shown, self.ways = torch.zeros(copies, room, SIZE), torch.zeros(copies, room, SIZE)
        self.count, self.queued, self.mean = np.zeros(copies, np.int64), 0, 0.0
        self.way, self.before, self.first = (torch.zeros(copies, SIZE) for _ in range(3))
        self.queue = stored((QUEUE,), seen)

    @torch.no_grad()
    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The least quotient, of what is then remembered."""
        self.way[torch.from_numpy(began)] = 0
        self.before = self.way
        features = self.features(observations)
        paid = self.unlike(features, self.way, began)
        self.way = self.memory(features, self.way)
        novel = torch.from_numpy((paid >= self.mean) | began)
        self.mean += 0.001 * (float(paid.mean()) - self.mean)
        where = (self.queued + torch.arange(int(novel.sum()))) % QUEUE
        self.queue[where] = observations[novel].to(self.queue.dtype)
        self.queued += len(where)
        return paid

    def unlike(self, features: Tensor, way: Tensor, began: np.ndarray) -> np.ndarray:
        """The least quotient [n] of features and ways [n, 32], which are then remembered; 0 for a first observation."""
        self.count[began] = 0
        room = self.shown.shape[1]
        known = torch.arange(room) < torch.from_numpy(np.minimum(self.count, room))[:, None]
        far = (self.shown - features[:, None]).square().sum(2)
        quotients = far / ((self.ways - way[:, None]).norm(dim=2) + LEAST)
        least = quotients.masked_fill(~known, torch.inf).amin(1)
        own, places = torch.arange(len(features)), torch.from_numpy(self.count % room)
        self.shown[own, places], self.ways[own, places] = features, way
        self.count += 1
        return torch.where(known.any(1), least, 0.0).numpy()

    def judged(self, way: Tensor, actions: Tensor, features: Tensor) -> Tensor:
        """The logits [n] that the actions [n] led from the ways [n, 32] to what has these features [n, 32]."""
        taken = nn.functional.one_hot(actions, self.actions).float()
        return self.judge(torch.cat([way, taken, features], 1))[:, 0]

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """One pass over the rollout in four batches: −log p(true pair) − log(1 − p(false pair))."""
        ways = self.retrace(observations, ended)
        self.first = self.before.clone()
        pairs = (~ended[:-1]).flatten().nonzero()[:, 0]
        pairs = pairs[torch.randperm(len(pairs), generator=self.generator)]
        columns = [x.flatten(0, 1) for x in (ways[:-1], observations[:-1], actions[:-1], observations[1:])]
        known = min(self.queued, QUEUE)
        for some in pairs.chunk(4):
            way, shown, taken, truly = (column[some] for column in columns)
            falsely = self.queue[torch.randint(known, (len(some),), generator=self.generator)].to(truly.dtype)
            unlike = (falsely != truly).any(1)
            way = self.memory(self.features(shown), way)
            true, false = (self.judged(way, taken, self.features(x)) for x in (truly, falsely))
            loss = nn.functional.softplus(-true).mean()
            loss = loss + (nn.functional.softplus(false) * unlike).sum() / unlike.sum().clamp(min=1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def retrace(self, observations: Tensor, ended: Tensor) -> Tensor:
        """The ways [steps, n, 32] that led to the observations [steps, n, …] of a rollout."""
        features = self.features(observations.flatten(0, 1)).unflatten(0, ended.shape)
        ways, way = [], self.first
        for shown, end in zip(features, ended, strict=True):
            ways.append(way)
            way = self.memory(shown, way) * ~end[:, None]
        return torch.stack(ways)

    def state_dict(self) -> dict[str, Any]:
        """With the networks, what the episodes that go on have shown, and the queue."""
        networks = {name: getattr(self, name).state_dict() for name in NETWORKS}
        memories = {name: getattr(self, name) for name in MEMORIES}
        numbers = {"count": torch.from_numpy(self.count), "queued": self.queued, "mean": self.mean}
        return {**super().state_dict(), **networks, **memories, **numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the networks, what the episodes that go on have shown, and the queue."""
        super().load_state_dict(state)
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name in MEMORIES:
            setattr(self, name, state[name].clone())
        self.count, self.queued, self.mean = state["count"].numpy().copy(), state["queued"], state["mean"]
