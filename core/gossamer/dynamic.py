"""Dynamic sparse training: the masks move while the weights train. Each method overrides a hook of the one before it.

Every `every` steps of the optimizer, each layer drops the least of its weights and grows as many others, within its
pattern: kept = pattern.survivors(drop score, count − moved), mask = pattern.mask(∞ where kept, else grow score, count).
A layer that is frozen drops and grows nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.masking import Masking
from gossamer.patterns import FanIn, best, best_of_rows
from gossamer.processes import averaged
from gossamer.schedules import Schedule, cosine
from gossamer.schedules import schedule as find_schedule


class SET:
    """Sparse evolutionary training: drop the smallest weights, grow at random (Mocanu et al. 2018).

    `step()` comes after each `optimizer.step()`. Until step `until`, every `every` steps, the share
    `fraction` · (1 + cos(π · step / until)) / 2 of each layer's weights moves. A step that GradScaler skipped does not
    count. Random choices take `generator`, a CPU generator. In several processes all get the masks of rank 0.
    """

    needs_gradients = False

    def __init__(
        self,
        masking: Masking,
        *,
        every: int = 100,
        until: int,
        fraction: float = 0.3,
        generator: torch.Generator | None = None,
    ) -> None:
        if every < 1 or until < 0:
            raise InputError(f"every is {every} and until is {until}; every must be at least 1 and until at least 0.")
        if not 0 <= fraction <= 1:
            raise InputError(f"fraction is {fraction}; the share of weights moved at an update must be in [0, 1].")
        self.masking, self.every, self.until, self.fraction, self.generator = masking, every, until, fraction, generator
        self.seen = masking.steps
        self._collect()

    def due(self, step: int) -> bool:
        """Whether the topology moves after that many optimizer steps."""
        return step % self.every == 0 and 0 < step < self.until

    def step(self) -> bool:
        """Move the topology if it is due; return whether it moved."""
        if not self.masking.attached:
            raise InputError(
                "the masking is not attached to an optimizer and this model's parameters; "
                "call masking.attach(optimizer) before training, again after a copy (masking.to(copy).attach(...))."
            )
        skipped = self.masking.steps == self.seen
        self.seen = self.masking.steps
        moves = not skipped and self.due(self.seen)
        if not skipped:
            self.observe()
        if moves:
            self.masking.update(self.moved(), self.masking.counts)
        self._collect()
        return moves

    def moved(self) -> dict[str, Tensor]:
        """The masks after this update, by parameter name."""
        counts = self.counts()
        return {name: self.move(name, counts[name]) for name in self.masking.parts if self.moves(name)}

    def moves(self, name: str) -> bool:
        """Whether a layer's topology may move: not while it is frozen."""
        return self.masking.parts[name].parameter.requires_grad

    def move(self, name: str, count: int) -> Tensor:
        """One layer's new mask of `count` weights."""
        mask, pattern = self.masking.parts[name].mask, self.masking.pattern
        moving = self.moving(name, count)
        drop = torch.where(mask, self.drop_scores(name), -torch.inf)
        left = min(count - moving, int(mask.count_nonzero()))
        if not moving:
            return pattern.mask(drop, left) & mask
        kept = pattern.survivors(drop, left) & mask
        return pattern.mask(torch.where(kept, torch.inf, self.grow_scores(name)), count)

    def moving(self, name: str, count: int) -> int:
        """How many of a layer's `count` weights move."""
        return round(self.moving_share() * count) if self.moves(name) else 0

    def moving_share(self) -> float:
        """The drop fraction now, decayed by a cosine (Evci et al. 2020)."""
        return self.fraction * (1 - cosine(min(1.0, self.seen / self.until)))

    def counts(self) -> dict[str, int]:
        """How many weights each layer has after this update."""
        return self.masking.counts

    def drop_scores(self, name: str) -> Tensor:
        """What keeps a living weight alive: its magnitude."""
        return self.masking.parts[name].weight.abs()

    def grow_scores(self, name: str) -> Tensor:
        """What wakes a dead weight: chance."""
        part = self.masking.parts[name]
        return torch.rand(part.mask.shape, generator=self.generator).to(part.parameter.device)

    def observe(self) -> None:
        """Look at a step that is done, before the topology moves."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beyond the masking's own state; readable by `torch.load(weights_only=True)`."""
        return {"seen": self.seen, "generator": self.generator.get_state() if self.generator else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if not state or state.keys() != self.state_dict().keys():
            raise InputError(f"the state is not that of {type(self).__name__}; make the method that was saved.")
        if (state["generator"] is None) != (self.generator is None):
            raise InputError("the saved method and this one differ in having a generator; make it with the same ones.")
        self.seen = state["seen"]
        if self.generator:
            self.generator.set_state(state["generator"].cpu())
        self._collect()

    def collects(self, step: int) -> bool:
        """Whether the dense gradient of that step is needed."""
        return self.needs_gradients and self.due(step)

    def _collect(self) -> None:
        """Ask for dense gradients in the next step where it needs them, and only there."""
        self.masking.collect(self.collects(self.seen + 1))


class RigL(SET):
    """Rigging the lottery: grow where the dense gradient is largest (Evci et al. 2020)."""

    needs_gradients = True

    def grow_scores(self, name: str) -> Tensor:
        """|g|."""
        return self.gradient(name).abs()

    def gradient(self, name: str) -> Tensor:
        """The dense gradient of the step just done, of the weight's shape, averaged over the processes."""
        gradient = self.masking.parts[name].gradient
        if gradient is None:
            raise InputError(
                f"{name} got no gradient in the step before this update; exclude it or use it in the loss."
            )
        return averaged(gradient)


class SNFS(RigL):
    """Sparse networks from scratch: grow, and share out over layers, by momentum (Dettmers & Zettlemoyer 2019).

    m ← β m + (1 − β) g at every step, with g the dense gradient, so every step pays for it; a layer grows in proportion
    to the mean |m| of its living weights. Under GradScaler g is the scaled gradient, whose scale seldom changes.
    """

    def __init__(self, masking: Masking, *, momentum: float = 0.9, **options: Any) -> None:
        if masking.pattern.density is not None:
            raise InputError(f"SNFS moves weights between layers, which {masking.pattern} does not allow; use RigL.")
        if not 0 <= momentum < 1:
            raise InputError(f"momentum is {momentum}; it must be in [0, 1).")
        self.momentum, self.averages = momentum, {}
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
            moving = super().moving(name, alive)
            shares = moving and name in self.masking.masked
            rooms[name] = mask.numel() if shares else alive
            kept[name] = alive - moving if shares else alive
            means[name] = float(self.gradient(name)[mask].abs().mean()) if shares else 0.0
        asked = sum(self.masking.counts.values())
        self.masking.counts = share(asked - sum(kept.values()), kept, means, rooms)
        return self.masking.counts

    def moving(self, name: str, count: int) -> int:
        """What the layer will have beyond the survivors of what it has."""
        alive = int(self.masking.parts[name].mask.count_nonzero())
        return max(0, count - alive + super().moving(name, alive))

    def state_dict(self) -> dict[str, Any]:
        """With the averages."""
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


def refuse_stored(masking: Masking, method: str) -> None:
    """Raise `InputError` where a layer of sparse storage would have to change the number of its weights."""
    stored = masking.parts.keys() - masking.masked.keys()
    if stored:
        raise InputError(
            f"{min(stored)} is stored sparsely and keeps the number of its weights, which {method} changes; "
            "train with masks over dense layers and convert them afterwards, or use RigL, SET or SNFS."
        )


class GraNet(RigL):
    """Gradual pruning with neuroregeneration: RigL while the sparsity rises by a schedule (Liu et al. 2021).

    The masking starts at the initial sparsity (0.5 or less serves well) and has `sparsity` after the last update before
    `until`. Layers get their counts by the masking's distribution; the paper's is "global".
    """

    def __init__(
        self, masking: Masking, sparsity: float, *, schedule: str | Schedule = "cubic", **options: Any
    ) -> None:
        size = sum(part.mask.numel() for part in masking.parts.values())
        alive = sum(masking.counts.values()) + len(masking.counts) / 2  # each is rounded
        if not (1 - sparsity) * size <= alive or not sparsity < 1:
            raise InputError(
                f"sparsity is {sparsity}; it must be in [{masking.sparsity:.4g}, 1), from the masking's own on."
            )
        if masking.pattern.density is not None:
            raise InputError(f"{masking.pattern} has one sparsity only and cannot become sparser; use RigL.")
        refuse_stored(masking, type(self).__name__)
        self.initial, self.sparsity, self.schedule = masking.sparsity, sparsity, find_schedule(schedule)
        super().__init__(masking, **options)
        if self.until <= self.every:
            raise InputError(
                f"until is {self.until}, which leaves no update at every {self.every} steps to reach the sparsity; "
                f"until must be above {self.every}."
            )

    def counts(self) -> dict[str, int]:
        """The counts that the schedule allows now, no layer above what it has."""
        last = (self.until - 1) // self.every * self.every
        progress = min(1.0, self.seen / last)
        done = self.schedule(progress) if progress < 1 else 1.0
        now = self.initial + (self.sparsity - self.initial) * done if done < 1 else self.sparsity
        magnitudes = {name: part.weight.abs() for name, part in self.masking.parts.items() if self.moves(name)}
        self.masking.counts = self.masking.distribute(now, self.masking.alive(magnitudes))
        return self.masking.counts

    def state_dict(self) -> dict[str, Any]:
        """With the sparsity it started from."""
        return {**super().state_dict(), "initial": self.initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the sparsity it started from."""
        super().load_state_dict(state)
        self.initial = state["initial"]


class GMP(GraNet):
    """Gradual magnitude pruning: the sparsity rises by a schedule and nothing grows back (Zhu & Gupta 2017)."""

    needs_gradients = False

    def moving_share(self) -> float:
        """None."""
        return 0.0


class SRigL(RigL):
    """Structured RigL: RigL at constant fan-in, with neurons ablated that have too little to say (Lasby et al. 2024).

    A weight is salient if RigL without a pattern would keep or grow it. A neuron with fewer salient weights than
    `ablation` · fan-in is ablated, and the others share its weights equally: a layer's count is kept to half a weight
    per neuron. Neurons enough to hold the count stay, and all of the last layer, whose neurons are classes.
    """

    def __init__(self, masking: Masking, *, ablation: float = 0.3, **options: Any) -> None:
        if not isinstance(masking.pattern, FanIn):
            raise InputError(f"SRigL needs a masking of pattern FanIn(), not {masking.pattern}.")
        refuse_stored(masking, "SRigL")
        if not 0 <= ablation <= 1:
            raise InputError(
                f"ablation is {ablation}; the share of salient weights that keeps a neuron must be in [0, 1]."
            )
        self.ablation = ablation
        super().__init__(masking, **options)

    def move(self, name: str, count: int) -> Tensor:
        """One layer's new mask: equally many weights in every neuron that is not ablated."""
        moving, mask = self.moving(name, count), self.masking.parts[name].mask.flatten(1)
        if not moving:
            return self.masking.parts[name].mask
        rows, columns = mask.shape
        magnitude = self.drop_scores(name).flatten(1).masked_fill(~mask, -torch.inf)
        gradient = self.grow_scores(name).flatten(1)
        kept = best(magnitude, min(count - moving, int(mask.count_nonzero()))) & mask
        salient = (kept | best(gradient.masked_fill(mask, -torch.inf), moving)).sum(1)
        enough = self.ablation * count / int(mask.any(1).sum())
        active = rows if name == self.masking.layers[-1].parameter else int((salient >= enough).sum())
        active = max(1, active, math.ceil(count / columns))
        fan_in = max(1, min(columns, round(count / active)))
        strongest = best_of_rows(magnitude.masked_fill(~kept, -torch.inf), fan_in)
        grown = best_of_rows(gradient.masked_fill(kept, torch.inf), fan_in)
        full = kept.sum(1, keepdim=True) > fan_in  # a neuron with more survivors than its share keeps the strongest
        return (torch.where(full, strongest, grown) & best(salient, active)[:, None]).reshape(
            self.drop_scores(name).shape
        )
