"""SNFS: RigL by the gradient's momentum, which also moves weights from layer to layer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gossamer.dynamic.rigl import RigL
from gossamer.errors import InputError, of_type
from gossamer.errors import share as check_share
from gossamer.masking import Masking
from gossamer.processes import averaged


class SNFS(RigL):
    """Sparse networks from scratch: grow, and share out over layers, by momentum (Dettmers & Zettlemoyer 2019).

    m ← β m + (1 − β) g at every step, with g the dense gradient and β = `momentum` in [0, 1), so every step pays for
    it; a layer grows in proportion to the mean |m| of its living weights. Under GradScaler g is the scaled gradient,
    whose scale seldom changes. The other options are `SET`'s.
    """

    def __init__(self, masking: Masking, *, momentum: float = 0.9, **options: Any) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        if masking.pattern.density is not None:
            raise InputError(f"SNFS moves weights between layers, which {masking.pattern} does not allow; use RigL.")
        of_type((int, float), "a number", momentum=momentum)
        check_share(momentum=momentum)
        self.momentum = momentum
        self.averages: dict[str, Tensor] = {}
        super().__init__(masking, **options)

    def collects(self, step: int) -> bool:
        """Every step up to the last update."""
        return step < self.until

    def observe(self) -> None:
        """Update the averages; a resumed run finds them in the state dict."""
        for name, part in self.masking.parts.items():
            if part.gradient is not None:
                average = self.averages.setdefault(name, torch.zeros_like(part.gradient))
                average.mul_(self.momentum).add_(averaged(part.gradient), alpha=1 - self.momentum)

    def gradient(self, name: str) -> Tensor:
        """The gradient's running average, the same in all processes."""
        if name not in self.averages:
            raise InputError(f"{name} has had no gradient yet; exclude it or use it in the loss.")
        return self.averages[name]

    def counts(self) -> dict[str, int]:
        """Every layer's survivors, plus its share of all that was dropped."""
        rooms, kept, means = {}, {}, {}
        for name, part in self.masking.parts.items():
            mask = part.mask
            alive = int(mask.count_nonzero())
            dropped = super().growth(name, alive)
            shares = dropped and name in self.masking.masked
            rooms[name] = mask.numel() if shares else alive
            kept[name] = alive - dropped if shares else alive
            means[name] = float(self.gradient(name)[mask].abs().mean()) if shares else 0.0
        asked = sum(self.masking.counts.values())
        return share(asked - sum(kept.values()), kept, means, rooms)

    def growth(self, name: str, count: int) -> int:
        """What the layer will have beyond the survivors of what it has."""
        alive = int(self.masking.parts[name].mask.count_nonzero())
        return max(0, count - alive + super().growth(name, alive))

    def state_dict(self) -> dict[str, Any]:
        """The method's state and the averages of the gradients."""
        return {**super().state_dict(), "averages": {name: average.clone() for name, average in self.averages.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the averages, on the weights' devices."""
        super().load_state_dict(state)
        parts, averages = self.masking.parts, state["averages"]
        self.averages = {name: a.to(parts[name].parameter.device, copy=True) for name, a in averages.items()}


def share(
    amount: int, base: Mapping[str, int], weights: Mapping[str, float], rooms: Mapping[str, int]
) -> dict[str, int]:
    """`base` plus `amount` shared in proportion to `weights`; what would exceed a room is shared again."""
    result = dict(base)
    while amount > 0 and (open_ := [name for name in base if result[name] < rooms[name]]):
        whole = sum(weights[name] for name in open_)
        portions = {
            name: min(int(amount * weights[name] / whole) if whole else 0, rooms[name] - result[name]) for name in open_
        }
        if not any(portions.values()):
            portions = {max(open_, key=lambda name: weights[name]): 1}
        for name, portion in portions.items():
            result[name] += portion
            amount -= portion
    return result
