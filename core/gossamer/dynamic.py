"""Dynamic sparse training: the masks move while the weights train. Each method overrides a hook of the one before it.

Every `every` steps of the optimizer, each layer drops the least of its weights and grows as many others, within its
pattern: keep = pattern.mask(drop_score, count − moved), then mask = pattern.mask(∞ where kept, else grow_score, count).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.masking import Masking
from gossamer.patterns import FanIn, best, best_of_rows
from gossamer.schedules import Schedule, cosine
from gossamer.schedules import schedule as find_schedule


class SET:
    """Sparse evolutionary training: drop the smallest weights, grow at random (Mocanu et al. 2018).

    `step()` comes after each `optimizer.step()`. Until step `until`, every `every` steps, the share
    `fraction` · (1 + cos(π · step / until)) / 2 of each layer's weights moves. A step that GradScaler skipped does not
    count. Random choices take `generator`.
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
                "the masking is not attached to an optimizer; call masking.attach(optimizer) before training."
            )
        skipped = self.masking.steps == self.seen
        self.seen = self.masking.steps
        moves = not skipped and self.due(self.seen)
        if not skipped:
            self.observe()
        if moves:
            self.masking.update(self.moved())
        self._collect()
        return moves

    def moved(self) -> dict[str, Tensor]:
        """The masks after this update, by parameter name."""
        counts = self.counts()
        return {name: self.move(name, counts[name]) for name in self.masking.masks}

    def move(self, name: str, count: int) -> Tensor:
        """One layer's new mask of `count` weights."""
        mask, pattern = self.masking.masks[name], self.masking.pattern
        kept = pattern.mask(self.drop_scores(name).masked_fill(~mask, -torch.inf), self.kept(name, count))
        grown = self.reduced(self.grow_scores(name)).masked_fill(kept, torch.inf)
        return pattern.mask(grown, count)

    def kept(self, name: str, count: int) -> int:
        """How many of a layer's `count` weights stay where they are."""
        return count - round(self.moving_share() * count)

    def moving_share(self) -> float:
        """The drop fraction now, decayed by a cosine (Evci et al. 2020)."""
        return self.fraction * (1 - cosine(min(1.0, self.seen / self.until)))

    def counts(self) -> dict[str, int]:
        """How many weights each layer has after this update."""
        return self.masking.counts

    def drop_scores(self, name: str) -> Tensor:
        """What keeps a living weight alive: its magnitude."""
        return self.masking.weights[name].detach().abs()

    def grow_scores(self, name: str) -> Tensor:
        """What wakes a dead weight: chance."""
        weight = self.masking.weights[name]
        return torch.rand(weight.shape, generator=self.generator).to(weight.device)

    def observe(self) -> None:
        """Look at a step that is done, before the topology moves."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beyond the masking's own state; readable by `torch.load(weights_only=True)`."""
        return {"seen": self.seen, "generator": self.generator.get_state() if self.generator else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.seen = state["seen"]
        if self.generator and state["generator"] is not None:
            self.generator.set_state(state["generator"])
        self._collect()

    def gradient(self, name: str) -> Tensor:
        """The dense gradient of the step just done, of the weight's shape."""
        gradients = self.masking.dense_gradients or {}
        if name not in gradients:
            raise InputError(
                f"{name} got no gradient in the step before this update; exclude it or use it in the loss."
            )
        return gradients[name]

    @staticmethod
    def reduced(scores: Tensor) -> Tensor:
        """The scores summed over the processes, so that every rank grows the same weights."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(scores := scores.clone())
        return scores

    def _collect(self) -> None:
        """Ask for dense gradients in the next step where it needs them, and only there."""
        self.masking.dense_gradients = {} if self.collects(self.seen + 1) else None

    def collects(self, step: int) -> bool:
        """Whether the dense gradient of that step is needed."""
        return self.needs_gradients and self.due(step)


class RigL(SET):
    """Rigging the lottery: grow where the dense gradient is largest (Evci et al. 2020)."""

    needs_gradients = True

    def grow_scores(self, name: str) -> Tensor:
        """|g|."""
        return self.gradient(name)

    @staticmethod
    def reduced(scores: Tensor) -> Tensor:
        """The magnitude of the gradient's sum over the processes."""
        return SET.reduced(scores).abs()


class SNFS(RigL):
    """Sparse networks from scratch: grow, and share out over layers, by momentum (Dettmers & Zettlemoyer 2019).

    m ← β m + (1 − β) g at every step, with g the dense gradient, so every step pays for it; a layer grows in proportion
    to the mean |m| of its living weights.
    """

    def __init__(self, masking: Masking, *, momentum: float = 0.9, **options: Any) -> None:
        if masking.pattern.density is not None:
            raise InputError(f"SNFS moves weights between layers, which {masking.pattern} does not allow; use RigL.")
        self.momentum, self.averages = momentum, {}
        super().__init__(masking, **options)

    def collects(self, step: int) -> bool:
        """Every step up to the last update."""
        return step < self.until

    def observe(self) -> None:
        """Update the averages; a resumed run finds them in the state dict."""
        for name, gradient in (self.masking.dense_gradients or {}).items():
            average = self.averages.setdefault(name, torch.zeros_like(gradient))
            average.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)

    def gradient(self, name: str) -> Tensor:
        """The gradient's running average."""
        if name not in self.averages:
            raise InputError(f"{name} has had no gradient yet; exclude it or use it in the loss.")
        return self.averages[name]

    def counts(self) -> dict[str, int]:
        """Every layer's survivors, plus its share of all that was dropped."""
        masks = self.masking.masks
        kept = {name: self.kept(name, mask.numel()) for name, mask in masks.items()}
        means = {name: float(self.reduced(self.gradient(name))[mask].mean()) for name, mask in masks.items()}
        sizes = {name: mask.numel() for name, mask in masks.items()}
        self.masking.counts = share(sum(self.masking.counts.values()) - sum(kept.values()), kept, means, sizes)
        return self.masking.counts

    def kept(self, name: str, count: int) -> int:
        """The survivors are counted from what is alive, not from what the layer will have."""
        alive = int(self.masking.masks[name].sum())
        return min(count, alive - round(self.moving_share() * alive))

    def state_dict(self) -> dict[str, Any]:
        """With the averages."""
        return {**super().state_dict(), "averages": dict(self.averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the averages."""
        self.averages = {name: average.clone() for name, average in state["averages"].items()}
        super().load_state_dict(state)


def share(
    amount: int, base: Mapping[str, int], weights: Mapping[str, float], sizes: Mapping[str, int]
) -> dict[str, int]:
    """`base` plus `amount` shared in proportion to `weights`; what would exceed a size is shared again."""
    result, open_ = dict(base), [name for name in base if base[name] < sizes[name]]
    while amount and open_:
        whole = sum(weights[name] for name in open_) or 1.0
        portions = {name: min(int(amount * weights[name] / whole), sizes[name] - result[name]) for name in open_}
        if not any(portions.values()):
            portions = {max(open_, key=lambda name: weights[name]): 1}
        for name, portion in portions.items():
            result[name] += portion
            amount -= portion
        open_ = [name for name in open_ if result[name] < sizes[name]]
    return result


class GraNet(RigL):
    """Gradual pruning with neuroregeneration: RigL while the sparsity rises by a schedule (Liu et al. 2021).

    The masking starts at the initial sparsity (0.5 or less serves well). Layers get their counts by magnitude over all
    layers, unless the masking's distribution is another; `regrow=False` leaves gradual magnitude pruning (GMP).
    """

    def __init__(
        self, masking: Masking, sparsity: float, *, schedule: str | Schedule = "cubic", **options: Any
    ) -> None:
        if not masking.sparsity <= sparsity < 1:
            raise InputError(
                f"sparsity is {sparsity}; it must be in [{masking.sparsity:.4g}, 1), from the masking's own on."
            )
        if masking.pattern.density is not None:
            raise InputError(f"{masking.pattern} has one sparsity only and cannot become sparser; use RigL.")
        self.initial, self.sparsity, self.schedule = masking.sparsity, sparsity, find_schedule(schedule)
        super().__init__(masking, **options)

    def counts(self) -> dict[str, int]:
        """The counts that the schedule allows now, no layer above what it has."""
        last = max(self.every, (self.until - 1) // self.every * self.every)
        progress = min(1.0, self.seen / last)
        now = self.initial + (self.sparsity - self.initial) * self.schedule(progress)
        alive = {
            name: w.detach().abs().masked_fill(~self.masking.masks[name], -1)
            for name, w in self.masking.weights.items()
        }
        self.masking.counts = self.masking.distribute(now, alive)
        return self.masking.counts

    def kept(self, name: str, count: int) -> int:
        """A layer keeps no more than it has."""
        return min(super().kept(name, count), int(self.masking.masks[name].sum()))

    def state_dict(self) -> dict[str, Any]:
        """With the sparsity it started from."""
        return {**super().state_dict(), "initial": self.initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the sparsity it started from."""
        self.initial = state["initial"]
        super().load_state_dict(state)


class GMP(GraNet):
    """Gradual magnitude pruning: the sparsity rises by a schedule and nothing grows back (Zhu & Gupta 2017)."""

    needs_gradients = False

    def moving_share(self) -> float:
        """None."""
        return 0.0

    def gradient(self, name: str) -> Tensor:
        """Nothing grows, so no gradient is asked for."""
        return torch.zeros_like(self.masking.weights[name])


class SRigL(RigL):
    """Structured RigL: RigL at constant fan-in, with neurons ablated that have too little to say (Lasby et al. 2024).

    A weight is salient if RigL without a pattern would keep or grow it. A neuron with fewer salient weights than
    `ablation` · fan-in is ablated, and the others share its weights equally: the count is kept to half a neuron each.
    """

    def __init__(self, masking: Masking, *, ablation: float = 0.3, **options: Any) -> None:
        if not isinstance(masking.pattern, FanIn):
            raise InputError(f"SRigL needs a masking of pattern FanIn(), not {masking.pattern}.")
        if not 0 <= ablation <= 1:
            raise InputError(
                f"ablation is {ablation}; the share of salient weights that keeps a neuron must be in [0, 1]."
            )
        self.ablation = ablation
        super().__init__(masking, **options)

    def move(self, name: str, count: int) -> Tensor:
        """One layer's new mask: equally many weights in every neuron that is not ablated."""
        mask = self.masking.masks[name].flatten(1)
        magnitude = self.drop_scores(name).flatten(1).masked_fill(~mask, -torch.inf)
        gradient = self.reduced(self.grow_scores(name)).flatten(1)
        kept = best(magnitude, self.kept(name, count))
        salient = kept | best(gradient.masked_fill(mask, -torch.inf), count - self.kept(name, count))
        fan_in = count / int(mask.any(1).sum())
        per_neuron = salient.sum(1)
        active = per_neuron >= max(1.0, min(self.ablation * fan_in, float(per_neuron.max())))
        fan_in = min(mask.shape[1], max(1, round(count / int(active.sum()))))
        scores = gradient.masked_fill(kept, torch.inf)
        stronger = magnitude.masked_fill(~kept, -torch.inf)
        full = kept.sum(1) > fan_in  # a neuron with more survivors than its share keeps the strongest
        grown = torch.where(full[:, None], best_of_rows(stronger, fan_in), best_of_rows(scores, fan_in))
        return (grown & active[:, None]).reshape(self.masking.masks[name].shape)
