"""Engines whose sequence lengths and image sizes are open."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import gossamer
from gossamer import engine
from gossamer.errors import InputError


class Encoder(nn.Module):
    """Words and their places, an attention that is causal or masked, two norms."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(128, 16)
        self.norm, self.qkv, self.last = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, ids, seen):
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        mask = seen[:, None, None] & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        y = nn.functional.scaled_dot_product_attention(q, k, v, mask)
        return torch.relu(x + self.last(y.transpose(1, 2).flatten(2)))


def words(batch: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    seen = torch.rand(batch, tokens) < 0.7
    seen[:, 0] = True
    return torch.randint(50, (batch, tokens)), seen


def sparse(model: nn.Module) -> nn.Module:
    gossamer.sparsify(model, 0.8, pattern=gossamer.Block(4, 1), include=("*",), distribution="uniform")
    return model.eval()


def memory(layer: Any) -> int:
    """Where a layer's weights lie."""
    layer = getattr(layer, "convolution", layer)
    return id(layer.weights) if hasattr(layer, "weights") else layer.weight.data_ptr()


def test_sequences_of_any_length_share_their_weights():
    torch.manual_seed(0)
    model, tokens = sparse(Encoder()), Dim("tokens", min=2, max=128)
    compiled: Any = gossamer.compile(
        model, words(1, 70), dynamic={"ids": {1: tokens}, "seen": {1: tokens}}, strict=True
    )
    compiled.keep(None)
    for batch, length in [(1, 70), (2, 9), (1, 128), (3, 2), (2, 9)]:
        given = words(batch, length)
        torch.testing.assert_close(compiled(*given), model(*given), atol=2e-5, rtol=1e-4)
    others = list(compiled.sizes._engines.values())
    assert len(others) == 3
    for other in others:
        assert set(map(memory, other._layers.values())) == set(map(memory, compiled._layers.values()))
    packed = {"qkv.weight", "last.weight"}
    assert compiled.sizes.bytes == sum(p.nbytes for name, p in model.named_parameters() if name not in packed)
    with pytest.raises(InputError, match=r"'ids' has 129 at axis 1, outside of 2 to 128"):
        compiled(*words(1, 129))
    with pytest.raises(InputError, match=r"'seen' has 8 at axis 1, where others have 9"):
        compiled(words(1, 9)[0], words(1, 8)[1])


def test_images_of_any_size_go_through_folded_layers():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.MaxPool2d(2)]
    layers[1].running_mean = torch.randn(8)
    model = sparse(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    compiled: Any = gossamer.compile(model, torch.randn(1, 3, 16, 20), dynamic=({2: Dim.AUTO},), strict=True)
    compiled.keep(None)
    before = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # the engine does not follow the model
    for rows in (16, 33, 12):
        x = torch.randn(2, 3, rows, 20)
        torch.testing.assert_close(compiled(x), before(x), atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(copy.deepcopy(compiled)(x.numpy()), before(x).detach(), atol=2e-5, rtol=1e-4)
    with pytest.raises(InputError, match=r"'input' has 21 at axis 3, not 20: name it in dynamic"):
        compiled(torch.randn(1, 3, 16, 21))
    with pytest.raises(InputError, match="has 3 axes, not 4"):
        compiled(torch.randn(1, 3, 16))


def test_a_few_sizes_are_kept():
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)).eval()
    compiled: Any = gossamer.compile(model, torch.randn(2, 4, 6), dynamic={"input": (None, Dim.DYNAMIC, None)})
    compiled.keep(None)
    for length in range(5, 15):
        assert compiled(torch.randn(2, length, 6)).shape == (2, length, 6)
    assert [shapes[0][0] for shapes in compiled.sizes._engines] == list(range(7, 15))


class Patches(nn.Module):
    """Patches of an image and a token of its class, steps before the batch as nn.MultiheadAttention has them."""

    def __init__(self):
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 16, 4, 4, padding=1), nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.first.expand(x.shape[0], -1, -1), y], 1)
        return self.attention(y, y, y, need_weights=False)[0]


class Pairs(nn.Module):
    """Steps two by two, so that only even lengths go, and their states forwards and backwards."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]):
        super().__init__()
        self.states, self.last = kind(12, 8, 2, bidirectional=True), nn.Linear(16, 5)

    def forward(self, x):
        y, _ = self.states(x.unflatten(1, (-1, 2)).flatten(2).transpose(0, 1))
        return self.last(y.transpose(0, 1)), y[-1]


TOKENS = Dim("tokens", min=2, max=128)
OPEN = {
    "encoder": (Encoder, lambda batch, n: words(batch, n), {"ids": {1: TOKENS}, "seen": {1: TOKENS}}, 70),
    "patches": (Patches, lambda batch, n: (torch.randn(batch, 3, 4 * n, 30),), ({2: Dim.AUTO, 3: Dim.AUTO},), 4),
    "lstm": (lambda: Pairs(nn.LSTM), lambda batch, n: (torch.randn(batch, 2 * n, 6),), ({1: 2 * Dim("half")},), 4),
    "gru": (lambda: Pairs(nn.GRU), lambda batch, n: (torch.randn(batch, 2 * n, 6),), ({1: Dim.AUTO},), 1),
    "named": (lambda: Pairs(nn.GRU), lambda batch, n: (torch.randn(batch, 2 * n, 6),), ({1: Dim("n", max=80)},), 4),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_sizes_stay_open_in_a_file(name: str, tmp_path: Path):
    make, given, dynamic, length = OPEN[name]
    torch.manual_seed(0)
    model = sparse(make())
    compiled: Any = gossamer.compile(model, given(1, length), dynamic=dynamic, strict=True)
    compiled.keep(None)
    compiled.save(tmp_path / "engine")
    loaded: Any = engine.load(tmp_path / "engine")
    loaded.save(tmp_path / "again")
    for one in (loaded, engine.load(tmp_path / "again"), pickle.loads(pickle.dumps(compiled))):
        for batch, n in [(1, length), (2, 9), (3, 3), (1, 33)]:
            x = given(batch, n)
            for found, wanted in zip(one(*(part.numpy() for part in x)), model(*x), strict=True):
                np.testing.assert_allclose(found, wanted.detach(), atol=2e-5, rtol=1e-4)
        for other in one.sizes._engines.values():
            assert set(map(memory, other._layers.values())) <= set(map(memory, one._layers.values()))


def test_what_is_saved_is_in_steps_and_has_an_end(tmp_path: Path):
    half = Pairs(nn.LSTM).eval()
    compiled: Any = gossamer.compile(half, torch.randn(1, 8, 6), dynamic=({1: 2 * Dim("half", max=40)},), strict=True)
    compiled.save(tmp_path / "engine")
    for one in (compiled, engine.load(tmp_path / "engine")):
        with pytest.raises(InputError, match=r"'x' has 9 at axis 1, outside of 4 to 80 in steps of 2"):
            one(torch.randn(1, 9, 6))
        with pytest.raises(InputError, match=r"'x' has 82 at axis 1, outside of 4 to 80 in steps of 2"):
            one(torch.randn(1, 82, 6))


class Rolled(nn.Module):
    """Steps in another order, or as many weights as there are steps, or places without an end."""

    def __init__(self, how: str):
        super().__init__()
        self.linear, self.how = nn.Linear(6, 6), how

    def forward(self, x):
        steps = torch.arange(x.shape[1], dtype=torch.float32)[:, None]
        change = {"flipped": steps.flip(0), "mean": steps / x.shape[1], "places": steps}[self.how]
        return self.linear(x) + change


@pytest.mark.parametrize(
    "how,size,message",
    [
        ("flipped", Dim("n", max=50), "tensor add.other depends on the open sizes in a way that cannot be saved"),
        ("mean", Dim("n", max=50), "tensor add.other depends on the open sizes in a way that cannot be saved"),
        ("places", Dim("n"), r"tensor add.other grows with a size that has no end: give Dim\(…, max=…\)"),
        ("places", Dim("n", max=2**30), "tensors that grow have 1073741824 elements"),
    ],
)
def test_what_depends_on_sizes_in_other_ways_is_not_saved(how: str, size: Any, message: str, tmp_path: Path):
    compiled: Any = gossamer.compile(Rolled(how).eval(), torch.randn(1, 8, 6), dynamic=({1: size},), strict=True)
    with pytest.raises(InputError, match=message):
        compiled.save(tmp_path / "engine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dynamic,message",
    [
        ({"x": {1: Dim.AUTO}}, "from input"),
        (3, "from input"),
        ({"input": {4: Dim.AUTO}}, "axis 4 of input, which has the axes 0 to 2"),
    ],
)
def test_what_is_not_arranged_as_the_arguments_is_refused(dynamic: Any, message: str):
    with pytest.raises(InputError, match=message):
        gossamer.compile(nn.Sequential(nn.Linear(4, 4)).eval(), torch.randn(2, 3, 4), dynamic=dynamic)


def test_what_cannot_stay_open_stays_pytorch_code_with_its_reason():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    with pytest.raises(InputError, match=r"torch\.export"):
        gossamer.compile(model, torch.randn(2, 3, 4), dynamic={"input": {1: Dim("rows", min=2, max=9)}}, strict=True)
