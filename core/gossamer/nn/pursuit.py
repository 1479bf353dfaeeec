"""Better codes of a dictionary than its encoder's own: pursuit, which looks again at what is not explained yet."""

import torch
from torch import Tensor

from gossamer.errors import InputError, of_type, whole
from gossamer.nn.autoencoder import SparseAutoencoder, check_rows

ROWS = 1024
"""inputs at a time, so that memory stays bounded"""
RIDGE = 1e-4
"""keeps atoms that are chosen twice over, as those of an untrained dictionary, solvable"""


@torch.no_grad()
def pursue(autoencoder: SparseAutoencoder, x: Tensor, active: int, steps: int = 3) -> Tensor:
    """Codes z (n, codes) of x (n, inputs), at most `active` of either sign not zero: hard thresholding pursuit (Foucart
    2011) from what the encoder chose.

    S = the `active` largest of |z + W_dᵀ (x − x̂)|, then z = argmin ‖x − b − W_d z‖² over the codes that are zero
    outside S, so many `steps`; with none, the encoder's own choice with the amplitudes that explain most. Of a trained
    dictionary's inputs each step explains no less than the one before; nothing here is differentiated.
    """
    of_type(SparseAutoencoder, "a SparseAutoencoder", autoencoder=autoencoder)
    check_rows(autoencoder.encoder.in_features, x=x)
    whole(1, active=active)
    whole(0, steps=steps)
    codes = autoencoder.encoder.out_features
    if active > codes:
        raise InputError(f"active is {active}; the dictionary has {codes} codes, so it must be at most {codes}.")
    return torch.cat([_pursued(autoencoder, rows, active, steps) for rows in x.split(ROWS)])


def _pursued(autoencoder: SparseAutoencoder, x: Tensor, active: int, steps: int) -> Tensor:
    z = _fitted(autoencoder, x, autoencoder.encode(x), active)
    for _ in range(steps):
        gradient = (x - autoencoder.decode(z)) @ autoencoder.decoder.weight
        z = _fitted(autoencoder, x, z + gradient, active)
    return z


def _fitted(autoencoder: SparseAutoencoder, x: Tensor, z: Tensor, active: int) -> Tensor:
    """The code of x by least squares on the `active` largest of z, of those that are not zero."""
    chosen = z.abs().topk(active, sorted=False).indices
    atoms = autoencoder.decoder.weight.T[chosen] * (z.gather(1, chosen) != 0)[..., None]  # (n, active, inputs)
    gram = atoms @ atoms.mT
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE)
    found = torch.linalg.solve(gram, atoms @ (x - autoencoder.decoder.bias)[..., None])
    return torch.zeros_like(z).scatter(1, chosen, found[..., 0])
