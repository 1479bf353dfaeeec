from dataclasses import replace

import pytest
import torch

from gossamer.devices import fabric
from gossamer_rl.agents import ActorCritic
from gossamer_rl.config import Config
from gossamer_rl.descent import Descent
from gossamer_rl.observations import Seen

CONFIG = Config(method="static-random", sparsity=0.75, learning_rate=1e-3, sparse_critic=False)


def descent(config: Config, gradients: int = 100) -> Descent:
    generator = torch.Generator().manual_seed(0)
    agent = ActorCritic(Seen(None, 400), 4, 32, generator)
    return Descent(agent, config, gradients, fabric("cpu"), generator)


def rates(found: Descent) -> list[float]:
    return [group["lr"] for group in found.optimizer.optimizer.param_groups]


def test_a_sparse_layer_begins_as_loud_as_the_dense_one_and_moves_as_fast():
    x = torch.rand(500, 400, generator=torch.Generator().manual_seed(1))
    loud, moved = [], []
    for config in (replace(CONFIG, method="dense"), CONFIG):
        found = descent(config)
        first = found.network.module.actor[0]
        before = first(x).detach()
        found(first(x).mean())
        loud.append(float(before.std()))
        moved.append(float((first(x) - before).detach().square().mean().sqrt()))
    assert loud[1] == pytest.approx(loud[0], rel=0.1)
    assert moved[1] == pytest.approx(moved[0], rel=0.02)


def test_rates_are_those_of_the_densities_and_follow_gradual_pruning():
    found = descent(CONFIG)
    densities = [float(mask.float().mean()) for mask in found.masking.masks.values()]
    assert rates(found) == pytest.approx([1e-3 / density for density in densities] + [1e-3])
    found = descent(replace(CONFIG, method="gmp"))
    assert rates(found) == [1e-3] * 4
    x = torch.randn(8, 400)
    for _ in range(100):
        found(found.network(x)[0].square().mean())
    densities = [float(mask.float().mean()) for mask in found.masking.masks.values()]
    assert found.masking.sparsity == pytest.approx(0.75, abs=1e-3)
    assert rates(found) == pytest.approx([1e-3 / density for density in densities] + [1e-3])
