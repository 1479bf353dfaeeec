"""What others add is checked where it is called: a part that answers wrongly is named, and nothing has changed."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def scoring(answer: Any) -> gs.Score:
    class Mine(gs.Score):
        def __call__(self, model: nn.Module, weights: Any, generator: Any) -> Any:
            return answer(weights)

    return Mine()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda weights: None, "what Mine gives is a NoneType"),
        (lambda weights: {}, r"Mine gives a NoneType for 0.weight; it must give a tensor \(16, 8\)"),
        (lambda weights: {n: w[:1] for n, w in weights.items()}, r"Mine gives a tensor \(1, 8\) for 0.weight"),
    ],
)
def test_a_score_of_another_shape_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.sparsify(network(), 0.5, score=scoring(answer))
    masking = gs.sparsify(network(), 0.5)
    with pytest.raises(gs.InputError, match=message):
        masking.prune(scoring(answer), 0.9)
    assert masking.sparsity == 0.5


def test_a_score_s_plain_name_is_its_own() -> None:
    with pytest.raises(gs.InputError, match="name is 'magnitude', which is Magnitude's already"):

        class Other(gs.Score, name="magnitude"):
            pass

    model = network()
    masking = gs.sparsify(model, 0.5, score="magnitude")
    assert masking.masks["0.weight"][model[0].weight.abs() == model[0].weight.abs().max()].all()


@dataclass(frozen=True)
class Fixed(gs.Pattern):
    answer: Any = None

    def _mask(self, scores: Tensor, count: int) -> Any:
        return self.answer(scores)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda scores: None, "makes a mask that is a NoneType"),
        (lambda scores: scores, r"torch.float32 \(16, 8\); it must be a boolean \(16, 8\)"),
        (lambda scores: scores.T > 0, r"torch.bool \(8, 16\); it must be a boolean \(16, 8\)"),
    ],
)
def test_a_pattern_s_mask_of_another_kind_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.sparsify(network(), 0.5, pattern=Fixed(answer))


def moving(**hooks: Any) -> gs.Method:
    """A method with hooks of one's own, due at its first step, on a masking that is attached."""
    masking = gs.sparsify(network(), 0.5)
    optimizer = torch.optim.SGD(masking.model.parameters(), 0.1)
    masking.attach(optimizer)
    own = {"growth": lambda self, name, count: count // 4, "grow_scores": lambda self, name: torch.rand(SHAPES[name])}
    method = type("Mine", (gs.Method,), own | hooks)(masking, every=1, until=9)
    masking.model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    return method


SHAPES = {"0.weight": (16, 8), "2.weight": (4, 16)}


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"counts": lambda self: {n: c // 2 for n, c in self.masking.counts.items()}}, "Mine.counts gives"),
        ({"counts": lambda self: None}, "what Mine.counts gives is a NoneType"),
        ({"growth": lambda self, name, count: 1.5}, "what Mine.growth gives for 0.weight is 1.5"),
        (
            {"drop_scores": lambda self, name: torch.ones(1, 8)},
            r"Mine.drop_scores gives a tensor \(1, 8\) for",
        ),
        ({"grow_scores": lambda self, name: None}, "Mine.grow_scores gives a NoneType for 0.weight"),
        ({"new_mask": lambda self, name, count: torch.ones(SHAPES[name])}, "Mine.new_mask gives torch.float32"),
        ({"new_mask": lambda self, name, count: torch.ones(2).bool()}, r"Mine.new_mask gives a tensor \(2,\)"),
    ],
)
def test_a_method_s_hook_that_answers_wrongly_is_named_and_nothing_moves(hooks: Any, message: str) -> None:
    method = moving(**hooks)
    before = {name: mask.clone() for name, mask in method.masking.masks.items()}
    with pytest.raises(gs.InputError, match=message):
        method.step()
    assert all(mask.equal(before[name]) for name, mask in method.masking.masks.items())


def test_a_method_s_hooks_are_called() -> None:
    method = moving()
    before = {name: mask.clone() for name, mask in method.masking.masks.items()}
    assert method.step()
    assert not method.masking.masks["0.weight"].equal(before["0.weight"])
    assert method.masking.sparsity == 0.5
