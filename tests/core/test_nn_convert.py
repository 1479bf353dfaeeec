import copy

import pytest
import torch
from torch import nn

import gossamer as gs


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3))


def test_masked_layers_become_sparse_storage_and_come_back() -> None:
    model, x = network(), torch.randn(2, 2, 4, 4)
    masking = gs.sparsify(model, 0.75, include=("0", "3"))
    before, plain = model(x), copy.deepcopy(model)
    assert gs.nn.convert(model, masking) is model
    assert [type(module).__name__ for module in model] == ["SparseConv2d", "ReLU", "Flatten", "SparseLinear", "Linear"]
    assert model[0].values.numel() + model[3].values.numel() == sum(masking.counts.values())
    assert torch.allclose(model(x), before, atol=1e-6)
    again = gs.sparsify(model, 0.5, include=("0", "3"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    method = gs.RigL(again.attach(optimizer), every=1, until=9)
    model(x).square().mean().backward()
    optimizer.step()
    assert method.step()
    gs.nn.convert(model)
    assert [type(module) for module in model] == [type(module) for module in plain]
    assert float((model[3].weight == 0).float().mean()) >= 1 - masking.counts["3.weight"] / 128


def test_what_cannot_be_stored_is_named_before_anything_is_changed() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    lstm = nn.ModuleList([nn.Linear(4, 4), nn.LSTM(4, 4)])
    alone = nn.Linear(4, 4)
    for model, message in (
        (tied, "0.weight is tied"),
        (lstm, "1.weight_ih_l0 is of a LSTM"),
        (alone, "itself the layer"),
    ):
        masking = gs.sparsify(model, 0.5)
        with pytest.raises(gs.InputError, match=message):
            gs.nn.convert(model, masking)
        assert not any(isinstance(module, gs.nn.SparseLinear) for module in model.modules())
    with pytest.raises(gs.InputError, match=r"masks names 9\.weight"):
        gs.nn.convert(network(), {"9.weight": torch.ones(2, 2)})
