"""What every dynamic method does: now and then, each layer drops its least weights and grows others, in its pattern."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError, of_type, whole
from gossamer.masking import Masking
from gossamer.scores import check_generator


def last_move(steps: int) -> int:
    """The step before which the topology moves in a training of so many: three quarters of them (Evci et al. 2020)."""
    return steps * 3 // 4


class Method:
    """A topology that may move: `step()` after each `optimizer.step()` moves it every `every` steps, before `until`.

    A method overrides one of the hooks: `counts`, how many weights each layer has after an update; `growth`, how many
    of them are grown in the stead of others; `drop_scores` and `grow_scores`, which they are; or `new_mask`, all of it.
    Without any the topology stays. With kept = pattern.survivors(drop scores, count − growth), a layer's new mask is
    pattern.mask(∞ where kept, else grow scores, count). A layer that is frozen grows nothing, and drops only where its
    count falls.

    A step that GradScaler skipped does not count. Random choices take `generator`, a CPU generator. In several
    processes all get the masks of rank 0. Raises `InputError` for an `every` below 1 or an `until` below 0.
    """

    needs_gradients = False
    """whether an update needs the dense gradients of the step before it"""
    changes_counts = False
    """whether an update changes how many weights a layer has, which a layer of sparse storage cannot"""

    def __init__(
        self, masking: Masking, *, every: int = 100, until: int, generator: torch.Generator | None = None
    ) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        whole(1, every=every)
        whole(0, until=until)
        check_generator(generator)
        stored = masking.parts.keys() - masking.masked.keys()
        if self.changes_counts and stored:
            raise InputError(
                f"{min(stored)} is stored sparsely and keeps the number of its weights, which {type(self).__name__} "
                "changes; train with masks over dense layers and convert them afterwards, or use RigL, SET or SNFS."
            )
        self.masking, self.every, self.until, self.generator = masking, every, until, generator
        self.seen = masking.steps
        self._collect()

    def due(self, step: int) -> bool:
        """Whether the topology moves after that many optimizer steps."""
        return step % self.every == 0 and 0 < step < self.until

    def step(self) -> bool:
        """Move the topology if it is due; return whether it was."""
        if not self.masking.attached:
            raise InputError(
                "the masking is not attached to an optimizer and this model's parameters; "
                "call masking.attach(optimizer) before training, again after a copy (masking.to(copy).attach(...))."
            )
        skipped = self.masking.steps == self.seen
        self.seen = self.masking.steps
        due = not skipped and self.due(self.seen)
        if not skipped:
            self.observe()
        if due:
            self.update()
        self._collect()
        return due

    def update(self) -> None:
        """Move the topology now."""
        counts = self.counts()
        before, own = self.masking.counts, type(self).__name__
        of_type(Mapping, "a mapping of parameter names to numbers", **{f"what {own}.counts gives": counts})
        kept = counts.keys() == before.keys() and sum(counts.values()) == sum(before.values())
        if not (kept or self.changes_counts):
            raise InputError(
                f"{own}.counts gives {counts} in place of {before}; name every parameter, and keep the sum or say that "
                "it changes, by changes_counts = True."
            )
        moving = [name for name in before if not self.frozen(name) or counts[name] != before[name]]
        masks = {name: self.new_mask(name, counts[name]) for name in moving}
        for name, mask in masks.items():
            self._check(name, "new_mask", mask)
            if mask.dtype != torch.bool:
                raise InputError(f"{own}.new_mask gives {mask.dtype} for {name}; it must give a boolean mask.")
        self.masking.update(masks, counts)

    def _check(self, name: str, hook: str, given: Any) -> Tensor:
        """What a method's own hook gave, or `InputError` where that is no tensor of the weight's shape."""
        shape = self.masking.parts[name].mask.shape
        if not isinstance(given, Tensor) or given.shape != shape:
            told = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise InputError(f"{type(self).__name__}.{hook} gives {told} for {name}; it must be of {tuple(shape)}.")
        return given

    def frozen(self, name: str) -> bool:
        """Whether a layer's weight does not train, so that its topology stays."""
        return not self.masking.parts[name].parameter.requires_grad

    def new_mask(self, name: str, count: int) -> Tensor:
        """One layer's mask of `count` weights after this update."""
        masking, mask, growth = self.masking, self.masking.parts[name].mask, self.growth(name, count)
        whole(0, **{f"what {type(self).__name__}.growth gives for {name}": growth})
        drop = torch.where(mask, self._check(name, "drop_scores", self.drop_scores(name)), -torch.inf)
        left = min(count - growth, int(mask.count_nonzero()))
        if not growth:
            return masking.fitted(name, drop, left) & mask
        kept = masking.survivors(name, drop, left) & mask
        grow = self._check(name, "grow_scores", self.grow_scores(name))
        return masking.fitted(name, torch.where(kept, torch.inf, grow), count)

    def counts(self) -> dict[str, int]:
        """How many weights each layer has after this update: as many as before."""
        return self.masking.counts

    def growth(self, name: str, count: int) -> int:
        """How many of a layer's `count` weights are grown: none."""
        return 0

    def drop_scores(self, name: str) -> Tensor:
        """What keeps a living weight alive, of the weight's shape: its magnitude."""
        return self.masking.parts[name].weight.abs()

    def grow_scores(self, name: str) -> Tensor:
        """What wakes a dead weight, of the weight's shape; a method that grows has an answer."""
        raise NotImplementedError(f"{type(self).__name__} grows weights and has no grow_scores")

    def observe(self) -> None:
        """Look at a step that is done, before the topology moves."""

    def collects(self, step: int) -> bool:
        """Whether the dense gradient of that step is needed."""
        return self.needs_gradients and self.due(step)

    def _collect(self) -> None:
        """Ask for dense gradients in the next step where it needs them, and only there."""
        self.masking.collect(self.collects(self.seen + 1))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beyond the masking's own state; readable by `torch.load(weights_only=True)`."""
        return {"seen": self.seen, "generator": self.generator.get_state() if self.generator else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; `InputError` where it is another method's."""
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise InputError(f"the state is not that of {type(self).__name__}; make the method that was saved.")
        if (state["generator"] is None) != (self.generator is None):
            raise InputError("the saved method and this one differ in having a generator; make it with the same ones.")
        self.seen = state["seen"]
        if self.generator:
            self.generator.set_state(state["generator"].cpu())
        self._collect()
