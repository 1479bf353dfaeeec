"""Batch norms that take over residuals and ReLUs, against the modules as they were."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gossamer import kernels
from gossamer.nn.joined import Joined, join, part
from gossamer.nn.norm import BatchNorm2d

pytestmark = pytest.mark.skipif(not kernels.available(), reason="Numba is not installed")


class Block(nn.Module):
    """As torchvision's: one ReLU module that is called twice, a residual added in place."""

    def __init__(self, inputs=4, outputs=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Functional(nn.Module):
    """Functions for ReLUs, norms that end a Sequential, a sum without a ReLU."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), BatchNorm2d(4))

    def forward(self, x):
        return x + self.second(F.relu(self.first(x), inplace=True).relu())


class Wasteful(nn.Module):
    """An attribute of a name of the plan's; a call, the last one, that gives nothing."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.steps = nn.Conv2d(4, 4, 3), BatchNorm2d(4), 3

    def forward(self, x):
        y = torch.relu(self.bn(self.conv(x)))
        self.conv(y)
        return y


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(self.bn(x)) if x.sum() > 0 else x


class Dependent(Untraceable):
    def forward(self, x):
        return F.dropout(torch.relu(self.bn(x)), 0.5, self.training)


class Shared(Untraceable):
    """The norm's result is needed as it is."""

    def forward(self, x):
        y = self.bn(x)
        return torch.relu(y) + y


def networks():
    torch.manual_seed(0)
    sequential = nn.Sequential(
        nn.Conv2d(4, 4, 3), BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    return {"block": Block(), "wider": Block(4, 6), "functional": Functional(), "sequential": sequential}


def pooled():
    norms = [nn.Sequential(BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, **options)) for options in POOLS]
    return nn.ModuleList(norms)


POOLS = ({}, {"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}, {"return_indices": True})


def trained(model, x):
    """What a step gives: the result, all gradients and the state after it."""
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    found = {"y": y, "x": x.grad, **model.state_dict()}
    return found | {name + ".grad": p.grad for name, p in model.named_parameters()}


def assert_alike(a, b, x):
    one, other = trained(a, x), trained(b, x)
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("name", networks())
def test_a_joined_module_computes_what_it_did(name):
    model, x = networks()[name], torch.randn(2, 4, 6, 6)
    plain = copy.deepcopy(model)
    join(model)
    assert isinstance(model, Joined) and isinstance(model, type(plain)) and repr(model) == repr(plain)
    assert_alike(plain, model, x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(other, Joined)
        assert_alike(copy.deepcopy(plain), other, x)
    torch.testing.assert_close(model.eval()(x), plain.eval()(x), rtol=1e-3, atol=1e-3)
    part(model)
    assert type(model) is type(plain) and model.__dict__.keys() == plain.__dict__.keys()


def test_every_norm_takes_over_what_it_can():
    wider, functional = networks()["wider"], networks()["functional"]
    join(nn.ModuleList([wider, functional]))
    assert [(".".join(s.path), s.further) for s in wider._joined.steps] == [
        ("conv1", ()),
        ("bn1", (None, True, False)),
        ("conv2", ()),
        ("downsample.0", ()),
        ("downsample.1", ()),
        ("bn2", (True, False)),
    ]
    assert [s.further for s in functional._joined.steps if s.path[-1:] == ("1",)] == [
        (None, True, False),
        (False, False),
    ]


def test_pooling_of_two_by_two_pixels_joins():
    model = pooled()
    join(model)
    assert [module._joined.steps[0].further[-1] for module in model] == [True] + [False] * 5


@pytest.mark.parametrize("kind", [Untraceable, Dependent, Shared])
def test_other_modules_are_left_alone(kind):
    model = kind()
    join(model)
    assert type(model) is kind and model.training


@pytest.mark.parametrize("change", ["hook", "exchange", "append"])
def test_what_was_changed_afterwards_counts(change):
    model = networks()["sequential"]
    join(model)
    heard = []
    if change == "hook":
        model[1].register_forward_hook(lambda module, inputs, output: heard.append(float(output.detach().min())))
    if change == "exchange":
        model[2] = nn.LeakyReLU(0.5)
    if change == "append":
        model.append(nn.Softmax(1))
    plain, x = copy.deepcopy(model), torch.randn(2, 4, 6, 6)
    part(plain)
    assert_alike(plain, model, x)
    assert len(heard) == 2 * (change == "hook") and all(least < 0 for least in heard)
