"""The comparison table, made of result files alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.table import Table

from gossamer.results import Result, beside_dense

HEADINGS = (
    "domain",
    "data",
    "method",
    "pattern",
    "sparsity",
    "metric",
    "value",
    "dense",
    "score",
    "parameters",
    "non-zeros",
    "bytes",
    "seconds",
)


@dataclass(frozen=True)
class Row:
    """One method on one data set: the runs that differ in their seed alone."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The run that stands for what all have in common."""
        return self.results[0]

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return fmean(r.value for r in self.results)

    @property
    def spread(self) -> float:
        """The sample standard deviation over the seeds, 0 for a single run."""
        return stdev(r.value for r in self.results) if len(self.results) > 1 else 0.0

    def mean(self, name: str) -> float | None:
        """The mean of a field over the runs that have it."""
        values = [value for r in self.results if (value := getattr(r, name)) is not None]
        return fmean(values) if values else None

    def cells(self) -> list[str]:
        """The row as text, in the order of `HEADINGS`."""
        r, dense, score = self.first, self.mean("dense_value"), self.mean("score")
        spread = f" ± {self.spread:.3f}" if len(self.results) > 1 else ""
        return [
            r.domain,
            r.data,
            r.method,
            r.pattern,
            percent(self.mean("sparsity") or 0.0),
            f"{r.metric} {'↑' if r.higher_is_better else '↓'}",
            f"{self.value:.3f}{spread}",
            "–" if dense is None else f"{dense:.3f}",
            "–" if score is None else f"{score:.2f}",
            f"{r.parameters:,}",
            f"{round(self.mean('nonzeros') or 0):,}",
            f"{round(self.mean('bytes') or 0):,}",
            f"{self.mean('train_seconds'):.1f}",
        ]


def percent(sparsity: float) -> str:
    """A sparsity with as many digits as tell it from all and from nothing: 90.0%, 99.98%."""
    return f"{sparsity:.1%}" if sparsity < 0.999 else f"{sparsity:.3%}"


def rows(results: Sequence[Result]) -> list[Row]:
    """The rows of a table, dense first within each domain and data set, then from the best value to the worst."""
    groups: dict[str, list[Result]] = {}
    for result in beside_dense(list(results)):
        config = {name: value for name, value in result.config.items() if name != "seed"}
        key = json.dumps([result.domain, result.data, config], sort_keys=True)
        groups.setdefault(key, []).append(result)
    found = [Row(tuple(sorted(group, key=lambda r: r.seed))) for group in groups.values()]

    def order(row: Row) -> tuple[str, str, bool, float, str]:
        r = row.first
        return r.domain, r.data, r.method != "dense", -row.value if r.higher_is_better else row.value, r.method

    return sorted(found, key=order)


def table(found: Sequence[Row]) -> Table:
    """The rows as a table for the terminal; what does not change from row to row is left out."""
    cells = [row.cells() for row in found]
    shown = [i for i, name in enumerate(HEADINGS) if name not in ("data", "pattern")]
    result = Table(*(HEADINGS[i] for i in shown), caption="score = (value − floor) / (dense − floor)")
    for column, i in zip(result.columns, shown, strict=True):
        column.justify = "left" if i < 6 else "right"
        column.overflow = "fold"
    for number, row in enumerate(cells):
        last = number + 1 == len(cells) or cells[number + 1][:2] != row[:2]
        result.add_row(*(row[i] for i in shown), end_section=last)
    return result


def markdown(found: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [HEADINGS, tuple("---" if i < 6 else "---:" for i in range(len(HEADINGS)))]
    lines += [tuple(row.cells()) for row in found]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
