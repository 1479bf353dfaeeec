import torch
from torch import nn

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
