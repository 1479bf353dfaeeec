import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.measure import measure


def model():
    network = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for layer, kept in ((network[0], 18), (network[3], 12)):
            flat = layer.weight.flatten()
            flat[kept:] = 0
            flat[:kept] = 1
            layer.weight.copy_(flat.reshape(layer.weight.shape))
        network[3].bias.fill_(1)
    return network


def test_counts_by_hand():
    cost = measure(model(), torch.randn(2, 2, 4, 4))
    assert cost.parameters == 72 + 8 + 48 + 3
    assert cost.nonzeros == 18 + 4 + 12 + 3  # the norm's biases are zero
    assert cost.memory == 4 * (131 + 8) + 8  # the norm's statistics, and its counter of int64
    assert cost.flops == 2 * 4 * 18 + 2 * 12  # a quarter of each: 2 × 2 positions, then a vector
    assert cost.bytes > 0
    assert cost.latency_ms > 0


def test_masks_decide_what_is_alive():
    network = model()
    masks = {"0.weight": torch.ones(4, 2, 3, 3, dtype=torch.bool)}
    assert measure(network, torch.randn(1, 2, 4, 4), masks).nonzeros == 72 + 4 + 12 + 3


def test_the_model_is_left_as_it_was():
    network = model().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, torch.randn(2, 2, 4, 4))
    assert network.training and all(m.training for m in network.modules())
    assert all(before[name].equal(value) for name, value in network.state_dict().items())


def test_attention_and_recurrence_are_counted() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    # per token and layer: four projections of 8 × 8, two of 8 × 16, and scores and sums of 5 tokens over 8 channels
    expected = 2 * 5 * 2 * (4 * 64 + 2 * 128 + 2 * 5 * 8)
    assert measure(model, torch.randn(3, 5, 8)).flops == expected
    assert torch.backends.mha.get_fastpath_enabled()
    lstm = nn.LSTM(8, 6, batch_first=True)  # per step, four gates of 6 from 8 inputs and 6 states
    assert measure(lstm, torch.randn(3, 5, 8)).flops == 5 * 2 * 4 * 6 * (8 + 6)


@pytest.mark.parametrize("recurrent", [True, False])
def test_the_density_of_joined_projections_is_counted(recurrent: bool) -> None:
    model = nn.LSTM(8, 8, 2, batch_first=True, bidirectional=True) if recurrent else nn.MultiheadAttention(8, 2)
    x = torch.randn(3, 5, 8)
    dense = measure(model, x if recurrent else (x, x, x))
    masking = gs.sparsify(model, 0.75, distribution="uniform", exclude=("out_proj",) * (not recurrent))
    cost = measure(model, x if recurrent else (x, x, x), masking)
    uses = 2 * 5  # two operations for each of five steps or tokens of an example
    assert dense.flops - cost.flops == uses * sum(int((~mask).sum()) for mask in masking.values())
    assert not cost.left_out


def test_parametrized_and_tied_weights_count_and_what_is_not_seen_is_named() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4, bias=False)), Scaled())
    model.append(nn.Linear(4, 4, bias=False)).append(nn.Linear(4, 4, bias=False))
    model[3].weight = model[2].weight
    masking = gs.sparsify(model, 0.5, include=("0", "1.scale", "2"), distribution="uniform")
    cost = measure(model, torch.randn(2, 4), masking)
    assert cost.flops == 2 * (8 + 8 + 8 + 16) and cost.left_out == ("1.scale",)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.scale
