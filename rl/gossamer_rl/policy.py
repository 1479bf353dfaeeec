"""A trained agent in one file, and how it acts."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import files
from gossamer_rl.agents import ActorCritic, Recurrent
from gossamer_rl.environments import make
from gossamer_rl.observations import read
from gossamer_rl.onehot import OneHotLinear

KIND = "gossamer_rl policy"


@dataclass(frozen=True)
class Policy:
    """A trained agent, the id of the environment it was trained on, its masks, and whether it always takes the action
    of the largest logit (`greedy`) or draws one."""

    agent: ActorCritic
    data: str
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    greedy: bool = False

    @cached_property
    def engine(self) -> Any:
        """The actor compiled for the CPU, from floats, and a state where it has memory; made when first used."""
        own = {name.removeprefix("actor."): mask for name, mask in self.masks.items() if name.startswith("actor.")}
        actor = plain_input(self.agent.actor).eval()
        return gs.compile(actor, self.example, masks=own)

    @property
    def example(self) -> Any:
        """What the compiled actor takes, for one observation."""
        x = torch.zeros(1, self.agent.seen.size)
        return (x, torch.zeros(1, self.agent.width)) if self.agent.memory else x

    def logits(self, observations: np.ndarray, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the environment shows (`Environment.observe`), [n, …], to the logits of the actions [n, actions].

        The second is what an agent with memory is to be given at the next step of the same episodes, else None.
        """
        x, first = observations, first_of(self.agent.actor)
        if isinstance(first, OneHotLinear):
            x = first.lit(observations)
        elif self.agent.scaled is not None:
            x = self.agent.scaled(torch.from_numpy(observations)).numpy()
        if self.agent.memory:
            before = np.zeros((len(x), self.agent.width), np.float32) if state is None else state.numpy()
            logits, state = map(torch.from_numpy, self.engine(x, before))
        else:
            logits = torch.from_numpy(self.engine(x))
        if self.greedy:
            logits = torch.zeros_like(logits).masked_fill_(logits < logits.amax(1, keepdim=True), -torch.inf)
        return logits, state

    def act(
        self, observation: Any, generator: torch.Generator, state: Tensor | None = None
    ) -> tuple[int, Tensor | None]:
        """An action for one observation as Gymnasium's environment gives it, drawn from the policy, and what an agent
        with memory is to be given at the episode's next step."""
        logits, state = self.logits(read(self.agent.seen, observation), state)
        return int(torch.multinomial(logits.softmax(1), 1, generator=generator)), state

    def elsewhere(self, name: str) -> str:
        """That id, where what its environment shows and takes is what this policy sees and does; else `InputError`."""
        other = make(name, 1)
        if (other.seen.size, other.actions) != (self.agent.seen.size, self.agent.actions):
            raise gs.InputError(f"{name} shows or takes something else than {self.data}; name another environment.")
        return name

    def save(self, path: str | Path) -> int:
        """Write the policy to one file; return its bytes."""
        about = {"kind": KIND, "data": self.data, "width": self.agent.width}
        about |= {"memory": self.agent.memory, "greedy": self.greedy, "returns": self.agent.returns}
        return gs.save(self.agent, path, masks=self.masks, about=about)

    def export_onnx(self, path: str | Path) -> int:
        """Write the actor as an ONNX file from the one-hot input (floats [n, inputs]) and, where it has memory, the
        state (floats [n, width]), to logits and the next state; return its bytes."""
        return gs.export_onnx(plain_input(self.agent.actor).eval(), path, self.example)


def first_of(network: nn.Module) -> nn.Module:
    """The layer that reads observations."""
    return network.first if isinstance(network, Recurrent) else next(network.children())


def plain_input(network: nn.Module) -> nn.Module:
    """The same network, reading floats: its first layer without the lookup of codes. Weights are shared."""
    first = first_of(network)
    assert isinstance(first, nn.Linear)
    linear = nn.Linear(first.in_features, first.out_features)
    linear.weight, linear.bias = first.weight, first.bias
    if isinstance(network, Recurrent):
        plain = copy.copy(network)
        plain._modules = {**network._modules, "first": linear}
        return plain
    return nn.Sequential(linear, *list(network.children())[1:])


def load(path: str | Path) -> Policy:
    """The policy that `Policy.save`, or `--save` in training, wrote; nothing in the file is run.

    Raises `InputError` where the file is missing, damaged or another, and where its environment is not installed.
    """
    about = files.about(path)
    if about.get("kind") != KIND:
        raise gs.InputError(f"{path} holds no policy of gossamer_rl; train one with --save.")
    data, width = about.get("data"), about.get("width")
    memory, greedy = about.get("memory", False), about.get("greedy", False)
    returns = about.get("returns", 1)
    flags = isinstance(memory, bool) and isinstance(greedy, bool) and returns in (1, 2)
    if not isinstance(data, str) or not isinstance(width, int) or not 0 < width < 1 << 16 or not flags:
        raise gs.InputError(f"{path} describes no agent (data {data!r}, width {width!r}); train with --save again.")
    environment = make(data, 1)
    agent = ActorCritic(environment.seen, environment.actions, width, memory=memory, returns=returns).eval()
    masks = gs.load(path, agent)
    return Policy(agent, data, masks, greedy)
