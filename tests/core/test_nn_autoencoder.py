import math

import pytest
import torch
from torch import nn

from gossamer import InputError
from gossamer import nn as gn
from gossamer.codes.ops import Codes


def autoencoder(activation, inputs=8, codes=40, seed=0):
    model = gn.SparseAutoencoder(inputs, codes, activation, torch.Generator().manual_seed(seed))
    nn.init.normal_(model.encoder.bias, std=0.1, generator=torch.Generator().manual_seed(seed))
    nn.init.normal_(model.decoder.bias, std=0.1, generator=torch.Generator().manual_seed(seed))
    return model


ACTIVATIONS = {
    "topk": lambda: gn.TopK(3),
    "batch": lambda: gn.BatchTopK(3),
    "jump": lambda: gn.JumpReLU(40, threshold=0.3, bandwidth=0.2),
    "gated": lambda: gn.Gated(40),
    "relu": nn.ReLU,
}
X = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_sparse_pass_is_the_dense_one_with_its_gradients(name):
    outcomes = []
    for sparse in (True, False):
        model = autoencoder(ACTIVATIONS[name]())
        reconstruction, z = model.sparse(X) if sparse else model(X)
        (reconstruction - X).square().sum().backward()
        z = z.dense() if isinstance(z, Codes) else z
        outcomes.append((reconstruction.detach(), z.detach(), {n: p.grad for n, p in model.named_parameters()}))
    (one, z, found), (other, expected_z, expected) = outcomes
    assert torch.allclose(one, other, atol=1e-5) and torch.allclose(z, expected_z, atol=1e-6)
    for parameter, gradient in expected.items():
        assert (gradient is None) == (found[parameter] is None), parameter
        if gradient is not None:
            assert torch.allclose(found[parameter], gradient, atol=1e-4), parameter


def test_the_decoder_lies_atom_by_atom_and_loads_as_any_weight():
    model, other = autoencoder(gn.TopK(3)), autoencoder(gn.TopK(3), seed=1)
    assert model.decoder.weight.shape == (8, 40) and model.decoder.weight.T.is_contiguous()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(X)[0], model(X)[0]) and other.decoder.weight.T.is_contiguous()
    model.normalize()
    assert torch.allclose(model.decoder.weight.norm(dim=0), torch.ones(40))
    model.center(X)
    assert torch.allclose(model.decoder.bias, X.mean(0))


def test_penalties_by_hand():
    model = autoencoder(nn.ReLU())
    reconstruction, z = model(X)
    error = (X - reconstruction).square().sum(1).mean()
    loss, again, codes = gn.L1(0.5)(model, X)
    assert torch.allclose(again, reconstruction, atol=1e-5) and torch.allclose(codes.dense(), z, atol=1e-6)
    expected = error + 0.5 * (z * model.decoder.weight.norm(dim=0)).sum(1).mean()
    assert torch.allclose(loss, expected, rtol=1e-5)
    model = autoencoder(gn.JumpReLU(40, threshold=0.3))
    reconstruction, z = model(X)
    error = (X - reconstruction).square().sum(1).mean()
    assert torch.allclose(gn.L0(0.1)(model, X)[0], error + 0.1 * (z != 0).sum(1).float().mean(), rtol=1e-5)


def test_kl_by_hand():
    model = autoencoder(nn.Sigmoid())
    reconstruction, z = model(X)
    error = (X - reconstruction).square().sum(1).mean()
    kl = sum(0.1 * math.log(0.1 / p) + 0.9 * math.log(0.9 / (1 - p)) for p in z.mean(0).tolist())
    assert torch.allclose(gn.KL(2.0, 0.1)(model, X)[0], error + 2 * kl, rtol=1e-4)


def test_matryoshka_by_hand():
    model = autoencoder(gn.TopK(5))
    reconstruction, z = model(X)
    first = z.clone()
    first[:, 10:] = 0
    losses = [(X - r).square().sum(1).mean() for r in (reconstruction, model.decode(first))]
    assert torch.allclose(gn.Matryoshka((10,))(model, X)[0], (losses[0] + losses[1]) / 2, rtol=1e-5)


def test_the_gate_learns_and_the_decoder_does_not_learn_of_it():
    model = autoencoder(gn.Gated(40))
    gate = model.encoder(X - model.decoder.bias).relu()
    guess = gate @ model.decoder.weight.detach().T + model.decoder.bias.detach()
    error = (X - model(X)[0]).square().sum(1).mean()
    expected = error + 0.3 * gate.sum(1).mean() + (X - guess).square().sum(1).mean()
    loss = gn.GatedLoss(0.3)(model, X)[0]
    assert torch.allclose(loss, expected, rtol=1e-5)
    parameters = list(model.parameters())
    for one, other in zip(*(torch.autograd.grad(value, parameters) for value in (loss, expected)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_an_objective_refuses_another_activation():
    with pytest.raises(InputError, match="L0 is for JumpReLU"):
        gn.L0(0.1)(autoencoder(nn.ReLU()), X)
    with pytest.raises(InputError, match="GatedLoss is for Gated"):
        gn.GatedLoss(0.1)(autoencoder(nn.ReLU()), X)
    with pytest.raises(InputError, match="weight is nan"):
        gn.L1(math.nan)
    with pytest.raises(InputError, match=r"prefixes is \(4, 2\)"):
        gn.Matryoshka((4, 2))


def test_a_threshold_learns_from_codes_that_it_just_excludes():
    activation = gn.JumpReLU(2, threshold=0.5, bandwidth=0.2)
    x = torch.tensor([[0.45, 0.55], [0.1, 2.0]])
    activation.active(x).sum().backward()
    # ∂ active / ∂ log θ = −θ/ε in the window, one row for each of the two codes
    assert activation.log_threshold.grad is not None
    assert activation.log_threshold.grad.tolist() == pytest.approx([-2.5, -2.5])


def test_dead_codes_are_found_and_resampled():
    model = autoencoder(gn.TopK(3))
    with torch.no_grad():
        model.encoder.bias[:4] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    dead = gn.DeadCodes(model, patience=60)
    for _ in range(2):
        loss, reconstruction, codes = gn.Squared()(model, X)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dead.see(codes)
    assert not dead.mask.any()
    dead.patience = 50
    assert dead.mask[:4].all() and not dead.mask[codes.atoms.long()].any()
    count = int(dead.mask.sum())
    assert dead.resample(X, reconstruction.detach(), optimizer, torch.Generator().manual_seed(0)) == count
    assert not dead.mask.any() and dead.resample(X, reconstruction.detach(), optimizer, torch.Generator()) == 0
    assert torch.allclose(model.decoder.weight.norm(dim=0)[:4], torch.ones(4))
    assert (optimizer.state[model.encoder.weight]["exp_avg"][:4] == 0).all()
    assert (model.encoder(X - model.decoder.bias)[:, :4] > 0).any(0).all()


def test_the_auxiliary_loss_reaches_dead_codes_alone():
    model = autoencoder(gn.TopK(3))
    reconstruction, _ = model(X)
    dead = torch.arange(40) < 6
    model.auxiliary_loss(X, reconstruction, dead, k=2).backward()
    gradient = model.encoder.weight.grad
    assert gradient is not None and gradient[:6].abs().sum() > 0 and (gradient[6:] == 0).all()
    assert model.auxiliary_loss(X, reconstruction, torch.zeros(40, dtype=torch.bool), k=2) == 0
