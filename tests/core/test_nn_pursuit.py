import pytest
import torch
from torch.nn import functional as F

from gossamer import InputError
from gossamer import nn as gn
from gossamer.nn import pursuit


def planted(seed=0, inputs=20, codes=32, active=3, n=100):
    """Inputs made of a few atoms of a dictionary, and an autoencoder that has it."""
    generator = torch.Generator().manual_seed(seed)
    model = gn.SparseAutoencoder(inputs, codes, gn.TopK(active), generator)
    model.center(torch.randn(50, inputs, generator=generator))
    which = torch.rand(n, codes, generator=generator).argsort(1)[:, :active]
    signs = torch.randint(2, which.shape, generator=generator) * 2 - 1
    z = torch.zeros(n, codes).scatter(1, which, signs * (1 + torch.rand(which.shape, generator=generator)))
    return model, model.decode(z).detach(), z


def test_an_orthonormal_dictionary_gives_the_largest_coefficients():
    model = gn.SparseAutoencoder(6, 6, gn.TopK(2))
    with torch.no_grad():
        basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).Q
        model.decoder.weight.copy_(basis)
        model.encoder.weight.copy_(basis.T)
    x = torch.tensor([[4.0, -3.0, 2.0, 1.0, 0.5, 0.1]]) @ basis.T
    z = gn.pursue(model, x, active=2)
    assert torch.allclose(z, torch.tensor([[4.0, -3.0, 0, 0, 0, 0]]), atol=1e-3)  # of either sign, as no encoder's
    assert torch.allclose(gn.pursue(model, x, 2, steps=0), torch.tensor([[4.0, 0, 2.0, 0, 0, 0]]), atol=1e-3)


def test_planted_codes_are_found_where_the_encoder_misses_them():
    model, x, z = planted()
    found = gn.pursue(model, x, 3, steps=8)
    right = ((found != 0) == (z != 0)).all(1)
    encoded = ((model.encode(x) != 0) == (z != 0)).all(1)
    assert right.float().mean() > 0.9 > 0.5 > encoded.float().mean()
    assert torch.allclose(found[right], z[right], atol=1e-2)
    explained = [gn.explained_variance(x, model.decode(gn.pursue(model, x, 3, steps))) for steps in (0, 1, 4)]
    assert gn.explained_variance(x, model(x)[0]) < explained[0] < explained[1] < explained[2]


def test_amplitudes_are_those_of_least_squares_in_each_block_of_rows(monkeypatch):
    model, x, _ = planted(n=10)
    monkeypatch.setattr(pursuit, "ROWS", 4)
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    z = gn.pursue(model, x, 3, steps=2)
    assert ((z != 0).sum(1) == 3).all() and not z.requires_grad
    for row, code in zip(x - model.decoder.bias.detach(), z, strict=True):
        chosen = code.nonzero()[:, 0]
        expected = torch.linalg.lstsq(model.decoder.weight.detach()[:, chosen], row[:, None]).solution[:, 0]
        assert torch.allclose(code[chosen], expected, atol=1e-3)


def test_codes_that_the_encoder_leaves_at_zero_stay_so_without_steps():
    model, x, _ = planted(n=5)
    with torch.no_grad():
        model.encoder.bias.fill_(-100)
    assert (gn.pursue(model, x, 3, steps=0) == 0).all()
    assert (gn.pursue(model, x, 3, steps=1) != 0).any()


def test_twice_the_same_atom_is_solved():
    model, x, _ = planted(n=5)
    with torch.no_grad():
        model.decoder.weight.copy_(F.normalize(torch.ones_like(model.decoder.weight), dim=0))
    assert gn.pursue(model, x, 3).isfinite().all()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"active": 33}, "active is 33; the dictionary has 32 codes"),
        ({"active": 0}, "active is 0"),
        ({"active": 3, "steps": -1}, "steps is -1"),
        ({"active": 3, "x": torch.zeros(20)}, "it must have rows"),
        ({"active": 3, "autoencoder": torch.nn.Linear(20, 32)}, "SparseAutoencoder"),
    ],
)
def test_bad_inputs_are_named(given, told):
    model, x, _ = planted(n=2)
    with pytest.raises(InputError, match=told):
        gn.pursue(**{"autoencoder": model, "x": x, **given})
