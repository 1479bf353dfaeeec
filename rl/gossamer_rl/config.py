"""The configuration of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from gossamer import errors

METHODS = ("dense", "no-bonus", "static-random", "set", "rigl", "gmp", "small-dense", "random")
BONUSES = (
    "lifelong-first-visit",
    "situation",
    "view-and-situation",
    "first-visit",
    "episodic-count",
    "count",
    "rnd",
    "noveld",
    "ride",
    "e3b",
    "icm",
    "ngu",
    "deir",
)


@dataclass(frozen=True)
class Config:
    """One run: what is trained, on which task, for how long."""

    method: str = "dense"
    """dense, no-bonus (dense, the task's own reward alone), static-random, set, rigl, gmp (gradual magnitude pruning),
    small-dense (as many parameters as the sparse ones have alive), random (acts at random; nothing is trained)"""
    agent: Literal["ppo", "dqn"] = "ppo"
    """how it learns: ppo from what its policy does now, dqn from a memory of all steps"""
    memory: bool = False
    """whether the second hidden layers of a ppo agent remember the episode (gated recurrent units)"""
    seed: int = 1
    """of the weights, the layouts and the actions"""
    sparsity: float = 0.9
    """share of the weights that are zero, in [0, 1), for the sparse methods"""
    sparse_critic: bool = True
    """whether the value function is sparse too, which only training needs"""
    data: str = "MiniGrid-DoorKey-5x5-v0"
    """the environment's id: MiniGrid's, or any of Gymnasium's with discrete actions"""
    steps: int = 500_000
    """environment steps in all, over all copies"""
    solved: float = 0.95
    """share of the last 200 episodes that reach the goal at which the training ends early; 1 never ends it"""
    width: int = 64
    """units of each of the two hidden layers, of the policy and of the value function"""
    copies: int = 64
    """environments stepped side by side"""
    horizon: int = 128
    """steps of each copy between two updates"""
    exploration: str = "lifelong-first-visit"
    """the bonus: lifelong-first-visit, situation, view-and-situation, first-visit, episodic-count, count, rnd, noveld,
    ride, e3b, icm, ngu, deir"""
    bonus_on: Literal["observation", "state"] = "observation"
    """what counts as new: what the agent sees, or the simulator's whole state (a privilege)"""
    bonus: float = 0.003
    """what the bonus adds to the reward of a step, in the mean of many; falls linearly to 0 over the run"""
    frontier: float = 0.0
    """share of episodes that begin where few have been, restored in the simulator, without a bonus (Go-Explore; a
    privilege)"""
    self_imitation: bool = False
    """whether the agent learns again from what went better than it expects (Oh et al. 2018)"""
    learning_rate: float = 1e-3
    """Adam's"""
    entropy: float = 0.01
    """weight of the policy's entropy in the loss"""
    discount: float = 0.99
    """γ, of later rewards"""
    trace: float = 0.95
    """λ, of generalised advantage estimation"""
    unroll: int = 32
    """steps through which gradients go back in time, of an agent with memory"""
    epochs: int = 4
    """how often a step is learned from: passes over an update's, or draws from a replay in the mean"""
    minibatch: int = 2048
    """steps in a gradient"""
    buffer: int = 100_000
    """steps that dqn, and self-imitation, remember"""
    several: int = 3
    """steps of reward before the value, in what dqn learns"""
    delay: float = 0.0
    """share of the run before which dqn's returns are of one step alone: a new topology's errors do not add up (RLx2,
    Tan et al. 2023)"""
    agreement: float = 0.0
    """of what dqn did in the oldest tenth of what it remembers, the share that it must still do lest it forgets that
    tenth (RLx2); 0 forgets nothing before its time"""
    hindsight: bool = False
    """whether dqn learns of a task of goals also what would have been right for what it reached later"""
    epsilon: float = 0.01
    """share of dqn's actions that are random after the first twentieth of the run"""
    episodes: int = 100
    """episodes of the evaluation, at most 10,000"""
    accelerator: str = "cpu"
    """where the networks are, as Lightning Fabric calls it: cpu, cuda, auto; environments are always on the CPU"""
    threads: int | None = None
    """threads of the CPU; as many as PyTorch takes where this is not given"""
    checkpoint: Path | None = None
    """file to keep the run's state in, and to go on from where it exists"""
    save: Path | None = None
    """file to write the trained policy to, for gossamer rl play and evaluate"""
    tensorboard: Path | None = None
    """folder for TensorBoard's event files"""

    places: ClassVar[tuple[str, ...]] = ("threads", "checkpoint", "save", "tensorboard")

    def __post_init__(self) -> None:
        errors.one_of(METHODS, method=self.method)
        errors.one_of(BONUSES, exploration=self.exploration)
        errors.share(sparsity=self.sparsity)
        errors.within(0, 2**63 - 1, seed=self.seed)
        names = (
            "steps",
            "width",
            "copies",
            "horizon",
            "unroll",
            "epochs",
            "minibatch",
            "buffer",
            "several",
            "episodes",
        )
        errors.at_least(1, **{name: getattr(self, name) for name in names})
        errors.learning_rate(learning_rate=self.learning_rate)
        errors.within(0, 1, discount=self.discount, trace=self.trace, solved=self.solved)
        errors.within(0, 1e6, bonus=self.bonus, entropy=self.entropy)
        errors.share(epsilon=self.epsilon, frontier=self.frontier, delay=self.delay, agreement=self.agreement)
        for name in ("hindsight", "delay", "agreement"):
            if getattr(self, name) and self.agent != "dqn":
                raise errors.InputError(f"{name} is for the agent dqn; {self.agent} keeps no replay.")
        if self.memory and self.agent != "ppo":
            raise errors.InputError(f"memory is for the agent ppo; {self.agent} has none.")
        if self.memory and self.horizon % self.unroll:
            raise errors.InputError(f"unroll is {self.unroll}; it must divide the horizon, {self.horizon}.")
        if self.steps < self.copies * self.horizon:
            raise errors.InputError(
                f"steps is {self.steps}; it must hold at least one update of copies · horizon = "
                f"{self.copies * self.horizon} steps."
            )

    @property
    def privileges(self) -> list[str]:
        """What the training uses that an agent alone would not have."""
        found = {
            "the bonus reads the simulator's state": self.bonus_on == "state",
            "episodes begin in states of the simulator that are restored": self.frontier > 0,
        }
        return [words for words, used in found.items() if used]

    @property
    def updates(self) -> int:
        """How many times the agent is updated at most."""
        return self.steps // (self.copies * self.horizon)
