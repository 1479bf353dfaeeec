import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gossamer as gs
from gossamer.dynamic.snfs import share
from gossamer.patterns import Pattern


def one_layer(weight: list[list[float]], dead: list[list[int]], pattern: Pattern | None = None) -> gs.Masking:
    """A masked linear layer of these weights, attached; its optimizer does not change them."""
    values = torch.tensor(weight)
    model = nn.Sequential(nn.Linear(values.shape[1], values.shape[0], bias=False))
    masking = gs.sparsify(model, pattern.density if pattern and pattern.density else 0.0, pattern=pattern)
    with torch.no_grad():
        model[0].weight.copy_(values)
    masking.update({"0.weight": ~torch.tensor(dead).bool()})
    masking.counts = {"0.weight": int(masking.masks["0.weight"].sum())}
    return masking.attach(torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9))


def give(masking: gs.Masking, gradients: dict[str, Tensor]) -> None:
    """One optimizer step in which the loss has these gradients."""
    optimizer = masking.optimizer
    optimizer.zero_grad()
    sum((weight * gradients[name]).sum() for name, weight in masking.weights.items()).backward()
    optimizer.step()


def moved(masking: gs.Masking, method: gs.Method, gradient: list[list[float]]) -> list[list[int]]:
    give(masking, {"0.weight": torch.tensor(gradient)})
    assert method.step()
    return masking.masks["0.weight"].int().tolist()


WEIGHT = [[5.0, 1, 4, 9], [9, 3, 2, 9]]
DEAD = [[0, 0, 0, 1], [1, 0, 0, 1]]
GRADIENT = [[9.0, 0, 0, -7], [5, 1, 8, 6]]


def test_rigl_by_hand() -> None:
    # Alive 5 1 4 / 3 2. Fraction 0.8 at step 1 of 2 is halved by the cosine: 0.4 · 5 = 2 of 5 move, the 1 and the 2.
    # Gradients of what is not kept: 0 −7 / 5 8 6. The greatest are 8, of the 2 just dropped, and −7.
    masking = one_layer(WEIGHT, DEAD)
    method = gs.RigL(masking, every=1, until=2, fraction=0.8)
    assert moved(masking, method, GRADIENT) == [[1, 0, 1, 1], [0, 1, 1, 0]]
    weight = masking.weights["0.weight"].detach()
    assert weight.tolist() == [[5, 0, 4, 0], [0, 3, 2, 0]]  # what wakes starts at zero; what only blinked goes on
    momentum = masking.optimizer.state[masking.weights["0.weight"]]["momentum_buffer"]
    assert momentum.tolist() == [[9, 0, 0, 0], [0, 1, 8, 0]]


def test_set_grows_the_first_of_the_generator() -> None:
    masking = one_layer(WEIGHT, DEAD)
    method = gs.SET(masking, every=1, until=2, fraction=0.4, generator=torch.Generator().manual_seed(3))
    random = torch.rand(2, 4, generator=torch.Generator().manual_seed(3))
    kept = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0]]).bool()  # one of five moves: the weight 1
    kept.view(-1)[random.masked_fill(kept, -1).argmax()] = True
    assert moved(masking, method, GRADIENT) == kept.int().tolist()


@pytest.mark.parametrize(
    ("pattern", "weight", "dead", "gradient", "expected"),
    [
        (  # columns 1 and 2 of the upper half are alive; 2 is the weaker, and 0 has the greatest mean |g|
            gs.Block(2, 1),
            [[9.0, 4, 1], [9, 4, 2]],
            [[1, 0, 0], [1, 0, 0]],
            [[-6.0, 9, 1], [-8, 9, 1]],
            [[1, 1, 0], [1, 1, 0]],
        ),
        (  # 1 of 2: the weakest of four pairs is the first, and its other weight has the greater |g|
            gs.NofM(1, 2),
            [[1.0, 0, 7, 0], [0, 8, 9, 0]],
            [[0, 1, 0, 1], [1, 0, 0, 1]],
            [[2.0, -3, 0, 9], [9, 0, 0, 9]],
            [[0, 1, 1, 0], [0, 1, 1, 0]],
        ),
        (  # every neuron drops its weakest and grows its own best
            gs.FanIn(),
            [[1.0, 2, 0], [0, 6, 5]],
            [[0, 0, 1], [1, 0, 0]],
            [[1.0, 9, -2], [3, 9, 4]],
            [[0, 1, 1], [0, 1, 1]],
        ),
    ],
)
def test_rigl_within_a_pattern_by_hand(pattern, weight, dead, gradient, expected) -> None:
    masking = one_layer(weight, dead, pattern)
    share_moved = {"Block": 1.0, "NofM": 0.5, "FanIn": 1.0}[type(pattern).__name__]
    method = gs.RigL(masking, every=1, until=2, fraction=share_moved)
    assert moved(masking, method, gradient) == expected


def test_rigl_on_channels_wakes_and_kills_whole_channels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    masking = gs.sparsify(model, 0.5, pattern=gs.Channel())
    before = masking.masks["0.weight"].all(1)
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    method = gs.RigL(masking, every=1, until=2, fraction=2 / 3)
    dead = int((~before).nonzero()[0])
    gradient = torch.zeros(6, 4)
    gradient[dead] = 1
    give(masking, {"0.weight": gradient})
    method.step()
    after = masking.masks["0.weight"]
    assert torch.equal(after.all(1), after.any(1))
    assert after[dead].all()
    assert int(after.sum()) == 12


def test_the_share_that_moves_decays_by_a_cosine() -> None:
    masking = one_layer([[1.0] * 40], [[0] * 40])
    method = gs.SET(masking, every=10, until=100, fraction=0.5)
    for step, expected in ((0, 0.5), (25, 0.5 * (1 + math.sqrt(0.5)) / 2), (50, 0.25), (100, 0.0)):
        method.seen = step
        assert method.drop_fraction() == pytest.approx(expected)
    method.seen = 50
    assert method.growth("0.weight", 40) == 10
    assert [step for step in range(120) if method.due(step)] == list(range(10, 100, 10))


def test_dense_gradients_are_kept_only_for_an_update_that_is_due() -> None:
    masking = one_layer(WEIGHT, DEAD)
    method = gs.RigL(masking, every=3, until=8)
    kept = []
    for _ in range(9):
        give(masking, {"0.weight": torch.tensor(GRADIENT)})
        kept.append(masking.parts["0.weight"].gradient is not None)
        dead = ~masking.masks["0.weight"]
        assert not masking.weights["0.weight"].grad[dead].any()
        method.step()
    assert kept == [False, False, True, False, False, True, False, False, False]


def test_a_method_made_before_attaching_finds_its_gradients() -> None:
    masking = one_layer(WEIGHT, DEAD)
    method = gs.RigL(masking, every=1, until=9)
    masking.attach(torch.optim.SGD(masking.model.parameters(), lr=0.1))
    give(masking, {"0.weight": torch.tensor(GRADIENT)})
    assert method.step()


def test_a_layer_without_gradient_is_named() -> None:
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    masking = gs.sparsify(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking.attach(optimizer)
    method = gs.RigL(masking, every=1, until=9)
    model[0](torch.ones(4)).sum().backward()
    optimizer.step()
    with pytest.raises(gs.InputError, match=r"1\.weight got no gradient in the step"):
        method.step()


def test_snfs_averages_gradients_and_shares_weights_out_by_momentum() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 4, bias=False))
    masking = gs.sparsify(model, 0.5, distribution="uniform")
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.0))
    method = gs.SNFS(masking, every=2, until=4, fraction=0.8, momentum=0.5)
    first = {"0.weight": torch.full((5, 4), 3.0), "1.weight": torch.full((4, 5), -1.0)}
    give(masking, first)
    assert not method.step()
    assert method.averages["0.weight"].unique().tolist() == [1.5]
    give(masking, first)
    assert method.step()
    assert method.averages["1.weight"].unique().tolist() == [-0.75]
    # Each of 10 weights drops 4, and of the 8 the first, of thrice the momentum, grows 6.
    assert masking.counts == {"0.weight": 12, "1.weight": 8}
    assert [int(mask.sum()) for mask in masking.masks.values()] == [12, 8]


def test_sharing_fills_a_room_and_gives_the_rest_to_others() -> None:
    assert share(10, {"a": 1, "b": 1}, {"a": 9.0, "b": 1.0}, {"a": 3, "b": 20}) == {"a": 3, "b": 9}
    assert share(10, {"a": 1, "b": 1}, {"a": 0.0, "b": 0.0}, {"a": 3, "b": 4}) == {"a": 3, "b": 4}
    assert share(0, {"a": 1}, {"a": 1.0}, {"a": 3}) == {"a": 1}


@given(st.integers(0, 200), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 10)), min_size=1))
@settings(max_examples=200, deadline=None)
def test_sharing_gives_all_that_there_is_room_for(amount, layers) -> None:
    base = {str(k): min(a, b) for k, (a, b, _) in enumerate(layers)}
    rooms = {str(k): max(a, b) for k, (a, b, _) in enumerate(layers)}
    result = share(amount, base, {str(k): w for k, (_, _, w) in enumerate(layers)}, rooms)
    assert sum(result.values()) == min(sum(base.values()) + amount, sum(rooms.values()))
    assert all(base[name] <= result[name] <= rooms[name] for name in base)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 8))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (model(x) - x[:, :8]).square().mean().backward()
    optimizer.step()


SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
ADAM = {"lr": 1e-2, "weight_decay": 1e-3}
RUNS: dict[
    str, tuple[Pattern, float, Callable[[gs.Masking], gs.Method], Callable[..., torch.optim.Optimizer], dict]
] = {
    "set": (gs.Unstructured(), 0.9, lambda m: gs.SET(m, every=2, until=1000), torch.optim.SGD, SGD),
    "rigl": (gs.Unstructured(), 0.9, lambda m: gs.RigL(m, every=2, until=1000), torch.optim.SGD, SGD),
    "rigl-block": (gs.Block(4, 1), 0.75, lambda m: gs.RigL(m, every=2, until=1000), torch.optim.Adam, ADAM),
    "rigl-1:4": (gs.NofM(1, 4), 0.75, lambda m: gs.RigL(m, every=2, until=1000), torch.optim.SGD, SGD),
    "rigl-fan-in": (gs.FanIn(), 0.75, lambda m: gs.RigL(m, every=2, until=1000), torch.optim.AdamW, ADAM),
    "rigl-channel": (gs.Channel(), 0.75, lambda m: gs.RigL(m, every=2, until=1000), torch.optim.SGD, SGD),
    "set-2:4": (gs.NofM(2, 4), 0.5, lambda m: gs.SET(m, every=2, until=1000), torch.optim.SGD, SGD),
    "snfs": (gs.Unstructured(), 0.9, lambda m: gs.SNFS(m, every=2, until=1000), torch.optim.SGD, SGD),
    "snfs-block": (gs.Block(4, 1), 0.75, lambda m: gs.SNFS(m, every=2, until=1000), torch.optim.AdamW, ADAM),
}


@pytest.mark.parametrize("name", RUNS)
def test_after_each_of_a_thousand_steps_the_sparsity_is_the_one_asked(name: str) -> None:
    pattern, sparsity, make, make_optimizer, options = RUNS[name]
    model = network()
    distribution = "uniform" if name.endswith(("block", "fan-in", "channel")) else "erk"
    masking = gs.sparsify(model, sparsity, pattern=pattern, distribution=distribution)
    asked = round((1 - sparsity) * sum(mask.numel() for mask in masking.masks.values()))
    apart = 2 * len(masking.masks) if name == "snfs-block" else 0  # each layer's share is rounded to whole blocks
    optimizer = make_optimizer(model.parameters(), **options)
    masking.attach(optimizer)
    method, updates, topologies = make(masking), 0, set()
    for k in range(1000):
        train(model, optimizer, k)
        updates += method.step()
        masks = masking.masks
        assert abs(sum(int(mask.sum()) for mask in masks.values()) - asked) <= apart
        for key, weight in masking.weights.items():
            assert not weight.detach()[~masks[key]].any()
            state = optimizer.state[weight]
            assert not any(v[~masks[key]].any() for v in state.values() if v.shape == weight.shape)
        topologies.add(tuple(mask.flatten().nonzero().sum().item() for mask in masks.values()))
    assert updates == sum(method.due(k) for k in range(1, 1001))
    assert len(topologies) > (3 if isinstance(pattern, gs.Channel) else 10)


@pytest.mark.parametrize("schedule", ["cubic", "linear", "cosine", "constant"])
@pytest.mark.parametrize("distribution", ["global", "erk", "uniform", "lamp"])
@pytest.mark.parametrize("kind", [gs.GraNet, gs.GMP])
def test_gradual_pruning_keeps_to_its_schedule_and_ends_at_its_target(kind, distribution, schedule) -> None:
    model = network()
    masking = gs.sparsify(model, 0.3, distribution=distribution)
    size, initial = sum(mask.numel() for mask in masking.masks.values()), masking.sparsity
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    masking.attach(optimizer)
    method = kind(masking, 0.95, every=7, until=60, schedule=schedule)
    curve = {"cubic": lambda p: 1 - (1 - p) ** 3, "linear": lambda p: p, "constant": lambda p: 1}
    curve["cosine"] = lambda p: (1 - math.cos(math.pi * p)) / 2
    before = sum(int(mask.sum()) for mask in masking.masks.values())
    for k in range(1, 71):
        train(model, optimizer, k)
        alive = {name: mask.clone() for name, mask in masking.masks.items()}
        due = method.step()
        assert due == (k % 7 == 0 and k < 60)
        now = sum(int(mask.sum()) for mask in masking.masks.values())
        wanted = initial + (0.95 - initial) * curve[schedule](k / 56)
        assert now == (round((1 - wanted) * size) if due else before)
        before = now
        if kind is gs.GMP:
            assert not any((mask & ~alive[name]).any() for name, mask in masking.masks.items())
    assert now == round(0.05 * size)


def test_gradual_pruning_over_a_thousand_steps_and_blocks_and_fan_in() -> None:
    for pattern, kind in (
        (gs.Unstructured(), gs.GraNet),
        (gs.Unstructured(), gs.GMP),
        (gs.Block(4, 1), gs.GraNet),
        (gs.FanIn(), gs.GraNet),
    ):
        model = network()
        masking = gs.sparsify(model, 0.5, pattern=pattern, distribution="uniform")
        optimizer = torch.optim.SGD(model.parameters(), **SGD)
        masking.attach(optimizer)
        method = kind(masking, 0.75, every=10, until=1000)
        for k in range(1000):
            train(model, optimizer, k)
            method.step()
            asked = sum(masking.counts.values())
            unit = {"Unstructured": 0, "Block": 2, "FanIn": 12}[type(pattern).__name__]  # half a unit, at most, a layer
            assert abs(sum(int(mask.sum()) for mask in masking.masks.values()) - asked) <= 2 * unit
        assert masking.sparsity == 0.75


def test_granet_regrows_where_gmp_does_not() -> None:
    woken = {}
    for kind in (gs.GraNet, gs.GMP):
        model = network()
        masking = gs.sparsify(model, 0.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        masking.attach(optimizer)
        method, alive = kind(masking, 0.8, every=1, until=20), masking.masks
        alive = {name: mask.clone() for name, mask in masking.masks.items()}
        train(model, optimizer, 0)
        method.step()
        woken[kind] = sum(int((mask & ~alive[name]).sum()) for name, mask in masking.masks.items())
    assert woken[gs.GMP] == 0
    assert woken[gs.GraNet] > 0


def test_srigl_ablates_a_neuron_with_too_few_salient_weights() -> None:
    # Fan-in 2, all eight alive but for the last column. Half of 8 move: 9 8 7 6 stay, in rows 0 and 1. Of the dead, the
    # gradients 5 4 3 2 of rows 0 1 2 3 grow, so rows 2 and 3 have one salient weight each, less than 0.6 · 2.
    weight = [[9.0, 8, 0], [7, 6, 0], [3, 2, 0], [1, 0.5, 0]]
    dead = [[0, 0, 1]] * 4
    gradient = [[0.0, 0, 5], [0, 0, 4], [0, 0, 3], [0, 0, 2]]
    for ablation, expected in (
        (
            0.6,
            [[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]],
        ),  # two pass, but 8 weights need three neurons: 9, the nearest
        (0.5, [[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]]),  # one is enough: they grow their best, ties by index
    ):
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
        masking = gs.sparsify(model, 1 / 3, pattern=gs.FanIn(), exclude=("1",))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor(weight))
        masking.update({"0.weight": ~torch.tensor(dead).bool()})
        masking.attach(torch.optim.SGD(model.parameters(), lr=0.0))
        method = gs.SRigL(masking, every=1, until=2, fraction=1.0, ablation=ablation)
        assert masking.counts == {"0.weight": 8}
        assert moved(masking, method, gradient) == expected


@given(
    st.integers(2, 12), st.integers(2, 12), st.floats(0.05, 0.95), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99)
)
@settings(max_examples=150, deadline=None)
def test_srigl_keeps_its_count_to_half_a_weight_a_neuron(rows, columns, sparsity, ablation, fraction, seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(columns, rows, bias=False), nn.Linear(rows, 3, bias=False))
    masking = gs.sparsify(model, sparsity, pattern=gs.FanIn(), distribution="uniform")
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.01))
    method = gs.SRigL(masking, every=1, until=9, fraction=fraction, ablation=ablation)
    for _ in range(5):
        give(masking, {name: torch.randn_like(weight) for name, weight in masking.weights.items()})
        method.step()
        for name, mask in masking.masks.items():
            fan_in = mask.sum(1)
            active = int(mask.any(1).sum())
            assert len(set(fan_in[fan_in > 0].tolist())) == 1
            assert abs(int(mask.sum()) - masking.counts[name]) * 2 <= active or int(fan_in.max()) == 1
        assert masking.masks["1.weight"].any(1).all()  # classes are never ablated


def test_srigl_ablates_over_a_thousand_steps_at_the_sparsity_asked() -> None:
    model = network()
    masking = gs.sparsify(model, 0.9, pattern=gs.FanIn())
    size = sum(mask.numel() for mask in masking.masks.values())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    masking.attach(optimizer)
    method = gs.SRigL(masking, every=2, until=1000, ablation=0.5)
    for k in range(1000):
        train(model, optimizer, k)
        method.step()
        for name, mask in masking.masks.items():
            assert abs(int(mask.sum()) - masking.counts[name]) * 2 <= int(mask.any(1).sum())
    assert abs(masking.sparsity - 0.9) * size <= 24
    assert sum(int((~mask.any(1)).sum()) for mask in masking.masks.values()) > 0


def test_srigl_without_ablation_keeps_every_neuron() -> None:
    model = network()
    masking = gs.sparsify(model, 0.95, pattern=gs.FanIn())
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    masking.attach(optimizer)
    method = gs.SRigL(masking, every=1, until=50, ablation=0.0)
    for k in range(50):
        train(model, optimizer, k)
        method.step()
    assert all(mask.any(1).all() for mask in masking.masks.values())


@pytest.mark.parametrize("fan_in", [1, 2, 5])
def test_within_constant_fan_in_as_many_weights_move_as_the_cosine_says(fan_in: int) -> None:
    model = nn.Sequential(nn.Linear(20, 50))
    masking = gs.sparsify(model, 1 - fan_in / 20, pattern=gs.FanIn(), score="random")
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    method = gs.SET(masking, every=1, until=10, generator=torch.Generator().manual_seed(0))
    for k in range(1, 10):
        method.seen = k
        kept = masking.pattern.survivors(
            torch.where(masking.masks["0.weight"], model[0].weight.detach().abs(), -torch.inf),
            50 * fan_in - method.growth("0.weight", 50 * fan_in),
        )
        assert int(kept.sum()) == 50 * fan_in - round(0.3 * (1 + math.cos(math.pi * k / 10)) / 2 * 50 * fan_in)
        mask = method.new_mask("0.weight", 50 * fan_in)
        assert mask.sum(1).tolist() == [fan_in] * 50
        assert mask[kept].all()


@pytest.mark.parametrize("kind", [gs.GMP, gs.GraNet])
def test_gradual_pruning_reaches_its_sparsity_where_a_layer_is_frozen(kind) -> None:
    model = network()
    masking = gs.sparsify(model, 0.0)
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    masking.attach(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    method = kind(masking, 0.9, every=1, until=10)
    before = masking.masks["0.weight"]
    for k in range(10):
        train(model, masking.optimizer, k)
        method.step()
        now = masking.masks["0.weight"]
        assert not (now & ~before).any()
        before = now
    assert masking.sparsity == 1 - round(0.1 * (288 + 192)) / (288 + 192)
    assert torch.equal(model[0].weight, frozen * masking.masks["0.weight"])


def test_a_frozen_model_under_adapters_is_pruned_while_they_train() -> None:
    model = nn.ModuleDict({"base": nn.Linear(8, 8), "lora_A": nn.Linear(8, 2), "lora_B": nn.Linear(2, 8)})
    model["base"].requires_grad_(False)
    masking = gs.sparsify(model, 0.0)
    assert list(masking.masks) == ["base.weight"]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    method = gs.GMP(masking.attach(optimizer), 0.75, every=1, until=4)
    for k in range(4):
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(k))
        (model["base"](x) + model["lora_B"](model["lora_A"](x))).square().mean().backward()
        optimizer.step()
        method.step()
    assert masking.sparsity == 0.75


def test_a_method_goes_on_from_its_state() -> None:
    ends = []
    for resumed in (False, True):
        generator = torch.Generator().manual_seed(0)
        model = network()
        masking = gs.sparsify(model, 0.8)
        optimizer = torch.optim.SGD(model.parameters(), **SGD)
        masking.attach(optimizer)
        method = gs.SNFS(masking, every=3, until=30, generator=generator)
        for k in range(20):
            if resumed and k == 11:
                states = [part.state_dict() for part in (model, masking, optimizer, method)]
                model, generator = network(), torch.Generator()
                masking = gs.sparsify(model, 0.8, score="random")
                optimizer = torch.optim.SGD(model.parameters(), **SGD)
                masking.attach(optimizer)
                method = gs.SNFS(masking, every=3, until=30, generator=generator)
                for part, state in zip((model, masking, optimizer, method), states, strict=True):
                    part.load_state_dict(state)
            train(model, optimizer, k)
            method.step()
        ends.append({**model.state_dict(), **{f"mask {n}": m for n, m in masking.masks.items()}})
    assert all(torch.equal(ends[1][name], value) for name, value in ends[0].items())


def twins() -> tuple[gs.Masking, gs.Masking]:
    """One sparse network twice: dense layers under masks, and layers of sparse storage."""
    torch.manual_seed(0)
    masked = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.Unflatten(2, (2, 2)), nn.Conv2d(4, 6, 3, padding=1), nn.Tanh(), nn.Flatten()
    )
    masked.append(nn.Linear(24, 8))
    one = gs.sparsify(masked, 0.7, include=("*",))
    stored = copy.deepcopy(masked)
    for k, kind in ((0, gs.nn.SparseConv1d), (2, gs.nn.SparseConv2d), (5, gs.nn.SparseLinear)):
        stored[k] = kind.from_dense(masked[k], one.masks[f"{k}.weight"])
    return one, gs.sparsify(stored, 0.7)


@pytest.mark.parametrize("make_optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("kind", [gs.SET, gs.RigL, gs.SNFS])
def test_layers_of_sparse_storage_move_as_masks_do(kind, make_optimizer) -> None:
    maskings = twins()
    optimizers, methods, moves = [], [], 0
    for masking in maskings:
        options = SGD if make_optimizer is torch.optim.SGD else ADAM
        optimizers.append(make_optimizer(masking.model.parameters(), **options))
        masking.attach(optimizers[-1])
        methods.append(kind(masking, every=2, until=99, generator=torch.Generator().manual_seed(1)))
    if kind is gs.SNFS:  # sparse storage does not move weights between layers
        methods[0].counts = lambda: maskings[0].counts
    for k in range(12):
        x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(k))
        for masking, optimizer, method in zip(maskings, optimizers, methods, strict=True):
            for half in x.split(3):
                (masking.model(half) - 1).square().mean().backward()
            optimizer.step()
            moves += method.step()
            optimizer.zero_grad()
        for name, mask in maskings[0].masks.items():
            assert torch.equal(mask, maskings[1].parts[name].mask)
            one, other = maskings[0].parts[name], maskings[1].parts[name]
            assert torch.allclose(one.weight, other.weight, atol=1e-6)
            states = [optimizers[0].state[one.parameter], optimizers[1].state[other.parameter]]
            for key in states[1]:
                if states[1][key].dim():
                    assert torch.allclose(states[0][key][mask], states[1][key], atol=1e-6)
    assert moves == 12
    assert maskings[0].sparsity == maskings[1].sparsity
    assert maskings[1].parts["5.weight"].parameter.shape == (maskings[1].counts["5.weight"],)


def test_sparse_storage_resumes_from_the_models_state() -> None:
    ends = []
    for resumed in (False, True):
        masking = twins()[1]
        optimizer = torch.optim.AdamW(masking.model.parameters(), **ADAM)
        method = gs.RigL(masking.attach(optimizer), every=2, until=99)
        for k in range(9):
            if resumed and k == 5:
                states = [part.state_dict() for part in (optimizer, masking, masking.model, method)]
                masking = twins()[1]
                optimizer = torch.optim.AdamW(masking.model.parameters(), **ADAM)
                method = gs.RigL(masking.attach(optimizer), every=2, until=99)
                for part, state in zip((optimizer, masking, masking.model, method), states, strict=True):
                    part.load_state_dict(state)
            optimizer.zero_grad()
            masking.model(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(k))).square().mean().backward()
            optimizer.step()
            method.step()
        ends.append([*masking.model.state_dict().values(), *(part.mask for part in masking.parts.values())])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_sparse_storage_beside_dense_layers_keeps_its_own_number() -> None:
    model = network()
    model[0] = gs.nn.SparseLinear.from_dense(model[0], torch.rand(24, 12) < 0.25)
    kept = len(model[0].values)
    masking = gs.sparsify(model, 0.9)
    assert masking.counts == {"0.weight": kept, "2.weight": 19}
    masking.attach(torch.optim.SGD(model.parameters(), **SGD))
    method = gs.SNFS(masking, every=1, until=9)
    for k in range(5):
        train(model, masking.optimizer, k)
        assert method.step()
        assert [int(part.mask.sum()) for part in masking.parts.values()] == [kept, 19]
    assert list(masking.masks) == ["2.weight"]
    average = copy.deepcopy(model)
    masking.apply(average)
    method.step()
    train(model, masking.optimizer, 5)
    assert method.step()
    with pytest.raises(gs.InputError, match="mixes weights of different places"):
        masking.apply(average)
    masking.prune("magnitude", 0.95)
    assert masking.counts == {"0.weight": kept, "2.weight": 10}
    for make in (lambda: gs.GMP(masking, 0.99, until=999), lambda: gs.GraNet(masking, 0.99, until=999)):
        with pytest.raises(gs.InputError, match=r"0\.weight is stored sparsely and keeps the number of its weights"):
            make()


def masked(sparsity: float = 0.5, **options) -> gs.Masking:
    return gs.sparsify(network(), sparsity, **options)


def test_gradual_pruning_starts_at_a_sparsity_that_rounding_made_higher():
    masking = gs.sparsify(nn.Sequential(nn.Linear(7, 3)), 0.9, include=("*",))
    assert masking.sparsity == pytest.approx(19 / 21)
    assert gs.GMP(masking, 0.9, until=900).initial == masking.sparsity
    with pytest.raises(gs.InputError, match=r"sparsity is 0.87; it must be in \[0.9048, 1\)"):
        gs.GMP(masking, 0.87, until=900)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.SET(masked(), every=0, until=9), "every is 0"),
        (lambda: gs.SET(masked(), until=9, fraction=1.5), "fraction is 1.5"),
        (lambda: gs.SNFS(masked(pattern=gs.NofM(2, 4)), until=9), "SNFS moves weights between layers"),
        (lambda: gs.SNFS(masked(), until=9, momentum=1.0), "momentum is 1.0"),
        (lambda: gs.GraNet(masked(), 0.4, until=900), r"sparsity is 0.4; it must be in \[0.5, 1\)"),
        (lambda: gs.GMP(masked(), 0.9, every=100, until=100), "until is 100, which leaves no update"),
        (lambda: gs.GMP(masked(), 0.9, until=900, schedule="steep"), "schedule is 'steep'"),
        (lambda: gs.GraNet(masked(pattern=gs.NofM(2, 4)), 0.9, until=900), "has one sparsity only"),
        (lambda: gs.SRigL(masked(), until=9), r"SRigL needs a masking of pattern FanIn\(\)"),
        (lambda: gs.SRigL(masked(pattern=gs.FanIn()), until=9, ablation=2.0), "ablation is 2.0"),
        (lambda: gs.SET(masked(), until=9).load_state_dict({"seen": 1, "generator": torch.ones(1)}), "a generator"),
        (lambda: gs.SET(masked(), until=9).step(), "not attached to an optimizer"),
        (lambda: gs.GMP(masked(), 0.9, until=900).load_state_dict({"seen": 1, "generator": None}), "not that of GMP"),
        (lambda: gs.SET(masked(), until=9).load_state_dict(None), "not that of SET"),
    ],
)
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        make()
