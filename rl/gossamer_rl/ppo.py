"""Proximal policy optimisation: what a rollout holds, its advantages, the loss, and the learner."""

from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from gossamer_rl.agents import ActorCritic, width_of_equal_size
from gossamer_rl.config import Config
from gossamer_rl.descent import Descent
from gossamer_rl.experience import Experience
from gossamer_rl.self_imitation import SelfImitation, imitation_loss


class Rollout(NamedTuple):
    """What `horizon` steps of all copies gave, each [horizon, copies] (observations [horizon, copies, …], next_values
    [copies]); the reward of a step that cut an episode off holds the discounted value of what it would have led to;
    `states` [horizon / unroll, copies, …] are the agent's at the first step of every sequence. Where a bonus is valued
    apart, rewards and values have one more dimension: the task's, and the bonus's, which no end of an episode ends."""

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor
    values: Tensor
    rewards: Tensor
    ended: Tensor
    next_values: Tensor
    states: Tensor


def advantages(rollout: Rollout, discount: float, trace: float) -> Tensor:
    """Generalised advantage estimates, of the rewards' shape (Schulman et al. 2016).

    δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ) and Aₜ = δₜ + γ λ Aₜ₊₁, both without what follows where the episode ends at t.
    """
    result, ended = torch.zeros_like(rollout.rewards), rollout.ended
    if result.dim() == 3:
        ended = torch.stack([ended, torch.zeros_like(ended)], 2)
    next_values, next_advantage = rollout.next_values, torch.zeros_like(rollout.next_values)
    for t in reversed(range(len(result))):
        goes_on = discount * ~ended[t]
        error = rollout.rewards[t] + goes_on * next_values - rollout.values[t]
        next_values, next_advantage = rollout.values[t], error + trace * goes_on * next_advantage
        result[t] = next_advantage
    return result


def sequences(x: Tensor, length: int) -> Tensor:
    """Cut [horizon, copies, …] into sequences of that many steps [length, horizon / length · copies, …]."""
    return x.unflatten(0, (-1, length)).transpose(0, 1).flatten(1, 2)


def ppo_loss(
    log_probabilities: Tensor,
    before: Tensor,
    advantage: Tensor,
    values: Tensor,
    returns: Tensor,
    entropy_bonus: Tensor | float,
) -> Tensor:
    """−mean min(ρ A, clip(ρ, 0.8, 1.2) A) + ½ mean (V − R)² − `entropy_bonus`, the entropy times its weight; ρ =
    π/π_before (Schulman et al. 2017)."""
    ratio = (log_probabilities - before).exp()
    policy = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    return (values - returns).square().mean() / 2 - policy - entropy_bonus


class PPO:
    """Learns from what its own policy has just done: rollouts of all copies, and several epochs over each."""

    def __init__(self, config: Config, experience: Experience, fabric: Fabric, generator: torch.Generator) -> None:
        self.config, self.experience, self.generator = config, experience, generator
        seen, actions, width = experience.environment.seen, experience.environment.actions, config.width
        if config.method == "small-dense":
            width = width_of_equal_size(seen, actions, width, config.sparsity, config.memory)
        self.apart = experience.bonus.apart
        self.agent = ActorCritic(seen, actions, width, generator, config.memory, 1 + self.apart)
        an_epoch = -(-config.copies * config.horizon // config.minibatch) + config.self_imitation
        self.descent = Descent(self.agent, config, config.updates * config.epochs * an_epoch, fabric, generator)
        self.state, self.length = self.agent.begin(config.copies), config.unroll if config.memory else 1
        self.imitation = None
        if config.self_imitation:
            options = (config.buffer, config.copies, seen, self.length, config.discount)
            self.imitation = SelfImitation(*options, self.state)

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Let the policy act for `horizon` steps in every copy, and judge in one call what all of it is worth."""
        config, experience, device = self.config, self.experience, self.state.device
        columns, steps, cuts = [], [], []
        actor, critic = self.state.chunk(2, 1)
        for t in range(config.horizon):
            seen = experience.observe().to(device, copy=True)
            logits, after = self.agent.act(seen, actor)
            log_probabilities = logits.log_softmax(1)
            actions = torch.multinomial(log_probabilities.exp().cpu(), 1, generator=self.generator).to(device)
            step, paid = experience.step(actions[:, 0])
            rewards = np.stack([step.rewards, paid], 1) if self.apart else step.rewards + paid
            cut = np.flatnonzero(step.truncated & ~step.terminated)
            if len(cut):
                own = torch.from_numpy(cut).to(device)
                cuts.append((torch.full_like(own, t), own, torch.from_numpy(step.last[cut]).to(device)))
            ended = torch.from_numpy(step.ended.copy()).to(device)
            chosen = log_probabilities.gather(1, actions)[:, 0]
            columns.append((seen, actions[:, 0], chosen, torch.from_numpy(rewards).to(device), ended, actor))
            steps.append((step.rewards.copy(), step.terminated.copy()))
            actor = after * ~ended[:, None]
        observations, actions, chosen, rewards, ended, actors = map(torch.stack, zip(*columns, strict=True))
        values, after = self.agent.judge(observations, critic, ended)
        critics = torch.cat([critic[None], after * ~ended[:, :, None]])
        states = torch.cat([actors, critics[:-1]], 2)
        if self.imitation:
            for t, (own, last) in enumerate(steps):
                self.imitation.add(observations[t], actions[t], own, last, ended[t].cpu().numpy(), states[t])
        self.state = torch.cat([actor, critics[-1]], 1)
        next_values = self.worth(experience.observe().to(device), critics[-1])
        if cuts:  # each is followed by another episode; its last value is that of what it would have led to
            times, copies, last = map(torch.cat, zip(*cuts, strict=True))
            beyond = config.discount * self.worth(last, after[times, copies])
            task = rewards[..., 0] if self.apart else rewards
            task[times, copies] += beyond[:, 0] if self.apart else beyond
        return Rollout(observations, actions, chosen, values, rewards, ended, next_values, states[:: self.length])

    def worth(self, observations: Tensor, state: Tensor) -> Tensor:
        """The values [n] of observations [n, …] where the critic's half of the state is `state`."""
        values, _ = self.agent.judge(observations[None], state, observations.new_zeros(1, len(observations)).bool())
        return values[0]

    def improve(self, rollout: Rollout) -> None:
        """Several epochs on one rollout, whose minibatches are made of sequences of `unroll` steps."""
        config = self.config
        advantage = advantages(rollout, config.discount, config.trace)
        columns = (rollout.observations, rollout.actions, rollout.log_probabilities, advantage)
        seen, actions, before, advantage, returns, ended = (
            sequences(x, self.length) for x in (*columns, advantage + rollout.values, rollout.ended)
        )
        advantage = advantage.sum(2) if self.apart else advantage
        states = rollout.states.flatten(0, 1)
        if self.agent.scaled is not None:
            self.agent.scaled.show(seen.flatten(0, 1))
        size = max(1, config.minibatch // self.length)
        for _ in range(config.epochs):
            for batch in torch.randperm(len(states), generator=self.generator).to(states.device).split(size):
                logits, values = self.descent.network.unroll(seen[:, batch], states[batch], ended[:, batch])
                log_probabilities = logits.log_softmax(2)
                entropy = -(log_probabilities.exp() * log_probabilities).sum(2).mean()
                chosen = log_probabilities.gather(2, actions[:, batch, None])[:, :, 0]
                own = advantage[:, batch]
                own = (own - own.mean()) / (own.std(correction=0) + 1e-8)
                loss = ppo_loss(chosen, before[:, batch], own, values, returns[:, batch], config.entropy * entropy)
                self.descent(loss)

    def imitate(self, imitation: SelfImitation) -> None:
        """As many gradients as there are epochs, on steps that went better than expected."""
        device = self.state.device
        for _ in range(self.config.epochs):
            drawn = imitation.draw(max(1, self.config.minibatch // self.length), self.generator)
            if drawn is None:
                return
            states, ended = drawn.states.to(device), drawn.ended.to(device)
            logits, values = self.descent.network.unroll(drawn.observations.to(device), states, ended)
            chosen = logits.log_softmax(2).gather(2, drawn.actions.to(device)[:, :, None])[:, :, 0]
            loss, better = imitation_loss(chosen, values[..., 0] if self.apart else values, drawn.returns.to(device))
            imitation.note(drawn.slots, better)
            self.descent(loss)

    def update(self) -> None:
        """A rollout, and what it teaches."""
        rollout = self.collect()
        self.improve(rollout)
        if self.imitation:
            self.imitate(self.imitation)
        self.experience.bonus.learn(rollout.observations.cpu(), rollout.actions.cpu(), rollout.ended.cpu())

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        imitation = self.imitation and self.imitation.state_dict()
        return {"descent": self.descent.state_dict(), "state": self.state, "imitation": imitation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.descent.load_state_dict(state["descent"])
        self.state = state["state"].to(self.state.device)
        if self.imitation:
            self.imitation.load_state_dict(state["imitation"])
