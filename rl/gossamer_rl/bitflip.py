"""BitFlip (Andrychowicz et al. 2017), the small task of goals, for Gymnasium: ids BitFlip2-v0 to BitFlip50-v0.

N bits and N wished ones, both drawn at random; each of N actions flips a bit. Only equal bits give a reward, 1, and end
the episode, which has N steps. With 15 bits one state in 32,768 is the goal. As Gymnasium's tasks of goals are, it is
a dictionary of `observation`, `achieved_goal` and `desired_goal`, with `compute_reward` and `compute_terminated`.
"""

from typing import Any

import gymnasium
import numpy as np

SIZES = range(2, 51)


class BitFlip(gymnasium.Env[Any, Any]):
    """The task of `size` bits."""

    def __init__(self, size: int) -> None:
        bits = gymnasium.spaces.Box(0, 1, (size,), np.float32)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = gymnasium.spaces.Dict(dict.fromkeys(names, bits))
        self.action_space = gymnasium.spaces.Discrete(size)
        self.bits = self.wished = np.zeros(size, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw the bits and the wished ones, which differ."""
        super().reset(seed=seed)
        self.bits, self.wished = self.np_random.integers(0, 2, (2, len(self.bits))).astype(np.float32)
        if (self.bits == self.wished).all():
            self.bits[self.np_random.integers(len(self.bits))] -= 1
            self.bits = np.abs(self.bits)
        return self._shown(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Flip a bit."""
        self.bits[action] = 1 - self.bits[action]
        reward = float(self.compute_reward(self.bits, self.wished, {}))
        return self._shown(), reward, reward > 0, False, {}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """1 where all bits [..., size] are as wished, else 0."""
        return (achieved == desired).all(-1).astype(np.float32)

    def compute_terminated(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """Whether all bits [..., size] are as wished."""
        return (achieved == desired).all(-1)

    def _shown(self) -> dict[str, np.ndarray]:
        return {"observation": self.bits.copy(), "achieved_goal": self.bits.copy(), "desired_goal": self.wished.copy()}


for size in SIZES:
    gymnasium.register(f"BitFlip{size}-v0", f"{__name__}:BitFlip", kwargs={"size": size}, max_episode_steps=size)
