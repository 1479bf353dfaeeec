import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer.lottery import Rewinding, find_ticket


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class Training:
    """A few steps of SGD that remember how they found the weights and left them."""

    def __init__(self, steps: int) -> None:
        self.steps, self.before, self.after = steps, [], []

    def __call__(self, masking: gs.Masking) -> None:
        model = masking.model.train()
        self.before.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        masking.attach(optimizer)
        for k in range(self.steps):
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(k))
            optimizer.zero_grad()
            (model(x) - x[:, :2] * x[:, 2:]).square().mean().backward()
            optimizer.step()
        self.after.append({name: weight.detach().clone() for name, weight in masking.weights.items()})


@pytest.mark.parametrize("warm_up", [None, Training(3)])
def test_each_round_prunes_the_least_of_what_is_alive_and_rewinds_the_rest(warm_up: Training | None) -> None:
    model, train = network(), Training(20)
    masking = find_ticket(model, 7 / 8, train, rounds=3, warm_up=warm_up)
    assert len(train.before) == 3
    start, size = train.before[0], sum(mask.numel() for mask in masking.masks.values())
    untrained = network().state_dict()
    assert all(torch.equal(start[name], value) for name, value in untrained.items()) == (warm_up is None)
    ends = [*train.before[1:], model.state_dict()]
    for k, (trained, rewound) in enumerate(zip(train.after, ends, strict=True), 1):
        joined = torch.cat([weight.abs().flatten() for weight in trained.values()])
        threshold = joined.sort(descending=True).values[size // 2**k - 1]
        for name, value in start.items():
            mask = trained[name].abs() >= threshold if name in trained else torch.ones_like(value)
            assert torch.equal(rewound[name], value * mask)
    assert masking.sparsity == 7 / 8
    assert not masking.attached
    train(masking)
    assert masking.sparsity == 7 / 8
    assert all(torch.equal(train.after[-1][name] != 0, mask) for name, mask in masking.masks.items())


def test_a_loop_of_ones_own_goes_on_from_a_checkpoint_of_what_was_kept() -> None:
    model = network()
    rewinding = Rewinding(model)
    with pytest.raises(gs.InputError, match=r"nothing to rewind to; call keep\(\)"):
        rewinding.rewind()
    rewinding.keep()
    masking = gs.sparsify(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1)
    resumed = Rewinding(model)
    resumed.early = rewinding.early
    resumed.rewind()
    untrained = network().state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, untrained[name] * masking.masks.get(name, torch.ones_like(value)))


def test_options_are_those_of_sparsify() -> None:
    options = {"distribution": "uniform", "include": ("0",), "pattern": gs.FanIn()}
    masking = find_ticket(network(), 0.75, Training(2), rounds=2, **options)
    assert masking.counts == {"0.weight": 8}
    assert masking.masks["0.weight"].sum(1).tolist() == [1] * 8


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(gs.InputError, match="rounds is 0"):
        find_ticket(network(), 0.5, Training(1), rounds=0)
    with pytest.raises(gs.InputError, match="a ticket starts dense"):
        find_ticket(network(), 0.5, Training(1), rounds=1, pattern=gs.NofM(2, 4))


@pytest.mark.parametrize(
    ("sparsity", "options", "message"),
    [
        (1.5, {}, r"sparsity is 1\.5"),
        (float("nan"), {}, "sparsity is nan"),
        ("0.9", {}, "sparsity is '0.9'"),
        (0.5, {"score": "magnitud"}, "score is 'magnitud'"),
        (0.5, {"distribution": {"fc": 0.5}}, "names 'fc', which matches none"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_trained(sparsity, options, message: str) -> None:
    train = Training(1)
    with pytest.raises(gs.InputError, match=message):
        find_ticket(network(), sparsity, train, rounds=3, **options)
    assert not train.before


def test_targets_per_layer_wait_for_the_first_training() -> None:
    train = Training(2)
    masking = find_ticket(network(), 0.5, train, rounds=2, distribution={"0": 0.75})
    assert train.before[0]["0.weight"].all()
    assert masking.counts == {"0.weight": 8, "3.weight": 8}
