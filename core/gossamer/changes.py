"""What got better and what got worse between two folders of results, beyond the noise of the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table

from gossamer.compare import Row

LEVEL = 0.05
Verdict = Literal["better", "worse", "same", "unclear"]


@dataclass(frozen=True)
class Change:
    """One method on one data set, before and after."""

    old: Row
    new: Row

    @property
    def verdict(self) -> Verdict:
        """By Welch's t-test at 5% over the seeds; "unclear" where one seed alone says nothing of the noise."""
        before, after = ([result.value for result in row.results] for row in (self.old, self.new))
        if sorted(before) == sorted(after):
            return "same"
        if min(len(before), len(after)) < 2:
            return "unclear"
        if self.old.spread or self.new.spread:
            from scipy.stats import ttest_ind

            test: Any = ttest_ind(before, after, equal_var=False)
            if test.pvalue >= LEVEL:
                return "same"
        risen = self.new.value > self.old.value
        return "better" if risen == self.new.first.higher_is_better else "worse"

    def plain(self) -> dict[str, Any]:
        """What JSON says of it: which runs, the values before and after by seed, and the verdict."""
        first, values = self.new.first, {}
        for name, row in (("old", self.old), ("new", self.new)):
            values[name] = {"value": row.value, "seeds": {result.seed: result.value for result in row.results}}
        named = {name: getattr(first, name) for name in ("domain", "data", "method", "metric", "command")}
        return {**named, **values, "verdict": self.verdict}


def changes(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """The rows that both have, matched by what was run, the seeds aside."""
    known = {_content(row): row for row in old}
    return [Change(known[_content(row)], row) for row in new if _content(row) in known]


def table(found: Sequence[Change]) -> Table:
    """The changes as a table for the terminal."""
    shown = Table("domain", "data", "method", "setting", "metric", "old", "new", "verdict")
    for change in found:
        first, colour = change.new.first, {"better": "green", "worse": "red"}.get(change.verdict, "")
        values = (f"{row.value:.4g} ± {row.spread:.2g} ({len(row.results)})" for row in (change.old, change.new))
        setting = change.new.setting or change.old.setting
        cells = (first.domain, first.data, first.method, setting, first.metric, *values, change.verdict)
        shown.add_row(*cells, style=colour)
    return shown


def _content(row: Row) -> tuple[str, str, str]:
    config = {name: value for name, value in row.first.config.items() if name != "seed"}
    return row.first.domain, row.first.data, repr(sorted(config.items()))
