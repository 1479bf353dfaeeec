"""From a policy to numbers: its returns on episodes that no training saw."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.agents import ACTIONS, ActorCritic
from gossamer_rl.environments import Task

Policy = Callable[[Tensor], Tensor]


def random_policy(views: Tensor) -> Tensor:
    """Equal logits for every action: bytes [n, 7, 7, 3] to [n, 7]."""
    return torch.zeros(len(views), ACTIONS)


def policy_of(agent: ActorCritic) -> Policy:
    """The agent's own logits."""
    device = next(agent.parameters()).device
    return lambda views: agent(views.to(device))[0].cpu()


@torch.no_grad()
def returns(policy: Policy, name: str, seeds: Sequence[int], generator: torch.Generator) -> list[float]:
    """The return of one episode of the environment for each seed, in [0, 1] for MiniGrid.

    Actions are drawn from the policy (softmax of its logits) with `generator`: an agent without memory that always
    takes its best action can be caught in a circle.
    """
    drawn: dict = {}
    tasks = [Task(name, drawn) for _ in seeds]
    for task, seed in zip(tasks, seeds, strict=True):
        task.reset(seed)
    totals, running = [0.0] * len(tasks), list(range(len(tasks)))
    while running:
        logits = policy(torch.from_numpy(np.stack([tasks[i].view for i in running])))
        actions = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0].tolist()
        steps = [tasks[i].step(action) for i, action in zip(running, actions, strict=True)]
        for i, step in zip(running, steps, strict=True):
            totals[i] += step.reward
        running = [i for i, step in zip(running, steps, strict=True) if not step.ended]
    return totals
