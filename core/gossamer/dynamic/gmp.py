"""GMP: the sparsity rises by a schedule."""

from collections.abc import Mapping
from typing import Any

from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.dynamic.method import Method
from gossamer.errors import InputError, check_sparsity, of_type
from gossamer.masking import Masking
from gossamer.schedules import Schedule
from gossamer.schedules import schedule as find_schedule


class GMP(Method):
    """Gradual magnitude pruning: the sparsity rises by a schedule and nothing grows back (Zhu & Gupta 2017).

    The masking starts at the initial sparsity s₀ and has `sparsity` s₁ after the last update before `until`; at
    progress p of the way it has s₀ + (s₁ − s₀) · schedule(p). Layers get their counts by `distribution`, the masking's
    own where that is None. Frozen layers are pruned as the others. The other options are `Method`'s.

    Raises `InputError` for a sparsity below the masking's or not below 1, for a pattern of one sparsity, and where no
    update comes before `until`.
    """

    changes_counts = True

    def __init__(
        self,
        masking: Masking,
        sparsity: float,
        *,
        schedule: str | Schedule = "cubic",
        distribution: str | Mapping[str, float] | Distribution | None = None,
        **options: Any,
    ) -> None:
        of_type(Masking, "the masking that gossamer.sparsify gives", masking=masking)
        check_sparsity(sparsity)
        if distribution is not None:
            find_distribution(distribution)
        size = sum(part.mask.numel() for part in masking.parts.values())
        alive = sum(masking.counts.values()) + len(masking.counts) / 2  # each is rounded
        if not (1 - sparsity) * size <= alive:
            raise InputError(
                f"sparsity is {sparsity}; it must be in [{masking.sparsity:.4g}, 1), from the masking's own on."
            )
        if masking.pattern.density is not None:
            raise InputError(f"{masking.pattern} has one sparsity only and cannot become sparser; use RigL.")
        self.initial, self.sparsity = masking.sparsity, sparsity
        self.schedule, self.distribution = find_schedule(schedule), distribution
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
        magnitudes = {name: part.weight.abs() for name, part in self.masking.parts.items()}
        return self.masking.distribute(now, self.masking.alive(magnitudes), self.distribution)

    def state_dict(self) -> dict[str, Any]:
        """With the sparsity it started from."""
        return {**super().state_dict(), "initial": self.initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the sparsity it started from."""
        super().load_state_dict(state)
        self.initial = state["initial"]
