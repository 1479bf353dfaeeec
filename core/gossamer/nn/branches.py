"""Sparse wiring: parallel paths in place of one densely connected layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gossamer.errors import InputError, of_type


class Branches(nn.Module):
    """Runs every path on the input and joins their outputs along the channels (Szegedy et al. 2015).

    Shapes (batch, channels, …) → (batch, Σ path channels, …). With `inputs`, one list of channel indices a path, a path
    is wired to those channels only, so that the sparsity is in the wiring and every multiplication is still dense.
    """

    def __init__(self, paths: Sequence[nn.Module], inputs: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        of_type((list, tuple, nn.ModuleList, nn.Sequential), "a list of modules", paths=paths)
        paths = list(paths)
        for path in paths:
            of_type(nn.Module, "a module", **{"one of paths": path})
        of_type((Sequence, type(None)), "a list of channel indices a path", inputs=inputs)
        if inputs is not None and len(inputs) != len(paths):
            raise InputError(f"inputs wires {len(inputs)} paths, but there are {len(paths)}; give one list a path.")
        self.paths = nn.ModuleList(paths)
        self.wired = inputs is not None
        for number, channels in enumerate(inputs or ()):
            try:
                wired = torch.as_tensor(channels, dtype=torch.long)
            except (TypeError, ValueError, RuntimeError):
                wired = torch.empty(0, 0)
            if wired.dim() != 1:
                raise InputError(f"inputs wires path {number} to {channels!r:.60}; give it a list of channel indices.")
            self.register_buffer(f"inputs_{number}", wired)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of all paths, side by side."""
        outputs = []
        for number, path in enumerate(self.paths):
            outputs.append(path(x.index_select(1, self.get_buffer(f"inputs_{number}")) if self.wired else x))
        return torch.cat(outputs, dim=1)
