"""Train an agent by PPO with an episodic first-visit bonus, its policy dense or sparse.

gossamer train rl quick --seed 1
gossamer train rl doorkey-8x8 --method no-bonus
python -m gossamer_rl.train quick --method rigl --sparsity 0.95
"""

import difflib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import gossamer as gs
from gossamer import checkpoints
from gossamer.results import plain, refuse_unwritable
from gossamer_rl.agents import ActorCritic, width_of_equal_size
from gossamer_rl.environments import TRAINING_SEEDS, Task

METHODS = ("dense", "no-bonus", "rigl", "static-random", "small-dense", "random")
SOLVED, RECENT = 0.9, 100
SAVE_EVERY = 60.0


@dataclass(frozen=True)
class Config:
    """One run: what is trained, on which task, for how long."""

    method: str = "dense"
    """dense, no-bonus (dense, the task's own reward alone), rigl, static-random, small-dense (as many parameters as
    the sparse ones have alive), random (acts at random; nothing is trained)"""
    seed: int = 1
    """of the weights, the episodes and the actions"""
    sparsity: float = 0.9
    """share of the weights that are zero, in [0, 1), for rigl and static-random"""
    data: str = "MiniGrid-DoorKey-5x5-v0"
    """the environment's id"""
    steps: int = 16_384
    """environment steps in all, over all copies"""
    width: int = 64
    """units of each of the two hidden layers, of the policy and of the value function"""
    copies: int = 16
    """environments stepped side by side"""
    horizon: int = 32
    """steps of each copy between two updates"""
    bonus: float = 0.03
    """reward for a state's first visit in an episode; falls linearly to 0 over the run"""
    learning_rate: float = 2e-3
    """Adam's"""
    entropy: float = 0.01
    """weight of the policy's entropy in the loss"""
    discount: float = 0.97
    """γ, of later rewards"""
    trace: float = 0.95
    """λ, of generalised advantage estimation"""
    epochs: int = 8
    """passes over the steps of an update"""
    minibatch: int = 256
    """steps in a gradient"""
    episodes: int = 100
    """episodes of the evaluation, at most 10,000"""
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    """where the networks are; environments are always on the CPU"""
    checkpoint: Path | None = None
    """file to write the run's state to every minute, and to go on from where it exists"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            near = difflib.get_close_matches(self.method, METHODS, n=1, cutoff=0)[0]
            raise gs.InputError(f"method is {self.method!r}; did you mean {near!r}? There are {', '.join(METHODS)}.")
        if not 0 <= self.sparsity < 1:
            raise gs.InputError(f"sparsity is {self.sparsity}; it must be in [0, 1): 0.9 removes nine weights of ten.")
        for name in ("width", "copies", "horizon", "epochs", "minibatch", "episodes"):
            if getattr(self, name) < 1:
                raise gs.InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.steps < self.copies * self.horizon:
            raise gs.InputError(
                f"steps is {self.steps}; it must hold at least one update of copies · horizon = "
                f"{self.copies * self.horizon} steps."
            )

    @property
    def updates(self) -> int:
        """How many times the agent is updated."""
        return self.steps // (self.copies * self.horizon)


class Rollout(NamedTuple):
    """What `horizon` steps of all copies gave, each [horizon, copies] (views: … and 7, 7, 3; next_values: [copies])."""

    views: Tensor
    actions: Tensor
    log_probabilities: Tensor
    values: Tensor
    rewards: Tensor
    ended: Tensor
    next_values: Tensor


@dataclass
class Progress:
    """What a run can say of itself so far; `curve` pairs environment steps with the mean return of recent episodes."""

    updates: int = 0
    seconds: float = 0.0
    first_visits: int = 0
    solved_after: int | None = None
    recent: list[float] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)


def advantages(rollout: Rollout, discount: float, trace: float) -> Tensor:
    """Generalised advantage estimates [horizon, copies] (Schulman et al. 2016).

    δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ) and Aₜ = δₜ + γ λ Aₜ₊₁, both without what follows where the episode ends at t.
    """
    result = torch.zeros_like(rollout.rewards)
    next_values, next_advantage = rollout.next_values, torch.zeros_like(rollout.next_values)
    for t in reversed(range(len(result))):
        goes_on = discount * ~rollout.ended[t]
        error = rollout.rewards[t] + goes_on * next_values - rollout.values[t]
        next_values, next_advantage = rollout.values[t], error + trace * goes_on * next_advantage
        result[t] = next_advantage
    return result


def ppo_loss(
    log_probabilities: Tensor,
    before: Tensor,
    advantage: Tensor,
    values: Tensor,
    returns: Tensor,
    entropy: Tensor | float,
) -> Tensor:
    """−mean min(ρ A, clip(ρ, 0.8, 1.2) A) + ½ mean (V − R)² − `entropy`, ρ = π/π_before (Schulman et al. 2017)."""
    ratio = (log_probabilities - before).exp()
    policy = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    return (values - returns).square().mean() / 2 - policy - entropy


class Run:
    """An agent in training: everything that changes, and how it is kept and restored."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.fabric = Fabric(accelerator=config.accelerator, devices=1)
        self.generator = torch.Generator().manual_seed(config.seed)
        small = config.method == "small-dense"
        width = width_of_equal_size(config.width, config.sparsity) if small else config.width
        self.agent = ActorCritic(width, self.generator)
        self.masking = self.method = None
        if config.method in ("rigl", "static-random"):
            self.masking = gs.sparsify(self.agent, config.sparsity, score="random", generator=self.generator)
        optimizer = torch.optim.Adam(self.agent.parameters(), lr=config.learning_rate, eps=1e-5, fused=True)
        self.model, self.optimizer = self.fabric.setup(self.agent, optimizer)
        if self.masking:
            self.masking.attach(optimizer)
        if self.masking and config.method == "rigl":
            gradients = config.updates * config.epochs * -(-config.copies * config.horizon // config.minibatch)
            self.method = gs.RigL(self.masking, every=max(1, gradients // 40), until=gradients * 3 // 4)
        drawn: dict[Any, Any] = {}
        self.tasks = [Task(config.data, drawn) for _ in range(config.copies)]
        for task in self.tasks:
            task.reset(self.next_seed())
        self.progress = Progress()

    def next_seed(self) -> int:
        """The seed of the next training episode; evaluation never uses it."""
        low, high = TRAINING_SEEDS.start, TRAINING_SEEDS.stop
        return int(torch.randint(low, high, (), generator=self.generator))

    def views(self) -> Tensor:
        """What all copies show now."""
        return torch.from_numpy(np.stack([task.view for task in self.tasks])).to(self.fabric.device)

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Let the policy act for `horizon` steps in every copy."""
        config, progress = self.config, self.progress
        bonus = 0 if config.method == "no-bonus" else config.bonus * (1 - progress.updates / config.updates)
        rewards = np.zeros((config.horizon, config.copies), np.float32)
        ended = np.zeros((config.horizon, config.copies), bool)
        columns = []
        for t in range(config.horizon):
            views = self.views()
            logits, values = self.agent(views)
            log_probabilities = logits.log_softmax(1)
            actions = torch.multinomial(log_probabilities.exp().cpu(), 1, generator=self.generator).to(views.device)
            columns.append((views, actions[:, 0], log_probabilities.gather(1, actions)[:, 0], values))
            for i, (task, action) in enumerate(zip(self.tasks, actions[:, 0].tolist(), strict=True)):
                step = task.step(action)
                rewards[t, i] = step.reward + bonus * step.first_visit
                ended[t, i] = step.ended
                progress.first_visits += step.first_visit
                if step.ended:
                    self.note(step.reward, t)
                    task.reset(self.next_seed())
        views, actions, log_probabilities, values = (torch.stack(column) for column in zip(*columns, strict=True))
        rewards, ended = (torch.from_numpy(array).to(views.device) for array in (rewards, ended))
        return Rollout(views, actions, log_probabilities, values, rewards, ended, self.agent(self.views())[1])

    def note(self, reward: float, t: int) -> None:
        """Note the end of an episode: its return (all of it is in the last step), and whether the task is solved."""
        progress = self.progress
        progress.recent = [*progress.recent[1 - RECENT :], reward]
        solved = sum(reward > 0 for reward in progress.recent) >= SOLVED * RECENT
        if solved and progress.solved_after is None:
            progress.solved_after = (progress.updates * self.config.horizon + t + 1) * self.config.copies

    def improve(self, rollout: Rollout) -> None:
        """Several epochs of PPO on one rollout."""
        config = self.config
        advantage = advantages(rollout, config.discount, config.trace)
        views, actions, before = (x.flatten(0, 1) for x in (rollout.views, rollout.actions, rollout.log_probabilities))
        returns, advantage = (advantage + rollout.values).flatten(), advantage.flatten()
        for _ in range(config.epochs):
            for batch in torch.randperm(len(views), generator=self.generator).to(views.device).split(config.minibatch):
                logits, values = self.model(views[batch])
                log_probabilities = logits.log_softmax(1)
                entropy = -(log_probabilities.exp() * log_probabilities).sum(1).mean()
                chosen = log_probabilities.gather(1, actions[batch, None])[:, 0]
                scaled = (advantage[batch] - advantage[batch].mean()) / (advantage[batch].std(correction=0) + 1e-8)
                loss = ppo_loss(chosen, before[batch], scaled, values, returns[batch], config.entropy * entropy)
                self.optimizer.zero_grad()
                self.fabric.backward(loss)
                nn.utils.clip_grad_norm_(self.agent.parameters(), 0.5)
                self.optimizer.step()
                if self.method:
                    self.method.step()

    def save(self, path: Path) -> None:
        """Write all that the run goes on from; an episode is kept as its seed and the actions so far."""
        checkpoints.save(
            path,
            config=plain(replace(self.config, checkpoint=None)),
            agent=self.agent.state_dict(),
            optimizer=self.optimizer.optimizer.state_dict(),
            masking=self.masking and self.masking.state_dict(),
            method=self.method and self.method.state_dict(),
            generator=self.generator.get_state(),
            episodes=[(task.seed, task.actions) for task in self.tasks],
            progress=asdict(self.progress),
        )

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote, to the numbers of a run that was never interrupted."""
        state = checkpoints.load(path)
        if state["config"] != plain(replace(self.config, checkpoint=None)):
            raise gs.InputError(f"checkpoint {path} is of another run: {state['config']}. Delete it or name another.")
        if self.masking:  # before the weights, which are masked as they are loaded
            self.masking.load_state_dict(state["masking"])
        self.agent.load_state_dict(state["agent"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.method:
            self.method.load_state_dict(state["method"])
        for task, (seed, actions) in zip(self.tasks, state["episodes"], strict=True):
            task.replay(seed, actions)
        self.progress = Progress(**state["progress"])
        self.generator.set_state(state["generator"])


def train(config: Config, log: Callable[[str], None] = lambda line: None) -> Run:
    """Train the agent of `config`, or the rest of it from its checkpoint; the same numbers on every call."""
    if config.checkpoint:
        refuse_unwritable(config.checkpoint)
    run = Run(config)
    if config.checkpoint and config.checkpoint.exists():
        run.restore(config.checkpoint)
        log(f"going on after {run.progress.updates * config.copies * config.horizon} steps")
    progress, saved = run.progress, time.monotonic()
    while progress.updates < config.updates:
        start = time.perf_counter()
        run.improve(run.collect())
        progress.updates += 1
        progress.seconds += time.perf_counter() - start
        if progress.updates % max(1, config.updates // 25) == 0:
            steps = progress.updates * config.copies * config.horizon
            progress.curve.append((steps, float(np.mean(progress.recent or [0.0]))))
            log(f"step {steps:>8}  return {progress.curve[-1][1]:.3f}  {progress.seconds:.0f} s")
        if config.checkpoint and time.monotonic() - saved > SAVE_EVERY:
            run.save(config.checkpoint)
            saved = time.monotonic()
    return run


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("rl")
