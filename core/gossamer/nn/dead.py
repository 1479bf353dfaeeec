"""Dead codes: which they are, and a second life at the inputs that are explained worst."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.codes.ops import Codes
from gossamer.errors import InputError, of_type, whole
from gossamer.nn.autoencoder import SparseAutoencoder, check_rows


class DeadCodes:
    """Counts the rows since each code was last active; one is dead after `patience` rows without.

    dead = DeadCodes(autoencoder, patience=100_000)
    loss, reconstruction, codes = objective(autoencoder, x)
    dead.see(codes)
    loss = loss + autoencoder.auxiliary_loss(x, reconstruction, dead.mask, k) / 32     # either, AuxK (Gao et al. 2024)
    dead.resample(x, reconstruction, optimizer, generator)                             # or now and then, resampling
    """

    def __init__(self, autoencoder: SparseAutoencoder, patience: int) -> None:
        of_type(SparseAutoencoder, "a gossamer.nn.SparseAutoencoder", autoencoder=autoencoder)
        whole(0, patience=patience)
        self.autoencoder, self.patience = autoencoder, patience
        self.idle = torch.zeros(autoencoder.encoder.out_features, dtype=torch.int64)

    def see(self, codes: Codes) -> None:
        """Take in the codes of a batch."""
        of_type(Codes, "the codes that an objective returned", codes=codes)
        if codes.size != len(self.idle):
            raise InputError(f"codes are of {codes.size} atoms, those of this autoencoder of {len(self.idle)}.")
        self.idle += len(codes.starts) - 1
        self.idle[codes.atoms[codes.values.detach() > 0].long()] = 0

    @property
    def mask(self) -> Tensor:
        """Which codes are dead, a boolean (codes,)."""
        return self.idle > self.patience

    @torch.no_grad()
    def resample(
        self, x: Tensor, reconstruction: Tensor, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> int:
        """Turn each dead code towards an input drawn by its squared error (Bricken et al. 2023); return their number.

        The atom becomes the input's direction, the encoder's row a fifth of a living row's mean length along it, its
        bias and its moments in `optimizer` zero.
        """
        check_rows(self.autoencoder.encoder.in_features, x=x, reconstruction=reconstruction)
        of_type(torch.optim.Optimizer, "a torch.optim.Optimizer", optimizer=optimizer)
        of_type(torch.Generator, "a torch.Generator", generator=generator)
        if x.shape != reconstruction.shape:
            raise InputError(f"x has shape {tuple(x.shape)}, its reconstruction {tuple(reconstruction.shape)}.")
        dead = self.mask.nonzero().squeeze(1)
        if not len(dead) or len(dead) == len(self.idle):
            return 0
        autoencoder, error = self.autoencoder, (x - reconstruction).square().sum(1)
        drawn = torch.multinomial(error, len(dead), replacement=len(dead) > len(x), generator=generator)
        direction = F.normalize(x[drawn] - autoencoder.decoder.bias, dim=1)
        length = autoencoder.encoder.weight[~self.mask].norm(dim=1).mean()
        autoencoder.decoder.weight.T[dead] = direction
        autoencoder.encoder.weight[dead] = 0.2 * length * direction
        autoencoder.encoder.bias[dead] = 0
        for parameter, rows in (
            (autoencoder.encoder.weight, 0),
            (autoencoder.encoder.bias, 0),
            (autoencoder.decoder.weight, 1),
        ):
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment.index_fill_(rows, dead, 0)
        self.idle[dead] = 0
        return len(dead)
