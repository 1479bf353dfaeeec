import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.distributions import DISTRIBUTIONS, distribution, lamp


def layers(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def test_uniform_rounds_to_the_overall_count_by_the_largest_remainder() -> None:
    scores = layers(a=(5, 5), b=(3, 5), c=(2, 5))  # a quarter of 25, 15 and 10: 6.25, 3.75, 2.5, in all 12 of 12.5
    assert distribution("uniform")(scores, 0.75) == {"a": 6, "b": 4, "c": 2}


def test_erdos_renyi_by_hand() -> None:
    scores = layers(a=(10, 40), b=(10, 10))  # (out + in) / (out · in) gives shares 50 : 20 of 140 kept
    assert distribution("er")(scores, 0.72) == {"a": 100, "b": 40}
    # Kernel sides do not count, but the weights do: shares 50 · 9 : 20 of 1036, of which b takes 44.1.
    assert distribution("er")(layers(a=(10, 40, 3, 3), b=(10, 10)), 0.72) == {"a": 992, "b": 44}


def test_erk_counts_the_kernel() -> None:
    scores = layers(a=(8, 4, 3, 3), b=(10, 10))  # shares 8 + 4 + 3 + 3 = 18 and 20 of 38 kept
    assert distribution("erk")(scores, 1 - 38 / 388) == {"a": 18, "b": 20}


def test_erk_caps_layers_exactly() -> None:
    # Shares (sum of sides) a: 4, b: 8, c: 40. 200 of 420 kept: ε = 200 / 52, so a (4 weights) would get 15 and is
    # capped; then ε = 196 / 48 gives b (16 weights) 33, capped; then c takes all that is left, 200 − 4 − 16 = 180.
    scores = layers(a=(2, 2), b=(4, 4), c=(20, 20))
    assert distribution("erk")(scores, 1 - 200 / 420) == {"a": 4, "b": 16, "c": 180}


def test_erk_keeps_everything_at_sparsity_zero() -> None:
    assert distribution("erk")(layers(a=(2, 2), b=(20, 20)), 0.0) == {"a": 4, "b": 400}


def test_global_ranks_all_layers_together() -> None:
    scores = {"a": torch.tensor([[1.0, 9.0], [8.0, 7.0]]), "b": torch.tensor([[2.0, 3.0]])}
    assert distribution("global")(scores, 0.5) == {"a": 3, "b": 0}


def test_global_does_not_overflow_double_scores() -> None:
    scores = {"a": torch.tensor([[1e200, 1e100]], dtype=torch.float64), "b": torch.tensor([[1e150, 0.0]])}
    assert distribution("global")(scores, 0.5)["a"] == 1


def test_lamp_by_hand() -> None:
    # a: squares 1, 4, 9, 16 over the sums of those no smaller: 1/30, 4/29, 9/25, 1. b: 1/5, 1. Best three: 1, 1, 9/25.
    scores = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[1.0, 2.0]])}
    assert lamp(scores, 0.5) == {"a": 2, "b": 1}
    assert lamp(scores, 1 / 3) == {"a": 2, "b": 2}  # then 1/5 before 4/29


def test_lamp_refuses_scores_below_zero() -> None:
    with pytest.raises(gs.InputError, match="scores of a are below zero"):
        lamp({"a": torch.tensor([[-1.0, 2.0]])}, 0.5)


def test_dead_weights_make_no_room() -> None:
    dead = torch.tensor([[-torch.inf, -torch.inf, -torch.inf, 1.0]])
    for name in DISTRIBUTIONS:
        counts = distribution(name)({"a": dead, "b": torch.rand(1, 4) + 1}, 0.5)
        assert counts["a"] <= 1
        assert sum(counts.values()) == 4
        assert distribution(name)({"a": dead, "b": dead}, 0.5) == {"a": 1, "b": 1}


def test_targets_by_glob_over_module_names() -> None:
    scores = {f"{name}.weight": torch.ones(10, 10) for name in ("layer4.0.conv1", "layer4.0.conv2", "fc", "layer1")}
    counts = distribution({"layer4.*.conv1": 0.99, "layer4.*": 0.95, "fc": 0.0})(scores, 0.5)
    assert list(counts.values()) == [1, 5, 100, 50]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ({"layer9.*": 0.5}, "'layer9.*', which matches none of fc"),
        ({"fc": 1.0}, "the sparsity of 'fc' in distribution is 1.0"),
        ("erdos", "distribution is 'erdos'; choose one of uniform, er, erk, global, lamp"),
    ],
)
def test_what_cannot_be_is_named(name, message: str) -> None:
    with pytest.raises(gs.InputError, match=message.replace("*", r"\*")):
        distribution(name)({"fc.weight": torch.ones(2, 2)}, 0.5)


@given(
    st.sampled_from(list(DISTRIBUTIONS)),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=5),
    st.floats(0, 0.999),
    st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
def test_counts_add_up_and_fit(name, shapes, sparsity, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {str(k): torch.randint(4, shape, generator=generator).float() for k, shape in enumerate(shapes)}
    counts = distribution(name)(scores, sparsity)
    assert sum(counts.values()) == round((1 - sparsity) * sum(s.numel() for s in scores.values()))
    assert all(0 <= counts[layer] <= s.numel() for layer, s in scores.items())
    if name == "erk":  # densities of layers not capped are in proportion to the sides' sum over the weights
        free = [layer for layer, s in scores.items() if counts[layer] < s.numel()]
        epsilon = [(counts[layer] - 1, counts[layer] + 1, sum(scores[layer].shape)) for layer in free]
        assert all(low_a * b < high_b * a for low_a, _, a in epsilon for _, high_b, b in epsilon)
