"""Train one network: gossamer train NAME quick --method rigl --save NAME.gossamer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import checkpoints
from gossamer.results import plain
from gossamer_NAME import evaluate
from gossamer_NAME.config import Config
from gossamer_NAME.data import Data, load
from gossamer_NAME.model import network, small


@dataclass
class Run:
    """A training and how far it is."""

    config: Config
    data: Data
    model: nn.Module
    masking: gs.Masking
    optimizer: torch.optim.Optimizer
    method: gs.Method | None
    generator: torch.Generator
    curve: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Keep its state between two epochs."""
        method = {"method": self.method.state_dict()} if self.method else {}
        checkpoints.save(
            path,
            config=plain(self.config),
            curve=self.curve,
            seconds=self.seconds,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            masking=self.masking.state_dict(),
            rng=checkpoints.rng_state(order=self.generator),
            **method,
        )

    def resume(self, path: Path) -> None:
        """Go on from what `save` kept of the same run."""
        state = checkpoints.load(path)
        checkpoints.same_run(state["config"], self.config, path)
        self.curve, self.seconds = state["curve"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.masking.load_state_dict(state["masking"])
        if self.method:
            self.method.load_state_dict(state["method"])
        checkpoints.restore_rng(state["rng"], order=self.generator)


def start(config: Config) -> Run:
    """The run before its first step."""
    torch.manual_seed(config.seed)
    data, generator = load(), torch.Generator().manual_seed(config.seed)
    sparse = config.method in ("static-random", "rigl")
    width = small(config.width, config.sparsity) if config.method == "small-dense" else config.width
    model = network(width)
    sparsity = config.sparsity if sparse else 0.0
    masking = gs.sparsify(model, sparsity, distribution="erk", score="random", generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    masking.attach(optimizer)
    steps = config.epochs * -(-len(data.train.kinds) // config.batch)
    method = gs.RigL(masking, every=20, until=steps * 3 // 4) if config.method == "rigl" else None
    return Run(config, data, model, masking, optimizer, method, generator)


def train(config: Config, log: Callable[[str], None] = lambda line: None) -> Run:
    """The run at its end; it goes on from `config.checkpoint` where that is there."""
    run = start(config)
    if config.checkpoint and config.checkpoint.exists():
        run.resume(config.checkpoint)
    with checkpoints.Checkpoint(config.checkpoint, run.save) as checkpoint:
        while len(run.curve) < config.epochs:
            epoch(run)
            log(f"epoch {len(run.curve)}/{config.epochs}  held-out {run.curve[-1]:.2%}")
            checkpoint.step()
    if config.save:
        gs.save(run.model, config.save, masks=run.masking.masks, about={"width": run.model[0].out_features})
        log(f"wrote {config.save}")
    return run


def epoch(run: Run) -> None:
    """One pass over the training examples."""
    began, examples = time.perf_counter(), run.data.train
    run.model.train()
    for batch in torch.randperm(len(examples.kinds), generator=run.generator).split(run.config.batch):
        run.optimizer.zero_grad()
        F.cross_entropy(run.model(examples.points[batch]), examples.kinds[batch]).backward()
        run.optimizer.step()
        if run.method:
            run.method.step()
    run.curve.append(evaluate.accuracy(run.model, run.data.held_out))
    run.seconds += time.perf_counter() - began


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("NAME")
