"""What got better and what got worse between two folders of results, beyond the noise of the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.table import Table

from gossamer.compare import Row
from gossamer.failures import Failure

LEVEL = 0.05
Verdict = Literal["better", "worse", "same", "unclear", "failed", "vanished"]
WORSE: tuple[Verdict, ...] = ("worse", "failed")


@dataclass(frozen=True)
class Change:
    """One method on one data set, before and after; `new` is None where it is no more.

    `error` is what its run failed with, where it did; `p` is that of Welch's t-test over the seeds, None where there is
    nothing to test.
    """

    old: Row
    new: Row | None
    error: str = ""
    p: float | None = None

    @property
    def verdict(self) -> Verdict:
        """By `p` at 5%; "unclear" where one seed alone says nothing of the noise."""
        if self.new is None:
            return "failed" if self.error else "vanished"
        if _values(self.old) == _values(self.new):
            return "same"
        if self.p is None:
            return "unclear"
        if self.p >= LEVEL:
            return "same"
        risen = self.new.value > self.old.value
        return "better" if risen == self.new.first.higher_is_better else "worse"

    def plain(self) -> dict[str, Any]:
        """What JSON says of it: which runs, the values before and after by seed, and the verdict."""
        first = (self.new or self.old).first
        values = {
            name: row and {"value": row.value, "seeds": {result.seed: result.value for result in row.results}}
            for name, row in (("old", self.old), ("new", self.new))
        }
        named = {name: getattr(first, name) for name in ("domain", "data", "method", "metric", "command")}
        return {
            **named,
            **values,
            "p": self.p,
            "verdict": self.verdict,
            **({"error": self.error} if self.error else {}),
        }


def changes(old: Sequence[Row], new: Sequence[Row], failures: Sequence[Failure] = ()) -> list[Change]:
    """The rows of `old` beside those of `new`, matched by what was run, the seeds aside; those that are no more last.

    Their p values are adjusted for how many are tested (Benjamini & Hochberg 1995), lest of many rows that did not
    change some look worse by chance.
    """
    known = {_content(row): row for row in new}
    failed = {_same(failure.domain, failure.config): failure.error for failure in failures}
    both = [tested(row, known[_content(row)]) for row in old if _content(row) in known]
    lost = [
        Change(row, None, failed.get(_same(row.first.domain, row.first.config), ""))
        for row in old
        if _content(row) not in known
    ]
    ps = [change.p for change in both if change.p is not None]
    if ps:
        from scipy.stats import false_discovery_control

        adjusted = iter(false_discovery_control(ps).tolist())
        both = [change if change.p is None else replace(change, p=next(adjusted)) for change in both]
    return both + lost


def tested(old: Row, new: Row) -> Change:
    """The change with its own p; 0 where neither has any noise and yet they differ."""
    before, after = _values(old), _values(new)
    if before == after or min(len(before), len(after)) < 2:
        return Change(old, new)
    if not (old.spread or new.spread):
        return Change(old, new, p=0.0)
    from scipy.stats import ttest_ind

    test: Any = ttest_ind(before, after, equal_var=False)
    return Change(old, new, p=float(test.pvalue))


def table(found: Sequence[Change]) -> Table:
    """The changes as a table for the terminal."""
    shown = Table("domain", "data", "method", "setting", "metric", "old", "new", "verdict")
    for change in found:
        first = change.old.first
        colour = "green" if change.verdict == "better" else "red" if change.verdict in WORSE else ""
        values = [
            f"{row.value:.4g} ± {row.spread:.2g} ({len(row.results)})" if row else "–"
            for row in (change.old, change.new)
        ]
        setting = (change.new.setting if change.new else "") or change.old.setting
        verdict = f"{change.verdict}: {change.error}" if change.error else change.verdict
        shown.add_row(first.domain, first.data, first.method, setting, first.metric, *values, verdict, style=colour)
    return shown


def _values(row: Row) -> list[float]:
    return sorted(result.value for result in row.results)


def _content(row: Row) -> tuple[str, ...]:
    return row.first.data, *_same(row.first.domain, row.first.config)


def _same(domain: str, config: dict[str, Any]) -> tuple[str, str]:
    return domain, repr(sorted((name, value) for name, value in config.items() if name != "seed"))
