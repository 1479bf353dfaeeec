import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer import engine as engines
from gossamer.nn import BatchTopK, Branches, JumpReLU, SparseAutoencoder, TopK, explained_variance


def test_topk_keeps_the_largest_of_each_row():
    x = torch.tensor([[3.0, -1.0, 2.0, 5.0], [-1.0, -2.0, 4.0, -3.0]])
    assert TopK(2)(x).tolist() == [[3, 0, 0, 5], [0, 0, 4, 0]]
    assert TopK(9)(x).equal(x.relu())


def test_topk_is_compiled_and_saved_with_the_rest(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 40), TopK(4), nn.Linear(40, 3)).eval()
    x = torch.randn(7, 12)
    engine = gs.compile(model, x, strict=True)
    torch.testing.assert_close(engine(x), model(x).detach(), atol=1e-5, rtol=1e-5)
    engine.save(tmp_path / "model.engine")
    again = torch.from_numpy(engines.load(tmp_path / "model.engine")(x.numpy()))
    torch.testing.assert_close(again, model(x).detach(), atol=1e-5, rtol=1e-5)


def test_topk_passes_gradients_to_what_it_kept():
    x = torch.tensor([[3.0, 1.0, 2.0]], requires_grad=True)
    TopK(2)(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1, 0, 1]]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck, in torch 2.14
def test_topk_is_the_same_in_its_kernel_and_as_an_operator():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 40)
    asked = x.clone().requires_grad_()
    y = TopK(4)(asked)
    y.sum().backward()
    assert TopK(4)(x).equal(y.detach()) and TopK(4)(x.double()).float().equal(y.detach())
    assert TopK(4)(x.transpose(0, 1)).equal(y.detach().transpose(0, 1))
    again = x.clone().requires_grad_()
    operator = torch.ops.gossamer.top_k.default
    operator(again, 4).sum().backward()
    assert again.grad is not None and asked.grad is not None and again.grad.equal(asked.grad)
    torch.library.opcheck(operator, (x.requires_grad_(), 4))


def test_batch_topk_shares_its_budget_over_the_batch():
    layer = BatchTopK(1)
    x = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.5, 0.2]])
    assert layer(x).tolist() == [[3, 4, 0], [0, 0, 0]]
    assert layer.threshold == 3
    layer.eval()
    assert layer(torch.tensor([[5.0, 6.0, 2.0]])).tolist() == [[5, 6, 0]]  # a row by itself, by the threshold


def test_jumprelu_jumps_and_learns_its_threshold():
    layer = JumpReLU(2, threshold=0.5, bandwidth=0.4)
    x = torch.tensor([[0.4, 0.9], [0.6, 0.2]], requires_grad=True)
    y = layer(x)
    assert torch.allclose(y, torch.tensor([[0.0, 0.9], [0.6, 0.0]]))
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0, 1], [1, 0]]
    # code 0: both of its inputs lie within 0.2 of θ = 0.5, so ∂/∂θ = 2 · (−0.5 / 0.4); times ∂θ/∂log θ = 0.5
    assert layer.log_threshold.grad is not None
    assert torch.allclose(layer.log_threshold.grad, torch.tensor([2 * -0.5 / 0.4 * 0.5, 0.0]))


def test_autoencoder_starts_tied_with_unit_columns_and_is_seeded():
    make = [SparseAutoencoder(6, 10, TopK(3), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert make[0].encoder.weight.equal(make[1].encoder.weight)
    assert make[0].decoder.weight.equal(make[0].encoder.weight.T)
    assert torch.allclose(make[0].decoder.weight.norm(dim=0), torch.ones(10))
    reconstruction, codes = make[0](torch.randn(4, 6))
    assert reconstruction.shape == (4, 6) and codes.shape == (4, 10)
    assert (codes != 0).sum(1).max() <= 3


def test_autoencoder_learns_sparse_data():
    generator = torch.Generator().manual_seed(0)
    dictionary = torch.randn(16, 8, generator=generator)
    picks = torch.rand(2000, 16, generator=generator).topk(2, dim=1).indices
    x = torch.zeros(2000, 16).scatter(1, picks, 1.0) @ dictionary
    model = SparseAutoencoder(8, 32, TopK(4), generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = explained_variance(x, model(x)[0])
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x)[0], x).backward()
        optimizer.step()
        model.normalize()
    after = explained_variance(x, model(x)[0])
    assert after > 0.8 > before
    assert torch.allclose(model.decoder.weight.norm(dim=0), torch.ones(32), atol=1e-5)


def test_auxiliary_loss_is_zero_without_dead_codes_and_revives_them():
    model = SparseAutoencoder(4, 6, TopK(2), generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    reconstruction, _ = model(x)
    assert model.auxiliary_loss(x, reconstruction, torch.zeros(6, dtype=torch.bool), 2) == 0
    dead = torch.tensor([True, True, True, False, False, False])
    model.auxiliary_loss(x, reconstruction, dead, 2).backward()
    assert model.encoder.weight.grad is not None
    assert model.encoder.weight.grad[:3].abs().sum() > 0
    assert model.encoder.weight.grad[3:].abs().sum() == 0


def test_explained_variance_by_hand():
    x = torch.tensor([[0.0], [2.0]])
    assert explained_variance(x, x) == 1
    assert explained_variance(x, torch.ones(2, 1)) == 0
    assert explained_variance(x, torch.tensor([[1.0], [2.0]])) == 0.5
    with pytest.raises(gs.InputError, match="do not vary"):
        explained_variance(torch.ones(2, 1), torch.ones(2, 1))


def test_branches_join_their_paths_and_follow_their_wiring():
    x = torch.arange(6.0).reshape(1, 3, 2)
    assert Branches([nn.Identity(), nn.ReLU()])(x).equal(torch.cat([x, x], 1))
    wired = Branches([nn.Identity(), nn.Identity()], inputs=[[2], [0, 1]])
    assert wired(x).equal(x[:, [2, 0, 1]])
    with pytest.raises(gs.InputError, match="wires 1 paths, but there are 2"):
        Branches([nn.Identity(), nn.Identity()], inputs=[[0]])


@pytest.mark.parametrize("make", [lambda: TopK(0), lambda: BatchTopK(0), lambda: JumpReLU(3, threshold=0)])
def test_impossible_options_are_refused(make):
    with pytest.raises(gs.InputError):
        make()
