import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from torch.nn import functional as F

from gossamer import InputError
from gossamer import nn as gn
from gossamer.codes import loops, reference
from gossamer.nn import pursuit


def some(n=40, inputs=20, count=32, seed=0, dtype=torch.float32):
    """Inputs, and atoms of unit length."""
    generator = torch.Generator().manual_seed(seed)
    atoms = F.normalize(torch.randn(count, inputs, generator=generator, dtype=dtype), dim=1)
    return torch.randn(n, inputs, generator=generator, dtype=dtype), atoms


def test_orthonormal_atoms_give_the_largest_products():
    basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).Q
    x = torch.tensor([[4.0, -3.0, 2.0, 1.0, -0.5, 0.0]]) @ basis
    for active, signed, expected in (
        (2, True, [4, -3, 0, 0, 0, 0]),
        (2, False, [4, 0, 2, 0, 0, 0]),
        (6, True, [4, -3, 2, 1, -0.5, 0]),  # the last explains nothing
        (6, False, [4, 0, 2, 1, 0, 0]),
    ):
        z = gn.pursue(x, basis, active, signed)
        assert torch.allclose(z, torch.tensor([expected], dtype=torch.float32), atol=1e-5)
        assert ((z != 0) == torch.tensor([expected]).bool()).all()


@pytest.mark.parametrize("active", [1, 5, 12])
def test_codes_are_scikit_learns(active, monkeypatch):
    monkeypatch.setattr(pursuit, "ROWS", 16)  # in blocks, the last of eight
    x, atoms = some()
    expected = sparse_encode(x.numpy(), atoms.numpy(), algorithm="omp", n_nonzero_coefs=active)
    found = gn.pursue(x, atoms, active)
    assert ((found != 0).sum(1) == active).all()
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_loop_computes_what_its_plain_twin_does(signed, threads):
    x, atoms = some(n=300)
    start, gram = (x @ atoms.T).numpy(), (atoms @ atoms.T).numpy()
    outcomes = []
    for module, more in ((loops, (threads,)), (reference, ())):
        values, chosen = np.zeros((300, 6), np.float32), np.zeros((300, 6), np.int32)
        module.pursue(start, gram, signed, values, chosen, *more)
        outcomes.append((values, chosen))
    assert np.array_equal(outcomes[0][1], outcomes[1][1]) and np.allclose(outcomes[0][0], outcomes[1][0], atol=1e-4)


def test_more_atoms_explain_more_and_double_precision_agrees():
    x, atoms = some()
    explained = [gn.explained_variance(x, gn.pursue(x, atoms, k) @ atoms) for k in (1, 4, 12)]
    assert explained[0] < explained[1] < explained[2]
    assert torch.allclose(gn.pursue(x.double(), atoms.double(), 4).float(), gn.pursue(x, atoms, 4), atol=1e-5)


def test_planted_codes_are_found_where_an_encoder_misses_them():
    generator = torch.Generator().manual_seed(0)
    model = gn.SparseAutoencoder(20, 32, gn.TopK(3), generator)
    which = torch.rand(100, 32, generator=generator).argsort(1)[:, :3]
    z = torch.zeros(100, 32).scatter(1, which, 1 + torch.rand(which.shape, generator=generator))
    x = model.decode(z).detach()
    found = gn.pursue(x - model.decoder.bias, model.decoder.weight.T, 3)
    right = ((found != 0) == (z != 0)).all(1)
    encoded = ((model.encode(x) != 0) == (z != 0)).all(1)
    assert right.float().mean() > 0.8 > 0.5 > encoded.float().mean()
    assert torch.allclose(found[right], z[right], atol=1e-4) and not found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_explained_or_said_twice_gets_no_more(dtype):
    x, atoms = some(dtype=dtype)
    twice = torch.cat([atoms[:1], atoms[:1], atoms[1:3]])
    z = gn.pursue(torch.stack([2 * atoms[0], torch.zeros(20, dtype=dtype), x[0]]), twice, 4)
    assert torch.allclose(z[0], torch.tensor([2.0, 0, 0, 0], dtype=dtype), atol=1e-5)
    assert (z[1] == 0).all() and z.isfinite().all() and (z[2] != 0).sum() <= 3
    assert gn.pursue(x[:0], atoms, 2).shape == (0, 32)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"active": 21}, "active is 21; of 32 atoms of 20 inputs at most 20"),
        ({"active": 0}, "active is 0"),
        ({"x": torch.zeros(20)}, "it must have rows"),
        ({"x": torch.zeros(3, 19)}, "must be floats"),
        ({"atoms": torch.zeros(20)}, "atoms is .* must be floats .atoms, inputs"),
        ({"x": torch.zeros(3, 20).double()}, "of one dtype"),
        ({"signed": None}, "signed"),
    ],
)
def test_bad_inputs_are_named(given, told):
    x, atoms = some(n=2)
    with pytest.raises(InputError, match=told):
        gn.pursue(**{"x": x, "atoms": atoms, "active": 3, **given})
