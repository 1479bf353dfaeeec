"""Sparse autoencoders: overcomplete dictionaries in which an input activates few codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError


class SparseAutoencoder(nn.Module):
    """z = activation(W_e (x − b) + c),  x̂ = W_d z + b  (Gao et al. 2024).

    Shapes: x (…, inputs), z (…, codes). The activation makes z sparse: `TopK(k)`, `BatchTopK(k)`, `JumpReLU(codes)`; a
    plain ReLU gives the dense autoencoder to compare with. The decoder starts as the encoder's transpose with columns
    of unit length, as `normalize` keeps them.
    """

    def __init__(
        self, inputs: int, codes: int, activation: nn.Module, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if inputs < 1 or codes < 1:
            raise InputError(f"inputs is {inputs} and codes is {codes}; both must be at least 1.")
        self.encoder = nn.Linear(inputs, codes)
        self.activation = activation
        self.decoder = nn.Linear(codes, inputs)  # its bias is b
        directions = F.normalize(torch.randn(codes, inputs, generator=generator), dim=1)
        with torch.no_grad():
            self.encoder.weight.copy_(directions)
            self.encoder.bias.zero_()
            self.decoder.weight.copy_(directions.T)
            self.decoder.bias.zero_()

    def encode(self, x: Tensor) -> Tensor:
        """The sparse code z of x."""
        return self.activation(self.encoder(x - self.decoder.bias))

    def decode(self, z: Tensor) -> Tensor:
        """The reconstruction x̂ of a code z."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction and the code."""
        z = self.encode(x)
        return self.decode(z), z

    @torch.no_grad()
    def normalize(self) -> None:
        """Give the decoder's columns unit length, after an optimizer's step; masked weights stay zero."""
        self.decoder.weight.copy_(F.normalize(self.decoder.weight, dim=0))

    def auxiliary_loss(self, x: Tensor, reconstruction: Tensor, dead: Tensor, k: int) -> Tensor:
        """‖e − W_d z_dead‖² / ‖e‖², with e = x − x̂ and z_dead the k largest of the dead codes: revives them.

        `dead` is a boolean of shape (codes,); 0 where none is dead (Gao et al. 2024, "AuxK").
        """
        k = min(k, int(dead.sum()))
        if k == 0:
            return x.new_zeros(())
        error = (x - reconstruction).detach()
        hidden = self.encoder(x - self.decoder.bias).masked_fill(~dead, -torch.inf)
        values, indices = hidden.topk(k, dim=-1, sorted=False)
        codes = torch.zeros_like(hidden).scatter(-1, indices, values.relu())
        guess = F.linear(codes, self.decoder.weight)
        return (error - guess).square().sum() / error.square().sum().clamp_min(torch.finfo(x.dtype).tiny)


@torch.no_grad()
def explained_variance(x: Tensor, reconstruction: Tensor) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean over the rows: 1 is perfect, 0 no better than the mean."""
    x, reconstruction = x.flatten(0, -2), reconstruction.flatten(0, -2)
    spread = (x - x.mean(0)).square().sum()
    if spread == 0:
        raise InputError("the inputs do not vary, so there is no variance to explain; pass more than one distinct row.")
    return float(1 - (x - reconstruction).square().sum() / spread)
