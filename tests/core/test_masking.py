import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gossamer as gs

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    f"{name}-{variant}": lambda parameters, make=make, options=options: make(parameters, **options)
    for variant, how in (("loop", {"foreach": False}), ("foreach", {"foreach": True}), ("fused", {"fused": True}))
    for name, make, options in (
        ("sgd", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, **how}),
        ("nesterov", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, **how}),
        ("adam", torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.01, **how}),
        ("amsgrad", torch.optim.Adam, {"lr": 0.01, "amsgrad": True, **how}),
        ("adamw", torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, **how}),
    )
}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def broken() -> nn.Sequential:
    model = network()
    model[2].weight.detach()[0, 0] = torch.nan
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, inputs: int = 8) -> None:
    optimizer.zero_grad()
    x = torch.randn(6, inputs, generator=torch.Generator().manual_seed(seed))
    model(x).square().mean().backward()
    optimizer.step()


def assert_masked(masking: gs.Masking, optimizer: torch.optim.Optimizer) -> None:
    """Weights and every moment of theirs are zero where the masks are, and somewhere not zero."""
    for name, weight in masking.weights.items():
        dead = ~masking.masks[name]
        assert not weight.detach()[dead].any()
        moments = [v for v in optimizer.state[weight].values() if v.shape == weight.shape]
        assert moments
        for moment in moments:
            assert not moment[dead].any()
            assert moment.any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_moments_stay_masked(name: str) -> None:
    model = network()
    masking = gs.sparsify(model, 0.8)
    before = {key: mask.clone() for key, mask in masking.masks.items()}
    optimizer = OPTIMIZERS[name](model.parameters())
    masking.attach(optimizer)
    method = gs.RigL(masking, every=3, until=90)
    for k in range(100):
        step(model, optimizer, k)
        method.step()
        assert_masked(masking, optimizer)
    assert any((before[key] != mask).any() for key, mask in masking.masks.items())


def test_gradients_are_masked_as_they_arrive_so_clipping_sees_the_sparse_norm() -> None:
    model = network()
    masking = gs.sparsify(model, 0.9)
    x = torch.randn(6, 8)
    model(x).square().mean().backward()
    dense = {name: weight.grad.clone() for name, weight in masking.weights.items()}
    biases = [p.grad for name, p in model.named_parameters() if name not in masking.masks]
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    norms = torch.stack([(g * masking.masks[name]).norm() for name, g in dense.items()] + [b.norm() for b in biases])
    model.zero_grad()
    model(x).square().mean().backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), 1e9).item() == pytest.approx(norms.norm().item())
    unmasked = torch.stack([g.norm() for g in (*dense.values(), *biases)]).norm()
    assert norms.norm() < 0.9 * unmasked


def test_a_step_that_fills_dead_weights_is_undone() -> None:
    class Restless(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data += 1

    model = network()
    masking = gs.sparsify(model, 0.8)
    optimizer = Restless(model.parameters(), lr=0.1)
    masking.attach(optimizer)
    optimizer.step()
    for name, weight in masking.weights.items():
        assert not weight[~masking.masks[name]].any()
        assert weight[masking.masks[name]].all()


def test_moments_from_before_the_masking_are_masked_at_the_first_step() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer, 0)
    masking = gs.sparsify(model, 0.8).attach(optimizer)
    step(model, optimizer, 1)
    assert_masked(masking, optimizer)
    dense = torch.optim.AdamW(network().parameters())
    state = optimizer.state_dict()
    for values in state["state"].values():
        values["exp_avg"] = torch.ones_like(values["exp_avg"])
    assert dense.state_dict()["state"] == {}
    optimizer.load_state_dict(state)
    step(model, optimizer, 2)
    assert_masked(masking, optimizer)


def test_loading_a_state_dict_masks_again() -> None:
    model, dense = network(), network(1)
    masking = gs.sparsify(model, 0.8)
    model.load_state_dict(dense.state_dict())
    for name, mask in masking.masks.items():
        assert torch.equal(model.get_parameter(name), dense.get_parameter(name) * mask)
    wrapped = nn.ModuleDict({"inner": model})
    wrapped.load_state_dict({f"inner.{key}": value for key, value in network(2).state_dict().items()})
    assert not model[0].weight[~masking.masks["0.weight"]].any()


def parts(seed: int):
    """A model with its masking, optimizer and method."""
    model = network(seed)
    masking = gs.sparsify(model, 0.8, score="random", generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return {"model": model, "masking": masking, "optimizer": optimizer, "method": gs.SET(masking, every=1, until=99)}


@pytest.mark.parametrize(
    "order",
    [
        ("model", "masking", "optimizer", "attach"),
        ("masking", "model", "optimizer", "attach"),
        ("model", "optimizer", "attach", "masking"),
        ("attach", "optimizer", "model", "masking"),
        ("attach", "masking", "optimizer", "model"),
    ],
)
def test_state_is_restored_in_any_order(order: tuple[str, ...]) -> None:
    old, new = parts(0), parts(1)
    old["masking"].attach(old["optimizer"])
    for k in range(3):
        step(old["model"], old["optimizer"], k)
        old["method"].step()
    states = {name: copy.deepcopy(old[name].state_dict()) for name in ("model", "masking", "optimizer")}
    assert any((new["masking"].masks[n] != m).any() for n, m in old["masking"].masks.items())
    for name in order:
        if name == "attach":
            new["masking"].attach(new["optimizer"])
        else:
            new[name].load_state_dict(states[name])
    for part in (old, new):
        step(part["model"], part["optimizer"], 3)
    assert all(torch.equal(a, b) for a, b in zip(old["model"].parameters(), new["model"].parameters(), strict=True))
    assert old["masking"].sparsity == new["masking"].sparsity
    assert new["masking"].steps == 4
    for a, b in zip(old["optimizer"].state.values(), new["optimizer"].state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_models_state_dict_does_not_change_and_the_masks_have_their_own() -> None:
    model = network()
    keys = list(model.state_dict())
    masking = gs.sparsify(model, 0.8).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    assert list(model.state_dict()) == keys
    assert type(model) is nn.Sequential
    file = io.BytesIO()
    torch.save(masking.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state["counts"] == masking.counts
    assert all(torch.equal(state["masks"][name], mask) for name, mask in masking.masks.items())
    with pytest.raises(gs.InputError, match=r"differ in '2.weight'; sparsify the model with the same options"):
        gs.sparsify(network(), 0.8, exclude=("2",)).load_state_dict(state)
    with pytest.raises(gs.InputError, match=r"a mask named '0.weight' of shape \(2, 2\) fits none"):
        masking.update({"0.weight": torch.ones(2, 2)})


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_grad_scaler_skips_moves_nothing(fused: bool) -> None:
    model = network()
    masking = gs.sparsify(model, 0.8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    masking.attach(optimizer)
    method, scaler = gs.RigL(masking, every=1, until=99), torch.amp.GradScaler("cpu", init_scale=8.0)

    def scaled_step(factor: float) -> bool:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(6, 8)).float().square().mean() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return method.step()

    assert scaled_step(1.0)
    masks = dict(masking.masks)
    weights = {name: weight.clone() for name, weight in masking.weights.items()}
    assert not scaled_step(float("inf"))
    assert masking.steps == method.seen == 1
    assert all(torch.equal(masks[name], mask) for name, mask in masking.masks.items())
    assert all(torch.equal(weights[name], weight) for name, weight in masking.weights.items())
    assert scaled_step(1.0)  # the infinite gradients are forgotten
    assert masking.steps == 2
    assert_masked(masking, optimizer)


def test_a_copy_is_unattached_until_one_call() -> None:
    model = network()
    masking = gs.sparsify(model, 0.8).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters())
    copied = masking.to(twin)
    assert masking.attached
    assert not copied.attached
    assert "not attached" in str(copied)
    assert "not attached" not in str(masking)
    with pytest.raises(gs.InputError, match="not attached to an optimizer"):
        gs.RigL(copied, every=1, until=9).step()
    copied.attach(optimizer)
    step(twin, optimizer, 0)
    assert_masked(copied, optimizer)
    copied.update({name: torch.zeros_like(mask) for name, mask in copied.masks.items()})
    assert model[0].weight.any()
    assert not twin[0].weight.any()


def test_an_optimizer_of_another_model_is_refused() -> None:
    masking = gs.sparsify(network(), 0.8)
    with pytest.raises(gs.InputError, match="holds none of the masked parameters"):
        masking.attach(torch.optim.SGD(network().parameters(), lr=0.1))
    assert not masking.attached


def test_replaced_parameters_are_told() -> None:
    model = network()
    masking = gs.sparsify(model, 0.8).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    model.load_state_dict(network(1).state_dict(), assign=True)
    assert not masking.attached
    assert not model[0].weight[~masking.masks["0.weight"]].any()
    assert masking.attach(torch.optim.SGD(model.parameters(), lr=0.1)).attached
    masking.detach()
    assert not masking.attached


@pytest.mark.parametrize("distribution", ["erk", {"0": 0.5}])
def test_pickle_and_deepcopy_of_model_and_masking(distribution) -> None:
    model = network()
    masking = gs.sparsify(model, 0.8, distribution=distribution)
    masking.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    for twin in (pickle.loads(pickle.dumps(masking)), copy.deepcopy(masking)):
        assert not twin.attached
        assert twin.counts == masking.counts
        assert torch.equal(twin.model[0].weight, model[0].weight)
        twin.model.load_state_dict(network(1).state_dict())  # its own masking masks it
        assert not twin.model[0].weight[~masking.masks["0.weight"]].any()
        optimizer = torch.optim.Adam(twin.model.parameters())
        twin.attach(optimizer)
        step(twin.model, optimizer, 0)
        assert_masked(twin, optimizer)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded[0].weight, model[0].weight)
    loaded.load_state_dict(network(1).state_dict())  # a model alone has no masks to follow
    assert loaded[0].weight.all()
    assert masking.attached


def test_a_compiled_model_trains_the_same_and_compiles_once() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")  # needs no C compiler, and is quick
    plain, model = network(), network()
    compiled = torch.compile(model, backend=counter)
    moved = 0
    optimizers, methods = [], []
    for m in (plain, model):
        masking = gs.sparsify(m, 0.8)
        optimizers.append(torch.optim.AdamW(m.parameters(), lr=0.01))
        masking.attach(optimizers[-1])
        methods.append(gs.RigL(masking, every=2, until=99))
    for k in range(8):
        step(plain, optimizers[0], k)
        step(compiled, optimizers[1], k)
        moved += sum(method.step() for method in methods)
        for a, b in zip(plain.parameters(), model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert moved == 8
    assert counter.frame_count == 1
    for name, mask in methods[0].masking.masks.items():
        assert torch.equal(mask, methods[1].masking.masks[name])


def test_accumulating_gradients_grows_what_one_big_batch_would() -> None:
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(3))
    masks, gradients = [], []
    for batches in ([x], list(x.split(4))):
        model = network()
        masking = gs.sparsify(model, 0.8)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        masking.attach(optimizer)
        method = gs.RigL(masking, every=1, until=9)
        for batch in batches:
            (model(batch).square().mean() / len(batches)).backward()
        gradients.append({name: part.gradient for name, part in masking.parts.items()})
        optimizer.step()
        assert method.step()
        masks.append(masking.masks)
    for name in masks[0]:
        assert torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6)
        assert gradients[0][name].count_nonzero() > masks[0][name].sum()
        assert torch.equal(masks[0][name], masks[1][name])


def test_tied_weights_are_masked_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 6)
            self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 10)
            self.again, self.head.weight = self.inner, self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.again(self.inner(self.embedding(x))))

    model = Tied()
    assert list(gs.sparsify(copy.deepcopy(model), 0.5).masks) == ["inner.weight"]
    masking = gs.sparsify(model, 0.5, include=("inner", "embedding"))
    assert list(masking.masks) == ["inner.weight", "head.weight"]
    assert torch.equal(model.embedding.weight == 0, ~masking.masks["head.weight"])
    optimizer = torch.optim.Adam(model.parameters())
    masking.attach(optimizer)
    method = gs.RigL(masking, every=1, until=9)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(10)).square().mean().backward()
        optimizer.step()
        method.step()
        assert_masked(masking, optimizer)
    assert masking.sparsity == 0.5


@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 7}])
def test_attention_projections_are_masked(sizes: dict[str, int]) -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
    masking = gs.sparsify(model, 0.75)
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight"] if sizes else ["in_proj_weight"]
    assert list(masking.masks) == [*names, "out_proj.weight"]
    optimizer = torch.optim.AdamW(model.parameters())
    masking.attach(optimizer)
    method = gs.RigL(masking, every=1, until=9)
    q, k, v = (torch.randn(2, 3, size) for size in (8, sizes.get("kdim", 8), sizes.get("vdim", 8)))
    for _ in range(3):
        optimizer.zero_grad()
        model(q, k, v)[0].square().mean().backward()
        optimizer.step()
        assert method.step()
        assert_masked(masking, optimizer)
    assert masking.sparsity == 0.75


def test_recurrent_weights_are_masked() -> None:
    model = nn.LSTM(4, 6)
    masking = gs.sparsify(model, 0.5, distribution="uniform")
    assert masking.counts == {"weight_ih_l0": 48, "weight_hh_l0": 72}
    optimizer = torch.optim.Adam(model.parameters())
    masking.attach(optimizer)
    model(torch.randn(3, 2, 4))[0].square().mean().backward()
    optimizer.step()
    assert_masked(masking, optimizer)


def test_autocast_trains_masked() -> None:
    model = network()
    masking = gs.sparsify(model, 0.8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masking.attach(optimizer)
    method = gs.RigL(masking, every=2, until=99)
    for k in range(6):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step(model, optimizer, k)
        method.step()
        assert_masked(masking, optimizer)
    half = network().bfloat16()
    masking = gs.sparsify(half, 0.8)
    optimizer = torch.optim.SGD(half.parameters(), lr=0.1, momentum=0.9)
    masking.attach(optimizer)
    half(torch.randn(6, 8, dtype=torch.bfloat16)).square().mean().backward()
    optimizer.step()
    assert_masked(masking, optimizer)
    assert half[0].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("averaging", [{}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}])
def test_an_averaged_copy_is_masked_by_the_current_topology(averaging) -> None:
    model = network()
    masking, average = gs.sparsify(model, 0.8), AveragedModel(model, **averaging)
    for _ in range(2):
        masking.update({name: torch.rand(mask.shape) < 0.2 for name, mask in masking.masks.items()})
        with torch.no_grad():
            for name, weight in masking.weights.items():
                weight[masking.masks[name]] = 1
        average.update_parameters(model)
    assert average.module[0].weight[~masking.masks["0.weight"]].any()  # the union of two topologies
    masking.apply(average.module)
    assert torch.equal(average.module[0].weight != 0, masking.masks["0.weight"])


def test_frozen_layers_keep_their_masks_and_stay_true_when_they_thaw() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    masking = gs.sparsify(model, 0.8)
    assert not model[0].weight.requires_grad
    optimizer = torch.optim.Adam(model.parameters())
    masking.attach(optimizer)
    assert not model[0].weight.requires_grad
    method, frozen = gs.RigL(masking, every=1, until=99), masking.masks["0.weight"].clone()
    step(model, optimizer, 0)
    assert method.step()
    assert torch.equal(masking.masks["0.weight"], frozen)
    model[0].weight.requires_grad_(True)
    step(model, optimizer, 1)
    assert method.step()
    assert not torch.equal(masking.masks["0.weight"], frozen)
    assert_masked(masking, optimizer)


def test_masks_follow_the_model_to_its_device() -> None:
    model = network()
    masking = gs.sparsify(model, 0.8).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    model.to("meta")
    masking.apply()
    assert {mask.device.type for mask in masking.masks.values()} == {"meta"}


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 3, groups=2),
        nn.ConvTranspose2d(12, 4, 3),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def test_what_stays_dense_by_default_and_the_table_says_so() -> None:
    model = convolutional()
    table = str(gs.sparsify(model, 0.5, distribution="uniform"))
    dead = {name: float((p == 0).float().mean()) for name, p in model.named_parameters() if p.dim() > 1}
    expected = {"0.weight": 0, "1.weight": 0, "2.weight": 0.5, "3.weight": 0.5, "5.weight": 0.5}
    assert dead == expected
    assert "dense: first convolution" in table
    assert "dense: depthwise convolution" in table
    assert "sparsity 50.00%" in table
    lines = [line for line in table.splitlines() if "5.weight" in line]
    assert len(lines) == 1
    assert "10 × 16" in lines[0]
    assert lines[0].count("50.00%") == 2


def test_include_and_exclude_by_glob() -> None:
    masking = gs.sparsify(convolutional(), 0.5, include=("*",), exclude=("5",))
    assert list(masking.masks) == ["0.weight", "1.weight", "2.weight", "3.weight"]
    assert "dense: excluded" in str(masking)
    assert list(gs.sparsify(convolutional(), 0.5, include=("[01]",)).masks) == ["0.weight", "1.weight"]
    assert list(gs.sparsify(nn.Linear(4, 4), 0.5).masks) == ["weight"]


def test_the_table_states_asked_and_measured() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    table = str(gs.sparsify(model, 0.77, pattern=gs.Block(5, 2), distribution="uniform"))
    lines = [line for line in table.splitlines() if "weight" in line and "×" in line]
    assert all("77.00%" in line and "80.00%" in line and "Block(out=5, in_=2)" in line for line in lines)
    assert len(lines) == 2


def test_targets_per_layer() -> None:
    masking = gs.sparsify(network(), 0.5, distribution={"0": 0.75})
    assert masking.counts == {"0.weight": 32, "2.weight": 32}


def test_channels_never_take_a_class() -> None:
    for include in (None, ("*",), ("2",)):
        try:
            masking = gs.sparsify(network(), 0.75, pattern=gs.Channel(), include=include)
        except gs.InputError as error:
            assert include == ("2",)  # the last layer alone
            assert "no layer of the model can be sparse" in str(error)
        else:
            assert list(masking.masks) == ["0.weight"]
            assert int(masking.masks["0.weight"].all(1).sum()) == 4
            assert "last layer: its channels are classes" in str(masking)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.sparsify(network(), 1.0), "sparsity is 1.0; it must be in"),
        (lambda: gs.sparsify(network(), -0.1), "sparsity is -0.1"),
        (lambda: gs.sparsify(network(), 0.9, pattern=gs.NofM(2, 4)), r"fixes its sparsity at 0.5, but 0.9 was asked"),
        (lambda: gs.sparsify(network(), 0.5, pattern=gs.NofM(2, 4), distribution={"0": 0.0}), "one sparsity only"),
        (lambda: gs.sparsify(network(), 0.5, pattern="2:4"), r"pattern is '2:4' \(str\); it must be a pattern object"),
        (
            lambda: gs.sparsify(network(), 2 / 3, pattern=gs.NofM(1, 3)),
            r"0.weight: a weight of shape \(16, 8\) has 8 inputs",
        ),
        (lambda: gs.sparsify(network(), 0.5, include=("fc",)), "glob 'fc' matches no layer .* are: 0, 2"),
        (lambda: gs.sparsify(network(), 0.5, exclude=("fc*",)), r"glob 'fc\*' matches no layer"),
        (lambda: gs.sparsify(convolutional(), 0.5, include=("4",)), "glob '4' matches no layer"),
        (lambda: gs.sparsify(nn.Sequential(nn.ReLU()), 0.5), "no layer of the model can be sparse"),
        (lambda: gs.sparsify(nn.Sequential(nn.Conv2d(3, 4, 3)), 0.5), "no layer of the model can be sparse"),
        (lambda: gs.sparsify(nn.Sequential(nn.LazyLinear(3)), 0.5), "0.weight has no shape yet"),
        (lambda: gs.sparsify(network(), 0.8).prune("magnitude", 0.5), "sparsity is 0.5, below the present 0.8"),
        (lambda: gs.sparsify(network(), 0.8).prune("magnitude", 1.5), "sparsity is 1.5"),
        (lambda: gs.sparsify(network(), 0.8, pattern=gs.Block(3, 1)).prune("magnitude", 0.5), "below the present 0.8"),
        (lambda: gs.sparsify(network(), "0.8"), "sparsity is '0.8'"),
        (lambda: gs.sparsify(broken(), 0.8, distribution="uniform"), "2.weight: the scores hold NaN"),
        (lambda: gs.sparsify(network(), 0.8, score=gs.SynFlow(torch.ones(1, 8), iterations=0)), "iterations .* is 0"),
        (lambda: gs.sparsify(network(), 0.5, exclude="fc"), "glob 'fc' matches no layer"),
        (lambda: gs.sparsify(network(), 0.5).load_state_dict({}), "not that of a masking"),
        (lambda: gs.sparsify(model := network(), 0.5).apply(AveragedModel(model)), r"average\.module"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        make()


def test_pruning_with_a_score_of_iterations_takes_them_all() -> None:
    start, flow = network(), gs.SynFlow(torch.ones(1, 8), iterations=20)
    at_once = gs.sparsify(copy.deepcopy(start), 0.95, score=flow, distribution="global")
    later = gs.sparsify(copy.deepcopy(start), 0.0, distribution="global")
    later.prune(flow, 0.95)
    assert all(torch.equal(later.masks[name], mask) for name, mask in at_once.masks.items())


def test_new_masks_are_what_is_asked_from_then_on() -> None:
    model = network()
    masking, sparser = gs.sparsify(model, 0.5), gs.sparsify(network(), 0.9)
    masking.update(sparser.masks)
    assert masking.counts == sparser.counts
    assert str(masking).count("92.19%") == 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = gs.SET(masking.attach(optimizer), every=1, until=9)
    step(model, optimizer, 0)
    assert method.step()
    assert masking.sparsity == sparser.sparsity


def test_an_optimizer_that_lacks_a_masked_layer_is_refused() -> None:
    model = network()
    masking = gs.sparsify(model, 0.5)
    with pytest.raises(gs.InputError, match=r"does not hold 2\.weight, which is masked"):
        masking.attach(torch.optim.SGD(model[0].parameters(), lr=0.1))
    model[2].requires_grad_(False)
    assert masking.attach(torch.optim.SGD(model[0].parameters(), lr=0.1)).attached


def test_pruning_wakes_no_neuron_that_is_dead() -> None:
    model = network()
    masking = gs.sparsify(model, 0.5, pattern=gs.FanIn())
    mask = masking.masks["0.weight"].clone()
    mask[:4] = False
    masking.update({"0.weight": mask})
    masking.prune("magnitude", 0.75)
    assert not masking.masks["0.weight"][:4].any()
    assert not (masking.masks["0.weight"] & ~mask).any()
    assert len(set(masking.masks["0.weight"][4:].sum(1).tolist())) == 1


def test_weights_edited_after_loading_stay_edited() -> None:
    model = network()
    masking = gs.sparsify(model, 0.5)
    model.load_state_dict(network().state_dict())
    with torch.no_grad():
        model[0].weight.mul_(2)
    masking.prune("magnitude", 0.75)
    assert torch.equal(model[0].weight, 2 * network()[0].weight * masking.masks["0.weight"])


def test_a_batch_that_was_dropped_leaves_nothing_behind() -> None:
    model = network()
    masking = gs.sparsify(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = gs.RigL(masking.attach(optimizer), every=1, until=9)
    (model(torch.ones(2, 8)) * torch.nan).sum().backward()
    step(model, optimizer, 0)  # zeroes the gradients first
    assert all(part.gradient is not None and part.gradient.isfinite().all() for part in masking.masked.values())
    assert method.step()


def test_masks_of_a_file_find_a_tied_weight_by_its_other_name(tmp_path) -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8, bias=False))
    model[1].weight = model[0].weight
    masking = gs.sparsify(model, 0.5, include=("1",))
    gs.save(model, tmp_path / "model", masks=masking.masks)
    assert list(masking.masks) == ["1.weight"]
    masks = gs.load(tmp_path / "model", model)
    assert list(masks) == ["0.weight"]
    masking.update(masks)
    assert torch.equal(masking.masks["1.weight"], masks["0.weight"])


def test_sparsity_zero_leaves_everything() -> None:
    model = network()
    masking = gs.sparsify(model, 0.0)
    assert masking.sparsity == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), network().parameters(), strict=True))


def test_random_pruning_after_training_takes_no_notice_of_the_weights() -> None:
    first, second = network(), network(1)
    for model in (first, second):
        gs.sparsify(model, 0.7, score="random", generator=torch.Generator().manual_seed(5))
    assert torch.equal(first[0].weight == 0, second[0].weight == 0)
    other = network()
    gs.sparsify(other, 0.7, score="random", generator=torch.Generator().manual_seed(6))
    assert not torch.equal(first[0].weight == 0, other[0].weight == 0)


@pytest.mark.parametrize("score", ["random", "magnitude"])
@pytest.mark.parametrize("distribution", ["uniform", "er", "erk", "global", "lamp"])
@pytest.mark.parametrize("pattern", [gs.Unstructured(), gs.Block(2, 1), gs.Block(2, 2)])
def test_pruning_in_steps_wakes_nothing_and_ends_where_asked(score: str, distribution: str, pattern) -> None:
    generator = torch.Generator().manual_seed(0)
    masking = gs.sparsify(network(), 0.5, score=score, distribution=distribution, pattern=pattern, generator=generator)
    before = {name: mask.clone() for name, mask in masking.masks.items()}
    for sparsity in (0.6, 0.7, 0.8125):
        masking.prune(score, sparsity, generator)
        for name, mask in masking.masks.items():
            assert not (mask & ~before[name]).any()
            before[name] = mask.clone()
    assert sum(masking.counts.values()) == 36
    assert masking.sparsity == pytest.approx(0.8125, abs=0 if pattern == gs.Unstructured() else 4.1 / 192)
