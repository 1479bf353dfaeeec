"""SET: a share of the weights moves, to places chosen at random."""

from typing import Any

import torch
from torch import Tensor

from gossamer.dynamic.method import Method
from gossamer.errors import of_type, within
from gossamer.masking import Masking
from gossamer.schedules import cosine


class SET(Method):
    """Sparse evolutionary training: drop the smallest weights, grow at random (Mocanu et al. 2018).

    At an update after t steps each layer drops the share `fraction` · (1 + cos(π · t / until)) / 2 of its weights, in
    [0, 1], and grows as many. The other options are `Method`'s.
    """

    def __init__(self, masking: Masking, *, fraction: float = 0.3, **options: Any) -> None:
        of_type((int, float), "a number", fraction=fraction)
        within(0, 1, fraction=fraction)
        self.fraction = fraction
        super().__init__(masking, **options)

    def drop_fraction(self) -> float:
        """The share of a layer's weights that an update drops now, decayed by a cosine (Evci et al. 2020)."""
        return self.fraction * (1 - cosine(min(1.0, self.seen / max(1, self.until))))

    def growth(self, name: str, count: int) -> int:
        """As many as the drop fraction says."""
        return 0 if self.frozen(name) else round(self.drop_fraction() * count)

    def grow_scores(self, name: str) -> Tensor:
        """Chance: U(0, 1)."""
        part = self.masking.parts[name]
        return torch.rand(part.mask.shape, generator=self.generator).to(part.parameter.device)
