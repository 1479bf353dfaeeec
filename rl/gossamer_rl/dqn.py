"""Deep Q-learning: double, dueling, of several steps, from a replay by priority (Hessel et al. 2018)."""

import copy
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gossamer_rl.agents import ActorCritic, width_of_equal_size
from gossamer_rl.config import Config
from gossamer_rl.descent import Descent
from gossamer_rl.environments import GymnasiumCopies
from gossamer_rl.experience import Experience
from gossamer_rl.hindsight import Goals, Hindsight
from gossamer_rl.replay import Batch, Replay
from gossamer_rl.self_imitation import SelfImitation

FOLLOW = 0.005
"""the share by which the target network follows at each gradient"""
AT_RANDOM = 0.05
"""share of the run over which the share of actions at random falls from 1"""


def action_values(outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Q(o, a) = V(o) + A(o, a) − mean A(o, ·) [n, actions], of the agent's outputs (dueling, Wang et al. 2016)."""
    advantage, value, _ = outputs
    return value[:, None] + advantage - advantage.mean(1, keepdim=True)


def errors(chosen: Tensor, batch: Batch, ahead: Tensor, ahead_of_target: Tensor) -> Tensor:
    """Q(o, a) − (Σ γᵏ rₖ + γⁿ Q_target(o′, argmax Q(o′, ·))) [n] (double, van Hasselt et al. 2016)."""
    best = ahead_of_target.gather(1, ahead.argmax(1, keepdim=True))[:, 0]
    return chosen - (batch.sums + batch.factors * best)


class DQN:
    """Learns the values of actions from what it remembers. The agent's two networks are advantages and values, so that
    the best action is that of the largest logit."""

    def __init__(self, config: Config, experience: Experience, fabric: Fabric, generator: torch.Generator) -> None:
        self.config, self.experience, self.generator = config, experience, generator
        seen, actions, width = experience.environment.seen, experience.environment.actions, config.width
        if config.method == "small-dense":
            width = width_of_equal_size(seen, actions, width, config.sparsity)
        self.agent = ActorCritic(seen, actions, width, generator)
        self.target = copy.deepcopy(self.agent).requires_grad_(False).to(fabric.device)
        self.per_step = config.epochs * config.copies / config.minibatch
        gradients = int(config.updates * config.horizon * self.per_step)
        self.descent = Descent(self.agent, config, gradients, fabric, generator)
        self.device, self.due = fabric.device, 0.0
        options = (config.buffer, config.copies, seen, config.several, config.discount)
        own = experience.environment
        goals = None
        if isinstance(own, GymnasiumCopies) and own.goal_size:
            goals = Goals(own.goal_size, own.rewards, own.ends)
        self.replay = Hindsight(*options, goals) if config.hindsight else Replay(*options)
        self.state, self.imitation = self.agent.begin(config.copies), None
        if config.self_imitation:
            self.imitation = SelfImitation(config.buffer, config.copies, seen, 1, config.discount, self.state)

    @torch.no_grad()
    def act(self, seen: Tensor) -> Tensor:
        """The best action [n] for what is seen [n, …], or one at random."""
        share = max(self.config.epsilon, 1 - self.experience.progress.updates / (AT_RANDOM * self.config.updates))
        best = self.agent(seen.to(self.device))[0].argmax(1).cpu()
        drawn = torch.randint(self.agent.actions, best.shape, generator=self.generator)
        return torch.where(torch.rand(best.shape, generator=self.generator) < share, drawn, best)

    def update(self) -> None:
        """`horizon` steps in every copy, and as many gradients as let each step be drawn `epochs` times."""
        shown = []
        for _ in range(self.config.horizon):
            seen = self.experience.observe().clone()
            if self.agent.scaled is not None:
                self.agent.scaled.show(seen.to(self.device))
            actions = self.act(seen)
            step, paid = self.experience.step(actions)
            if self.imitation:
                self.imitation.add(seen, actions, step.rewards, step.terminated, step.ended, self.state)
            beyond = torch.from_numpy(step.last).clone()
            goes_on = torch.from_numpy(~step.ended)
            beyond[goes_on] = self.experience.observe()[goes_on]
            shown.append((seen, actions, torch.from_numpy(step.ended.copy())))
            self.replay.add(seen, actions, step.rewards + paid, step.terminated, step.ended, beyond)
            self.due += self.per_step * (len(self.replay) >= 4 * self.config.minibatch)
            while self.due >= 1:
                self.due -= 1
                self.learn()
        self.experience.bonus.learn(*map(torch.stack, zip(*shown, strict=True)))
        if self.config.agreement:
            self.forget()

    @torch.no_grad()
    def forget(self) -> None:
        """Forget the oldest tenth of the replay where the agent would now do less than `agreement` of what it did
        there, for returns of several steps are those of what was done (Tan et al. 2023)."""
        oldest = len(self.replay) // (10 * self.config.copies)
        if not oldest or len(self.replay) - oldest * self.config.copies < 4 * self.config.minibatch:
            return
        seen, actions = self.replay.oldest(oldest)
        best = self.agent(seen.to(self.device))[0].argmax(1).cpu()
        if (best == actions).float().mean() < self.config.agreement:
            self.replay.forget(oldest)

    def learn(self) -> None:
        """One gradient."""
        correction = 0.4 + 0.6 * self.experience.progress.updates / self.config.updates
        late = self.experience.progress.updates >= self.config.delay * self.config.updates
        batch = self.replay.draw(self.config.minibatch, correction, self.generator, None if late else 1)
        batch = Batch(batch.slots, *(part.to(self.device) for part in batch[1:]))
        with torch.no_grad():
            ahead, ahead_of_target = (action_values(net(batch.beyond)) for net in (self.agent, self.target))
        values = action_values(self.descent.network(batch.observations))
        error = errors(values.gather(1, batch.actions[:, None])[:, 0], batch, ahead, ahead_of_target)
        huber = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
        self.descent((batch.weights * huber).mean() + self.imitate())
        self.replay.note(batch.slots, error.detach().cpu())
        with torch.no_grad():
            pairs = zip(self.target.state_dict().values(), self.agent.state_dict().values(), strict=True)
            for ours, theirs in pairs:
                ours.lerp_(theirs, FOLLOW)

    def imitate(self) -> Tensor:
        """mean ½ (R − Q(o, a))₊²: no action is worth less than what was once got by it."""
        drawn = self.imitation.draw(self.config.minibatch, self.generator) if self.imitation else None
        if self.imitation is None or drawn is None:
            return torch.zeros((), device=self.device)
        values = action_values(self.descent.network(drawn.observations[0].to(self.device)))
        chosen = values.gather(1, drawn.actions[0, :, None].to(self.device))[:, 0]
        better = (drawn.returns[0].to(self.device) - chosen).clamp(min=0)
        self.imitation.note(drawn.slots, better[None])
        return better.square().mean() / 2

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        parts = {"descent": self.descent, "target": self.target, "replay": self.replay}
        own = {"due": self.due, "imitation": self.imitation and self.imitation.state_dict()}
        return {**{name: part.state_dict() for name, part in parts.items()}, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for part, name in ((self.descent, "descent"), (self.target, "target"), (self.replay, "replay")):
            part.load_state_dict(state[name])
        if self.imitation:
            self.imitation.load_state_dict(state["imitation"])
        self.due = state["due"]
