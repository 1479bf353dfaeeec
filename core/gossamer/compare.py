"""The comparison table, made of result files alone: its rows, and its columns for terminal, Markdown and page."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from csv import writer as csv_writer
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from gossamer.results import Result


@dataclass(frozen=True)
class Row:
    """One method on one data set: the runs that differ in their seed alone.

    `references` are the runs that score 1, one for each run, None where there is none; `setting` is what tells the row
    from others that all columns show alike.
    """

    results: tuple[Result, ...]
    references: tuple[Result | None, ...] = ()
    setting: str = ""

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

    @property
    def reference(self) -> float | None:
        """The mean value of the runs that score 1."""
        return _mean([twin.value for twin in self.references if twin])

    @property
    def score(self) -> float | None:
        """The mean score over the seeds, each run beside its own reference."""
        pairs = zip(self.results, self.references, strict=False)
        scores = [r.score(twin.value) for r, twin in pairs if twin]
        return _mean([score for score in scores if score is not None])

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean by Student's t over the seeds; None for a single run."""
        if len(self.results) < 2:
            return None
        from scipy.special import stdtrit

        half = float(stdtrit(len(self.results) - 1, 0.975)) * self.spread / len(self.results) ** 0.5
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """The p of the paired t-test against the references of the same seeds; None below two pairs.

        It is 1 where no seed differs from its reference, and None too where all differ by the same amount.
        """
        pairs = zip(self.results, self.references, strict=False)
        differences = [r.value - twin.value for r, twin in pairs if twin and twin is not r and twin.seed == r.seed]
        if len(differences) < 2 or not any(differences):
            return 1.0 if len(differences) >= 2 else None
        error = stdev(differences) / len(differences) ** 0.5
        if error == 0:
            return None
        from scipy.special import stdtr

        return 2 * float(stdtr(len(differences) - 1, -abs(fmean(differences)) / error))

    def mean(self, name: str) -> float | None:
        """The mean of a field over the runs that have it."""
        return _mean([value for r in self.results if (value := getattr(r, name)) is not None])


@dataclass(frozen=True)
class Column:
    """One column: its heading, what it says of a row, whether it is a number, and whether it has room in a terminal."""

    heading: str
    cell: Callable[[Row], str]
    number: bool = True
    terminal: bool = True


def percent(sparsity: float) -> str:
    """A sparsity with as many digits as tell it from all and from nothing: 90.0%, 99.98%."""
    return f"{sparsity:.1%}" if sparsity < 0.999 else f"{sparsity:.3%}"


def counted(name: str) -> Callable[[Row], str]:
    """A cell with the mean of a whole number."""
    return lambda row: f"{round(row.mean(name) or 0):,}"


def number(value: float | None, form: str) -> str:
    """A number by its format, or four digits where it is large; a dash where there is none."""
    return "–" if value is None else format(value, form if abs(value) < LARGE else ".4g")


COLUMNS = (
    Column("domain", lambda row: row.first.domain, number=False),
    Column("data", lambda row: row.first.data, number=False, terminal=False),
    Column("method", lambda row: row.first.method, number=False),
    Column("setting", lambda row: row.setting, number=False),
    Column("pattern", lambda row: row.first.pattern, number=False, terminal=False),
    Column("sparsity", lambda row: percent(row.mean("sparsity") or 0.0)),
    Column("metric", lambda row: f"{row.first.metric} {'↑' if row.first.higher_is_better else '↓'}", number=False),
    Column(
        "value",
        lambda row: number(row.value, ".3f") + (f" ± {number(row.spread, '.3f')}" if len(row.results) > 1 else ""),
    ),
    Column("reference", lambda row: number(row.reference, ".3f"), terminal=False),
    Column("score", lambda row: number(row.score, ".2f")),
    Column("p", lambda row: number(row.p, ".2g"), terminal=False),
    Column("parameters", counted("parameters"), terminal=False),
    Column("non-zeros", counted("nonzeros")),
    Column("bytes", counted("bytes")),
    Column("latency ms", lambda row: number(row.mean("latency_ms"), ".3g")),
    Column("seconds", lambda row: number(row.mean("train_seconds"), ".1f")),
    Column("caveat", lambda row: row.first.caveat, number=False),
)
LARGE = 1e9
OPTIONAL = ("setting", "caveat")
CAPTION = "score = (value − floor) / (reference − floor); p: paired t-test against the reference, seed by seed"


def columns(found: Sequence[Row], terminal: bool = False) -> list[Column]:
    """The columns that the rows have something to say in, all or those with room in a terminal."""
    return [
        column
        for column in COLUMNS
        if (column.terminal or not terminal) and (column.heading not in OPTIONAL or any(map(column.cell, found)))
    ]


def distinct(results: Sequence[Result], damaged: list[str]) -> list[Result]:
    """The results, of the same run the last one alone, as `compare` takes it; what is left out is told in `damaged`."""
    by_run: dict[str, Result] = {}
    for result in results:
        key = json.dumps([result.domain, result.data, result.config], sort_keys=True)
        if key in by_run:
            told = f"{result.domain} {result.method} seed {result.seed}"
            damaged.append(f"one of two results of the same run, {told}; delete one of the files.")
        by_run[key] = result
    return list(by_run.values())


def rows(results: Sequence[Result]) -> list[Row]:
    """The rows of a table, dense first within each domain and data set, then from the best value to the worst."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        key = json.dumps([result.domain, result.data, {**result.config, "seed": None}], sort_keys=True)
        groups.setdefault(key, []).append(result)
    found = [(json.loads(key)[2], tuple(sorted(group, key=lambda r: r.seed))) for key, group in groups.items()]
    told = [
        Row(group, tuple(reference(result, results) for result in group), setting(config, group[0], found))
        for config, group in found
    ]

    def order(row: Row) -> tuple[Any, ...]:
        r = row.first
        value = -row.value if r.higher_is_better else row.value
        return r.domain, r.data, r.kind != "dense", value, r.method, row.setting

    return sorted(told, key=order)


def setting(config: Mapping[str, Any], result: Result, found: Sequence[tuple[Mapping[str, Any], Any]]) -> str:
    """The fields in which the configuration differs from those of rows that look the same, with its own values."""
    look = (result.domain, result.data, result.method, result.pattern, result.sparsity_asked)
    alike = [
        other
        for other, (r, *_) in found
        if (r.domain, r.data, r.method, r.pattern, r.sparsity_asked) == look and other != config
    ]
    names = [name for name in config if any(name in other and other[name] != config[name] for other in alike)]
    return ", ".join(f"{name} {config[name]}" for name in names)


def reference(result: Result, results: Sequence[Result]) -> Result | None:
    """The run that scores 1: of the method that the result names, on the same data, with most in common, seed first."""
    twins = [
        other
        for other in results
        if (other.domain, other.data) == (result.domain, result.data)
        and result.reference in (other.method, other.config.get("method"))
    ]

    def common(other: Result) -> tuple[int, bool]:
        same = sum(result.config.get(name) == value for name, value in other.config.items() if name != "seed")
        return same, other.seed == result.seed

    return max(twins, key=common, default=None)


def table(found: Sequence[Row]) -> Table:
    """The rows as a table for the terminal; what does not change from row to row is left out."""
    shown = columns(found, terminal=True)
    result = Table(caption=CAPTION)
    for column in shown:
        result.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for place, row in enumerate(found):
        here, after = row.first, found[place + 1].first if place + 1 < len(found) else None
        last = after is None or (after.domain, after.data) != (here.domain, here.data)
        result.add_row(*(column.cell(row) for column in shown), end_section=last)
    return result


def markdown(found: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    shown = columns(found)
    lines = [[column.heading for column in shown], ["---:" if column.number else "---" for column in shown]]
    lines += [[column.cell(row).replace("|", "\\|") for column in shown] for row in found]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def csv(found: Sequence[Row]) -> str:
    """The rows as comma-separated values."""
    shown, text = columns(found), io.StringIO()
    writer = csv_writer(text, lineterminator="\n")
    writer.writerow(column.heading for column in shown)
    writer.writerows([column.cell(row) for column in shown] for row in found)
    return text.getvalue()


def latex(found: Sequence[Row]) -> str:
    """The rows as a LaTeX tabular."""

    def line(cells: Iterable[str]) -> str:
        return "  " + " & ".join(map(_for_latex, cells)) + r" \\"

    shown = columns(found)
    kinds = "".join("r" if column.number else "l" for column in shown)
    lines = [rf"\begin{{tabular}}{{{kinds}}}", line(column.heading for column in shown), r"  \hline"]
    lines += [line(column.cell(row) for column in shown) for row in found]
    return "\n".join([*lines, r"\end{tabular}", ""])


def as_json(found: Sequence[Row]) -> str:
    """The rows with all their digits, and the results that each is of."""
    told = [
        {
            **{name: getattr(row.first, name) for name in ("domain", "data", "method", "pattern", "metric", "caveat")},
            **{
                name: getattr(row, name)
                for name in ("setting", "value", "spread", "interval", "reference", "score", "p")
            },
            **{name: row.mean(name) for name in ("sparsity", "nonzeros", "bytes", "latency_ms", "train_seconds")},
            "seeds": {result.seed: result.value for result in row.results},
            "command": row.first.command,
        }
        for row in found
    ]
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _for_latex(text: str) -> str:
    marks = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "\\": r"\textbackslash{}"}
    return "".join(marks.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {".md": markdown, ".csv": csv, ".tex": latex, ".json": as_json}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
