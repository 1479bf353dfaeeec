"""SRigL: RigL at constant fan-in, with ablation of neurons."""

import math
from typing import Any

import torch
from torch import Tensor

from gossamer.dynamic.rigl import RigL
from gossamer.errors import InputError, of_type, within
from gossamer.masking import Masking
from gossamer.patterns import FanIn, best, best_of_rows


class SRigL(RigL):
    """Structured RigL: RigL at constant fan-in, with neurons ablated that have too little to say (Lasby et al. 2024).

    A weight is salient if RigL without a pattern would keep or grow it. A neuron with fewer salient weights than
    `ablation` · fan-in is ablated, and the others share its weights equally: a layer's count is kept to half a weight
    per neuron. Neurons enough to hold the count stay, and all of the last layer, whose neurons are classes.
    """

    changes_counts = True

    def __init__(self, masking: Masking, *, ablation: float = 0.3, **options: Any) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        if not isinstance(masking.pattern, FanIn):
            raise InputError(f"SRigL needs a masking of pattern FanIn(), not {masking.pattern}.")
        of_type((int, float), "a number", ablation=ablation)
        within(0, 1, ablation=ablation)
        self.ablation = ablation
        super().__init__(masking, **options)

    def new_mask(self, name: str, count: int) -> Tensor:
        """One layer's mask after this update: equally many weights in every neuron that is not ablated."""
        part, growth = self.masking.parts[name], self.growth(name, count)
        if not growth:
            return part.mask
        turned = self.masking.layer(name).turned
        mask = turned(part.mask).flatten(1)
        rows, columns = mask.shape
        magnitude = turned(self.drop_scores(name)).flatten(1).masked_fill(~mask, -torch.inf)
        gradient = turned(self.grow_scores(name)).flatten(1)
        kept = best(magnitude, min(count - growth, int(mask.count_nonzero()))) & mask
        salient = (kept | best(gradient.masked_fill(mask, -torch.inf), growth)).sum(1)
        enough = self.ablation * count / int(mask.any(1).sum())
        active = rows if name == self.masking.layers[-1].parameter else int((salient >= enough).sum())
        active = max(1, active, math.ceil(count / columns))
        fan_in = max(1, min(columns, round(count / active)))
        strongest = best_of_rows(magnitude.masked_fill(~kept, -torch.inf), fan_in)
        grown = best_of_rows(gradient.masked_fill(kept, torch.inf), fan_in)
        full = kept.sum(1, keepdim=True) > fan_in  # a neuron with more survivors than its share keeps the strongest
        chosen = torch.where(full, strongest, grown) & best(salient, active)[:, None]
        return turned(chosen.reshape(turned(part.mask).shape))
