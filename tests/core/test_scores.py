import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import gossamer as gs
from gossamer.patterns import Pattern
from gossamer.scores import Score, score

# One layer W, one input x: W x = (−10, 8), errors e = W x − y = (2, 1), and the gradient of ½ |e|² is g = e xᵀ.
W = torch.tensor([[1.0, -2, 3, -4], [2, 1, -1, 3]])
X = torch.tensor([[1.0, 2, -1, 1]])
Y = torch.tensor([[-12.0, 7]])
G = torch.tensor([[2.0, 4, -2, 2], [1, 2, -1, 1]])


def linear() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(W)
    return model


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum() / 2


def scored(criterion: str | Score, model: nn.Module, *names: str) -> dict[str, Tensor]:
    return score(criterion)(model, {name: model.get_parameter(name) for name in names}, None)


BATCHES = [(X, Y)]
CRITERIA: dict[str, tuple[Callable[[], Any], list[list[float]]]] = {
    "magnitude": (lambda: "magnitude", [[1, 2, 3, 4], [2, 1, 1, 3]]),
    "snip": (lambda: gs.SNIP(BATCHES, squared), [[2, 8, 6, 8], [2, 2, 1, 3]]),
    "taylor": (lambda: gs.Taylor(BATCHES, squared), [[4, 64, 36, 64], [4, 4, 1, 9]]),
    "fisher": (lambda: gs.Fisher(BATCHES, squared), [[2, 32, 18, 32], [2, 2, 0.5, 4.5]]),
    "movement": (lambda: gs.Movement(BATCHES, squared), [[-2, 8, 6, 8], [-2, -2, -1, -3]]),
    # H = x xᵀ for each row, so H g = |x|² g = 7 g.
    "grasp": (lambda: gs.GraSP(BATCHES, squared), [[14, -56, -42, -56], [14, 14, 7, 21]]),
    "synflow": (lambda: gs.SynFlow(X), [[1, 2, 3, 4], [2, 1, 1, 3]]),
    "wanda": (lambda: gs.Wanda([X]), [[1, 4, 3, 4], [2, 2, 1, 3]]),
}
PATTERNS = {
    "unstructured": gs.Unstructured(),
    "2:4": gs.NofM(2, 4),
    "block": gs.Block(2, 1),
    "fan-in": gs.FanIn(),
    "channel": gs.Channel(),
}
BY_SIZE = {  # what the scores that rank as |w · g| does have in common
    "unstructured": "0111 0001",
    "2:4": "0101 1001",
    "block": "0101 0101",
    "fan-in": "0101 1001",
    "channel": "1111 0000",
}
BY_MAGNITUDE = {**BY_SIZE, "2:4": "0011 1001", "block": "0011 0011", "fan-in": "0011 1001"}
MASKS: dict[str, dict[str, str]] = {
    "magnitude": BY_MAGNITUDE,
    "synflow": BY_MAGNITUDE,
    "snip": BY_SIZE,
    "taylor": BY_SIZE,
    "fisher": BY_SIZE,
    "wanda": BY_SIZE,
    "movement": {
        **BY_SIZE,
        "unstructured": "0111 0010",
        "2:4": "0101 1010",
        "block": "0110 0110",
        "fan-in": "0101 1010",
    },
    "grasp": {
        "unstructured": "1000 1101",
        "2:4": "1010 1001",
        "block": "1010 1010",
        "fan-in": "1010 1001",
        "channel": "0000 1111",
    },
}


@pytest.mark.parametrize("name", CRITERIA)
def test_scores_worked_out_by_hand(name: str) -> None:
    make, expected = CRITERIA[name]
    found = scored(make(), linear(), "0.weight")["0.weight"]
    assert torch.equal(found.double(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", CRITERIA)
def test_masks_of_four_worked_out_by_hand(name: str, pattern: str) -> None:
    scores = scored(CRITERIA[name][0](), linear(), "0.weight")["0.weight"]
    mask = PATTERNS[pattern].mask(scores, 4)
    assert " ".join("".join(str(int(alive)) for alive in row) for row in mask) == MASKS[name][pattern]


@pytest.mark.parametrize("pattern", [pattern for name, pattern in PATTERNS.items() if name != "channel"])
@pytest.mark.parametrize("name", CRITERIA)
def test_sparsify_keeps_what_the_score_and_the_pattern_say(name: str, pattern: Pattern) -> None:
    make, expected = CRITERIA[name]
    model = linear()
    criterion = make() if name != "synflow" else gs.SynFlow(X, iterations=1)
    masking = gs.sparsify(model, 0.5, pattern=pattern, score=criterion)
    assert torch.equal(masking.masks["0.weight"], pattern.mask(torch.tensor(expected), 4))
    assert torch.equal(model[0].weight, W * masking.masks["0.weight"])


def test_random_scores_are_the_generators_in_the_order_of_the_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    weights = {name: model.get_parameter(name) for name in ("0.weight", "1.weight")}
    found = score("random")(model, weights, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(found["0.weight"], torch.rand(2, 3, generator=generator))
    assert torch.equal(found["1.weight"], torch.rand(2, 2, generator=generator))


def test_what_is_averaged_over_batches() -> None:
    # Two batches whose gradients are G and −3 G, for e = (−6, −3).
    batches = [(X, Y), (X, torch.tensor([[-4.0, 11]]))]
    model, wg = linear(), W * G
    assert torch.equal(scored(gs.SNIP(batches, squared), model, "0.weight")["0.weight"], wg.abs())  # |w · (g − 3g) / 2|
    assert torch.equal(scored(gs.Movement(batches, squared), model, "0.weight")["0.weight"], wg)
    assert torch.equal(scored(gs.Taylor(batches, squared), model, "0.weight")["0.weight"], 5 * wg.square())
    assert torch.equal(scored(gs.Fisher(batches, squared), model, "0.weight")["0.weight"], 2.5 * wg.square())
    assert torch.equal(scored(gs.GraSP(batches, squared), model, "0.weight")["0.weight"], -7 * wg)
    found = scored(gs.Wanda([X, 2 * X]), model, "0.weight")["0.weight"]
    assert torch.allclose(found, W.abs() * X.abs() * 5**0.5)


def test_fisher_is_of_examples_where_taylor_is_of_batches() -> None:
    both = (torch.cat([X, X]), torch.tensor([[-12.0, 7], [-4.0, 11]]))
    model, wg = linear(), W * G
    assert torch.equal(scored(gs.Taylor([both], squared), model, "0.weight")["0.weight"], 4 * wg.square())
    expected = 2.5 * wg.square()
    assert torch.equal(scored(gs.Fisher([both], squared), model, "0.weight")["0.weight"], expected)

    def by_name(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return squared(model, (batch["x"], batch["y"][0]))

    named = [{"x": both[0], "y": [both[1]]}]
    assert torch.equal(scored(gs.Fisher(named, by_name), model, "0.weight")["0.weight"], expected)
    with pytest.raises(gs.InputError, match="a batch holds a str"):
        scored(gs.Fisher([(X, "label")], squared), model, "0.weight")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def regression(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return mse_loss(model(batch[0]), batch[1])


def test_grasp_is_w_times_the_hessian_times_the_gradient() -> None:
    model, batches = small(), [(torch.randn(5, 3), torch.randn(5, 2)) for _ in range(3)]
    names = ("0.weight", "2.weight")
    weights = tuple(model.get_parameter(name).detach() for name in names)

    def loss(*values: Tensor) -> Tensor:
        state = {**dict(model.named_parameters()), **dict(zip(names, values, strict=True))}
        outputs = [torch.func.functional_call(model, state, (x,)) for x, _ in batches]
        return sum(mse_loss(o, y) for o, (_, y) in zip(outputs, batches, strict=True)) / len(batches)

    g = torch.autograd.functional.vjp(loss, weights)[1]
    hg = torch.autograd.functional.hvp(loss, weights, g)[1]
    found = scored(gs.GraSP(batches, regression), model, *names)
    for name, w, h in zip(names, weights, hg, strict=True):
        assert torch.allclose(found[name], w * h, atol=1e-6)


def test_grasp_keeps_what_carries_the_gradients_norm() -> None:
    """Removing a little of the weight with the highest score lowers |g|²; of that with the lowest, raises it."""
    model, batch = small(), (torch.randn(8, 3), torch.randn(8, 2))
    scores = scored(gs.GraSP([batch], regression), model, "0.weight")["0.weight"].flatten()
    weight = model[0].weight

    def norm() -> float:
        return float(torch.autograd.grad(regression(model, batch), weight)[0].square().sum())

    before, weights = norm(), weight.detach().view(-1)
    for index, sign in ((int(scores.argmax()), -1), (int(scores.argmin()), 1)):
        value = float(weights[index])
        weights[index] = value * (1 - 1e-2)
        assert (norm() - before) * sign > 0
        weights[index] = value


def test_synflow_by_hand_over_two_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2], [3, 4]]))
        model[0].bias.copy_(torch.tensor([-1.0, 0]))
        model[2].weight.copy_(torch.tensor([[5.0, -6]]))
    found = scored(gs.SynFlow(torch.randn(7, 2)), model, "0.weight", "2.weight")
    assert found["0.weight"].tolist() == [[5, 10], [18, 24]]  # |v_i| · |w_ij|
    assert found["2.weight"].tolist() == [[5 * 4, 6 * 7]]  # |v_i| · (|b_i| + Σ_j |w_ij|)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_synflow_conserves_flow_and_layers_where_one_shot_would_not() -> None:
    torch.manual_seed(0)
    widths = [20, 200, 10, 200, 5]
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))
    names = [f"{k}.weight" for k in range(4)]
    flows = [float(s.sum()) for s in scored(gs.SynFlow(torch.ones(1, 20)), model, *names).values()]
    assert flows == pytest.approx([flows[0]] * 4)
    masking = gs.sparsify(model, 0.99, score=gs.SynFlow(torch.ones(1, 20)), distribution="global")
    assert all(mask.any() for mask in masking.masks.values())
    assert sum(int(mask.sum()) for mask in masking.masks.values()) == 90  # 1% of 4000 + 2000 + 2000 + 1000


def test_wanda_of_grouped_convolutions_sees_each_groups_channels() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 1, groups=2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1)
    x = torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    found = scored(gs.Wanda([x, x]), model, "0.weight")["0.weight"]
    assert torch.allclose(found.flatten(1), torch.tensor([[1.0, 2], [3, 4]]) * 2**0.5)
    assert torch.equal(
        scored(gs.Wanda([x[0]]), model, "0.weight")["0.weight"].flatten(1), torch.tensor([[1.0, 2], [3, 4]])
    )


def test_scores_leave_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = [(torch.randn(5, 3), torch.randn(5, 2))]
    criteria = [s(batches, regression) for s in (gs.SNIP, gs.GraSP, gs.Taylor, gs.Fisher, gs.Movement)]
    for criterion in (*criteria, gs.Wanda([batches[0][0]]), gs.SynFlow(batches[0][0])):
        assert scored(criterion, model, "0.weight", "3.weight")["0.weight"].any()
        assert scored(criterion, model, "0.weight")["0.weight"].isfinite().all()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert [module.training for module in model] == [True, False, True, True]
        assert not model[0].weight.requires_grad
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (lambda: gs.SNIP(iter([]), squared), "SNIP got no batches"),
        (lambda: gs.GraSP([], squared), "GraSP got no batches"),
        (lambda: gs.Wanda([]), "Wanda saw no input of 0.weight"),
        (lambda: gs.Taylor([(X * torch.nan, Y)], squared), "Taylor gives scores of 0.weight that are not finite"),
        (lambda: gs.SNIP(BATCHES, lambda model, batch: batch[0].sum().requires_grad_()), "does not depend on 0.weight"),
        (lambda: "importance", "score is 'importance'; choose 'magnitude' or 'random'"),
        (lambda: gs.SNIP, "pass a name, or a score object"),
    ],
)
def test_what_cannot_be_is_named(criterion, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        scored(criterion(), linear(), "0.weight")


def test_wanda_refuses_weights_whose_inputs_it_cannot_see() -> None:
    with pytest.raises(gs.InputError, match="the inputs of weight_hr_l0 in a LSTM cannot be seen"):
        scored(gs.Wanda([torch.ones(1, 2, 3)]), nn.LSTM(3, 4, proj_size=2), "weight_hr_l0")


def test_grasp_differentiates_attention_twice() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.randn(4, 5, 8)
    scores = scored(gs.GraSP([x], lambda model, batch: model(batch).square().mean()), model, "self_attn.in_proj_weight")
    assert scores["self_attn.in_proj_weight"].any()


def test_synflow_knows_a_tied_weight_by_any_of_its_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    one, other = (scored(gs.SynFlow(torch.ones(1, 3)), model, name)[name] for name in ("0.weight", "1.weight"))
    assert torch.equal(one, other)
    flow = model[0].weight.detach().abs().double()  # R = Σ |W| |W| 1
    assert torch.allclose(one, flow * (flow.sum(1)[None, :] + flow.sum(0)[:, None]))


def test_a_file_in_the_folder_is_all_that_a_plain_name_needs(tmp_path: Path) -> None:
    shutil.copytree(Path(str(gs.__file__)).parent, tmp_path / "gossamer", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "gossamer/scores/smallness.py").write_text(
        "from gossamer.scores.score import Score\n\n\nclass Smallness(Score, name='smallness'):\n"
        "    def __call__(self, model, weights, generator):\n"
        "        return {name: -w.detach().abs() for name, w in weights.items()}\n"
    )
    code = "import gossamer as gs, torch; model = torch.nn.Linear(4, 2); model.weight.data[0] = 9\n"
    code += "gs.sparsify(model, 0.5, score='smallness', include=('*',)); print(model.weight.count_nonzero(1).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert done.stdout.split() == [b"[0,", b"4]"], done.stderr
