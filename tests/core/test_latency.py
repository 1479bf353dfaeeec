"""Densities that spend a latency budget."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gossamer as gs
from gossamer import latency
from gossamer.latency import spend


def test_made_costs_are_spent_as_worked_out_by_hand():
    costs = np.array([[10.0, 6, 2], [8.0, 4, 1], [4.0, 2, 1]])
    errors = np.array([[0.0, 1, 9], [0.0, 3, 5], [0.0, 1, 2]])

    def at(limit: float) -> list[int] | None:
        return spend(costs, errors, limit, steps=round(10 * limit))  # in tenths, so that no cost is rounded

    assert at(22) == [0, 0, 0]
    # 18 of 22: 4 are to be saved, by the first layer for an error of 1, by the second for 3, by the third not.
    assert at(18) == [1, 0, 0]
    # 16 of 22: 6 by the first and the third, 4 + 2, for 1 + 1.
    assert at(16) == [1, 0, 1]
    # 12 of 22: 10 by the first, the second and the third for 5, or by the first two, 4 + 7, for 6.
    assert at(12) == [1, 1, 1]
    # 9: 4 + 7 + 2 for 1 + 5 + 1, as the first alone, 8, is not enough and costs 9.
    assert at(9) == [1, 2, 1]
    assert at(4) == [2, 2, 2]
    assert at(3.5) is None
    assert at(-1) is None
    assert spend(costs, errors, 16.01) == [1, 0, 1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), layers=st.integers(1, 4), choices=st.integers(1, 4))
def test_no_other_choice_is_better(seed: int, layers: int, choices: int):
    rng = np.random.default_rng(seed)
    costs, errors = rng.integers(0, 20, (layers, choices)).astype(float), rng.random((layers, choices))
    limit = float(rng.integers(1, 60))
    rows = range(layers)
    fits = [one for one in product(range(choices), repeat=layers) if costs[rows, one].sum() <= limit]
    found = spend(costs, errors, limit, steps=int(100 * limit))  # whole costs, so that none is rounded
    assert (found is None) == (not fits)
    if found is not None:
        assert costs[rows, found].sum() <= limit
        assert errors[rows, found].sum() == pytest.approx(min(errors[rows, one].sum() for one in fits))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def test_a_network_gets_the_sparsities_that_its_budget_pays_for(monkeypatch: pytest.MonkeyPatch):
    def us(node: Any, graph: Any, values: Any, mask: np.ndarray) -> float:
        return 1000.0 * float(mask.mean())

    def choose(graph: Any, *arguments: Any) -> Any:
        layers = [node for node in graph.nodes if node.operation == "conv2d"]
        rows = [gs.engine.LayerRow(node.layer, "dense", "dense", 1.0, 1000.0, 1000.0) for node in layers]
        report = gs.engine.Report(rows)
        report.rest = {"mean": 500.0}
        return {}, report

    monkeypatch.setattr(latency, "sparse_us", us)
    monkeypatch.setattr(latency, "choose", choose)
    model, example = network(), torch.randn(2, 3, 8, 8)
    # Dense 3500, of which the first convolution and the rest take 1500. 3500 / 2 = 1750 leaves 250 for two layers.
    given = {"pattern": gs.Block(4, 1), "sparsities": (0.8, 0.875, 0.95)}
    found = gs.budget(model, example, speedup=2, **given)
    assert found.dense_us == 3500
    assert found == {"1.weight": 0.875, "4.weight": 0.875}
    assert found.us == pytest.approx(1750, abs=5) and found.speedup == pytest.approx(2, abs=0.01)
    calls = []

    def loss(twin: nn.Module) -> float:
        calls.append(twin)
        return float((twin[4].weight == 0).sum())  # type: ignore[index]

    # The second layer alone is worth anything: it has 0.8, and the first what is left, 50.
    assert gs.budget(model, example, speedup=2, loss=loss, **given) == {"1.weight": 0.95, "4.weight": 0.8}
    assert len(calls) == 7 and calls[0] is not model
    masking = gs.sparsify(model, 0.9, pattern=gs.Block(4, 1), distribution=found)
    shares = {name: 1 - float(mask.float().mean()) for name, mask in masking.masks.items()}
    assert shares == pytest.approx({"1.weight": 0.875, "4.weight": 0.875}, abs=0.001)
    with pytest.raises(gs.InputError, match=r"at most 2\.19: ask for less"):
        gs.budget(network(), example, speedup=2.3, **given)


def test_a_measured_budget_is_met_by_the_layers_that_it_measured():
    model, example = network(), torch.randn(1, 3, 24, 24)
    dense = gs.budget(model, example, speedup=1, pattern=gs.Block(4, 1), sparsities=(0.5, 0.9))
    assert dense.speedup >= 1 and set(dense) == {"1.weight", "4.weight"}
    assert set(dense.values()) <= {0.0, 0.5, 0.9}
    assert all(not module._forward_hooks for module in model.modules())


def test_what_cannot_be_is_refused():
    with pytest.raises(gs.InputError, match=r"speedup is 0\.5"):
        gs.budget(network(), torch.randn(1, 3, 8, 8), speedup=0.5)
    with pytest.raises(gs.InputError, match="sparsities"):
        gs.budget(network(), torch.randn(1, 3, 8, 8), speedup=2, sparsities=(1.5,))
    with pytest.raises(gs.InputError, match="loss gives nan"):
        gs.budget(network(), torch.randn(1, 3, 8, 8), speedup=1, loss=lambda model: float("nan"))
