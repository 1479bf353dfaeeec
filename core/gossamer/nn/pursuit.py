"""Codes of a dictionary without an encoder: pursuit, atom by atom."""

import torch
from torch import Tensor

from gossamer.errors import InputError, of_type, whole
from gossamer.nn.autoencoder import check_rows
from gossamer.nn.operators import in_kernels

ROWS = 4096
"""inputs at a time, so that memory stays bounded"""


@torch.no_grad()
def pursue(x: Tensor, atoms: Tensor, active: int, signed: bool = True) -> Tensor:
    """Codes z (n, atoms) of x (n, inputs), x ≈ Σ_a z_a d_a with at most `active` of z not zero, for `atoms` d (atoms,
    inputs): orthogonal matching pursuit (Pati et al. 1993).

    One atom after another, that of the largest |⟨d_a, x − x̂⟩| (without `signed`, of the largest), and each time the
    amplitudes of all chosen by least squares. A row that is explained, and one whose next atom is a sum of those that
    it has, gets no more. Without `signed`, amplitudes below zero are set to zero at the end. Of a trained
    `SparseAutoencoder` ae, `pursue(x - ae.decoder.bias, ae.decoder.weight.T, k)` explains more than its encoder's codes
    do, and takes longer. The products of all atoms, atoms² floats, are held.
    """
    of_type(Tensor, "a tensor (atoms, inputs)", atoms=atoms)
    if atoms.dim() != 2 or not atoms.is_floating_point():
        raise InputError(f"atoms is {atoms.dtype} {tuple(atoms.shape)}; it must be floats (atoms, inputs).")
    check_rows(atoms.shape[1], x=x)
    if x.dtype != atoms.dtype:
        raise InputError(f"x is {x.dtype} and atoms {atoms.dtype}; they must be of one dtype.")
    whole(1, active=active)
    of_type(bool, "True or False", signed=signed)
    if active > min(atoms.shape):
        raise InputError(
            f"active is {active}; of {len(atoms)} atoms of {atoms.shape[1]} inputs at most {min(atoms.shape)} can be."
        )
    gram = atoms @ atoms.T
    rows = [_pursued(part @ atoms.T, gram, active, signed) for part in x.split(ROWS)]
    return torch.cat([gram.new_zeros(0, len(atoms)), *rows])


def _pursued(start: Tensor, gram: Tensor, active: int, signed: bool) -> Tensor:
    """The codes (n, atoms) of the products `start` (n, atoms) of inputs and atoms."""
    values, chosen = start.new_zeros(len(start), active), torch.zeros(len(start), active, dtype=torch.int32)
    if in_kernels(start, gram):
        from gossamer.codes import loops

        loops.pursue(start.numpy(), gram.numpy(), signed, values.numpy(), chosen.numpy(), torch.get_num_threads())
    else:
        from gossamer.codes import reference

        arrays = start.cpu().numpy(), gram.cpu().numpy(), signed, values.cpu().numpy(), chosen.numpy()
        reference.pursue(*arrays)
        values = torch.from_numpy(arrays[3]).to(start)
    values = values if signed else values.clamp_min(0)
    return torch.zeros_like(start).scatter_add(1, chosen.to(start.device).long(), values)
