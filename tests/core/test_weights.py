import torch
from torch import nn

import gossamer as gs
from gossamer.weights import Masked, Stored, moments, stores_sparsely

MASK = torch.tensor([[True, False, True], [False, False, True]])


def masked() -> tuple[nn.Linear, Masked]:
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    part = Masked(model, "weight")
    part.adopt(MASK)
    return model, part


def stored() -> tuple[nn.Sequential, Stored]:
    model = nn.Sequential(gs.nn.SparseLinear(torch.tensor([[1.0, 2, 3], [4, 5, 6]]), MASK))
    return model, Stored(model, "0.weight")


def test_applying_zeroes_the_dead_of_the_model_or_of_another_and_leaves_minus_zero() -> None:
    model, part = masked()
    other = nn.Linear(3, 2, bias=False)
    nn.init.ones_(other.weight)
    with torch.no_grad():
        model.weight[0, 1] = -0.0
    part.apply()
    part.apply(other)
    assert model.weight.tolist() == [[1, 0, 3], [0, 0, 6]]
    assert model.weight[0, 1].signbit()
    assert torch.equal(other.weight != 0, MASK)


def test_what_wakes_by_a_move_starts_at_zero_with_fresh_moments() -> None:
    model, part = masked()
    part.apply()
    state = {"step": torch.tensor(3.0), "average": torch.full((2, 3), 7.0), "text": "none of ours"}
    state["average"][0, 1] = 9
    part.move(torch.tensor([[True, True, False], [False, False, True]]), state)
    assert model.weight.tolist() == [[1, 0, 0], [0, 0, 6]]
    assert state["average"].tolist() == [[7, 9, 0], [0, 0, 7]]
    assert [id(value) for value in moments(state, model.weight)] == [id(state["average"])]


def test_weights_that_were_loaded_wait_for_their_own_mask_until_a_step() -> None:
    for steps, expected in ((0, [[0, 2, 0], [4, 0, 0]]), (1, [[0, 0, 0], [0, 0, 0]])):
        model, part = masked()
        part.loaded()
        assert model.weight.tolist() == [[1, 0, 3], [0, 0, 6]]
        assert part.fits(torch.ones(2, 3, dtype=torch.bool)) and not part.fits(MASK)
        with torch.no_grad():
            for _ in range(steps):
                part.stepped()
        part.move(torch.tensor([[False, True, False], [True, False, False]]), {})
        assert model.weight.tolist() == expected


def test_a_collected_gradient_is_dense_and_summed_while_the_weights_own_is_masked() -> None:
    model, part = masked()
    handles = part.watch()
    part.collect(True)
    for factor in (1.0, 2.0):
        (model.weight * torch.arange(6.0).reshape(2, 3) * factor).sum().backward()
    assert model.weight.grad.tolist() == [[0, 0, 6], [0, 0, 15]]
    assert part.gradient.tolist() == [[0, 3, 6], [9, 12, 15]]
    part.collect(False)
    assert part.gradient is None
    for handle in handles:
        handle.remove()
    (model.weight * 1.0).sum().backward()
    assert model.weight.grad.all()


def test_a_frozen_parameter_is_watched_for_when_it_thaws() -> None:
    model, part = masked()
    model.weight.requires_grad_(False)
    part.watch()
    assert not model.weight.requires_grad
    model.weight.requires_grad_(True)
    model.weight.sum().backward()
    assert model.weight.grad.tolist() == MASK.float().tolist()


def test_sparse_storage_offers_the_same_and_moves_moments_along() -> None:
    model, part = stored()
    assert stores_sparsely(model[0]) and not stores_sparsely(nn.Linear(1, 1))
    assert torch.equal(part.mask, MASK)
    assert part.weight.tolist() == [[1, 0, 3], [0, 0, 6]]
    state = {"average": torch.tensor([7.0, 8, 9])}
    part.move(torch.tensor([[True, True, False], [False, False, True]]), state)
    assert part.weight.tolist() == [[1, 0, 0], [0, 0, 6]]
    assert state["average"].tolist() == [7, 0, 9]
    part.collect(True)
    model(torch.tensor([[1.0, 2, 4]])).sum().backward()
    assert part.gradient.tolist() == [[1, 2, 4], [1, 2, 4]]
