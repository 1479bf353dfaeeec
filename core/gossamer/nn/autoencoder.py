"""Sparse autoencoders: overcomplete dictionaries in which an input activates few codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.codes.ops import Codes, compress, decode, encode
from gossamer.errors import InputError, of_type, whole
from gossamer.nn.activations import JumpReLU, TopK


class SparseAutoencoder(nn.Module):
    """z = activation(W_e (x − b) + c),  x̂ = W_d z + b  (Gao et al. 2024).

    Shapes: x (…, inputs), z (…, codes). The activation makes z sparse: `TopK(k)`, `BatchTopK(k)`, `JumpReLU(codes)`,
    `Gated(codes)`, or a ReLU under a penalty; a plain ReLU gives the dense autoencoder to compare with. The decoder
    starts as the encoder's transpose with columns of unit length, as `normalize` keeps them; its weight lies in memory
    atom by atom. What is minimised is in `gossamer.nn.objectives`.
    """

    def __init__(
        self, inputs: int, codes: int, activation: nn.Module, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        whole(1, inputs=inputs, codes=codes)
        of_type(nn.Module, "a module such as gossamer.nn.TopK(32)", activation=activation)
        of_type((torch.Generator, type(None)), "a torch.Generator", generator=generator)
        self.encoder = nn.Linear(inputs, codes)
        self.activation = activation
        self.decoder = nn.Linear(codes, inputs)  # its bias is b
        directions = F.normalize(torch.randn(codes, inputs, generator=generator), dim=1)
        self.decoder.weight = nn.Parameter(directions.T)
        with torch.no_grad():
            self.encoder.weight.copy_(directions)
            self.encoder.bias.zero_()
            self.decoder.bias.zero_()

    def encode(self, x: Tensor) -> Tensor:
        """The sparse code z of x."""
        check_floats(self.encoder.in_features, x=x)
        return self.activation(self.encoder(x - self.decoder.bias))

    def decode(self, z: Tensor) -> Tensor:
        """The reconstruction x̂ of a code z."""
        check_floats(self.encoder.out_features, z=z)
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction and the code."""
        z = self.encode(x)
        return self.decode(z), z

    def sparse(self, x: Tensor) -> tuple[Tensor, Codes]:
        """The reconstruction and the code of x (n, inputs), computed and differentiated at the active codes alone.

        The same as `forward` to rounding, and as much cheaper as the code is sparse: of the five products of a training
        step the encoder's forward one alone stays dense.
        """
        codes = self.sparse_code(x)
        return decode(codes, self.decoder.weight.T, self.decoder.bias), codes

    def sparse_code(self, x: Tensor) -> Codes:
        """The code of x (n, inputs), its active ones alone."""
        check_rows(self.encoder.in_features, x=x)
        centred = x - self.decoder.bias
        if isinstance(self.activation, TopK) and self.activation.k < self.encoder.out_features:
            return encode(centred, self.encoder.weight, self.encoder.bias, self.activation.k)
        hidden = self.encoder(centred)
        z, support = self.activation(hidden), None
        if isinstance(self.activation, JumpReLU):  # the threshold learns from codes that it just excludes, too
            support = hidden.detach() > self.activation.log_threshold.detach().exp() - self.activation.bandwidth / 2
        return compress(z, z.detach() != 0 if support is None else support)

    @torch.no_grad()
    def normalize(self) -> None:
        """Give the decoder's columns unit length, after an optimizer's step; masked weights stay zero."""
        self.decoder.weight.div_(self.decoder.weight.norm(dim=0).clamp_min(1e-12))

    @torch.no_grad()
    def center(self, x: Tensor) -> None:
        """Set b to the mean of inputs (n, inputs), from which training then starts (Bricken et al. 2023)."""
        check_rows(self.encoder.in_features, x=x)
        self.decoder.bias.copy_(x.mean(0))

    def auxiliary_loss(self, x: Tensor, reconstruction: Tensor, dead: Tensor, k: int) -> Tensor:
        """‖e − W_d z_dead‖² / ‖e‖², with e = x − x̂ and z_dead the k largest of the dead codes: revives them.

        `dead` is a boolean of shape (codes,); 0 where none is dead (Gao et al. 2024, "AuxK").
        """
        check_floats(self.encoder.in_features, x=x, reconstruction=reconstruction)
        of_type(Tensor, "a boolean tensor (codes,)", dead=dead)
        if dead.dtype != torch.bool or dead.shape != self.encoder.bias.shape:
            raise InputError(f"dead has shape {tuple(dead.shape)}, {dead.dtype}; it must be a boolean (codes,).")
        whole(1, k=k)
        if x.shape != reconstruction.shape or x.dim() < 2:
            raise InputError(
                f"x has shape {tuple(x.shape)}, its reconstruction {tuple(reconstruction.shape)}; they must be rows."
            )
        which = dead.nonzero().squeeze(1)
        k = min(k, len(which))
        if k == 0:
            return x.new_zeros(())
        error = (x - reconstruction).detach().flatten(0, -2)
        centred = (x - self.decoder.bias).flatten(0, -2)
        codes = encode(centred, self.encoder.weight[which], self.encoder.bias[which], k)
        guess = decode(codes, self.decoder.weight.T[which], torch.zeros_like(self.decoder.bias))
        return (error - guess).square().sum() / error.square().sum().clamp_min(torch.finfo(x.dtype).tiny)


def check_floats(width: int, **values: Tensor) -> None:
    """Raise `InputError` for a value that is no tensor of floats (…, width)."""
    of_type(Tensor, f"a tensor (…, {width})", **values)
    for name, value in values.items():
        if not value.is_floating_point() or value.shape[-1:] != (width,):
            raise InputError(f"{name} is {value.dtype} {tuple(value.shape)}; it must be floats (…, {width}).")


def check_rows(width: int, **values: Tensor) -> None:
    """Raise `InputError` for a value that is no tensor of floats (n, width)."""
    check_floats(width, **values)
    for name, value in values.items():
        if value.dim() != 2:
            raise InputError(f"{name} has shape {tuple(value.shape)}; it must have rows, (n, {width}).")


@torch.no_grad()
def explained_variance(x: Tensor, reconstruction: Tensor) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean over the rows: 1 is perfect, 0 no better than the mean."""
    of_type(Tensor, "a tensor", x=x, reconstruction=reconstruction)
    if x.shape != reconstruction.shape or x.dim() < 2:
        raise InputError(
            f"x has shape {tuple(x.shape)} and reconstruction {tuple(reconstruction.shape)}; pass two of (…, inputs)."
        )
    x, reconstruction = x.flatten(0, -2), reconstruction.flatten(0, -2)
    spread = (x - x.mean(0)).square().sum()
    if spread == 0:
        raise InputError("the inputs do not vary, so there is no variance to explain; pass more than one distinct row.")
    return float(1 - (x - reconstruction).square().sum() / spread)
