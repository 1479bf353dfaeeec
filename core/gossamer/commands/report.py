"""Print the table of all results that are there, and write the page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from gossamer import compare, domains, failures, results, trackers
from gossamer.errors import InputError, one_of
from gossamer.paths import write_atomically

FORMATS = {"markdown": ".md", "csv": ".csv", "json": ".json", "latex": ".tex"}


@dataclass(frozen=True)
class Options:
    """Which results, and which page."""

    domain: Annotated[tuple[str, ...], arg(metavar="NAME …")] = ()
    """only these domains"""
    results: Annotated[Path, arg(metavar="FOLDER")] = Path("results")
    """where the results are kept"""
    page: Annotated[Path, arg(metavar="FILE")] = Path("report.html")
    """the page to write: .html, or the table alone as .md, .csv, .tex, or .json with all digits"""
    format: Annotated[str | None, arg(metavar="FORMAT")] = None
    """print the table as markdown, csv, json (all digits) or latex, and write no page"""
    tensorboard: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """write the runs there too, for TensorBoard and its HParams"""
    mlflow: Annotated[str | None, arg(metavar="URI")] = None
    """log the runs to MLflow too: http://HOST:PORT, or sqlite:///FILE"""

    def __post_init__(self) -> None:
        one_of(FORMATS, format=self.format)
        one_of((".html", *compare.FORMATS), **{"the suffix of --page": self.page.suffix})


def main(options: Options) -> None:
    """Print the table and write the page; `InputError` where there is no result."""
    found = found_in(options.results, options.domain)
    if options.format:
        sys.stdout.write(written(found, FORMATS[options.format]))
        return
    Console(width=None if sys.stdout.isatty() else 160).print(compare.table(found.rows))
    for failure in found.failures:
        print(f"failed: {failure}", file=sys.stderr)
    keep(options, found)
    print(f"wrote {options.page}")


@dataclass(frozen=True)
class Found:
    """What a folder of results holds."""

    rows: list[compare.Row]
    failures: list[failures.Failure]


def keep(options: Options, found: Found) -> None:
    """Write the page, or the table in the form that the page's suffix names, and tell the trackers that are asked."""
    write_atomically(options.page, written(found, options.page.suffix).encode())
    track(options, [result for row in found.rows for result in row.results])


def track(options: Options, every: Sequence[results.Result] = ()) -> None:
    """Tell the trackers that are asked of results; of none, `InputError` comes early where one cannot be told."""
    if options.tensorboard:
        trackers.tensorboard(every, options.tensorboard)
    if options.mlflow:
        trackers.mlflow(every, options.mlflow)


def found_in(folder: Path, names: Sequence[str] = ()) -> Found:
    """All results and failures in a folder, or of these domains alone; what is damaged is named and left out.

    Raises `InputError` where there is no result.
    """
    damaged: list[str] = []
    found = [result for name in names or ("*",) for result in results.read(folder, name, damaged)]
    own = compare.distinct([domains.current(result) for result in found], damaged)
    failed = failures.read(folder, names, own, damaged)
    for problem in damaged:
        print(f"left out: {problem}", file=sys.stderr)
    if not found:
        told = "".join(f"\n  failed: {failure}" for failure in failed)
        raise InputError(
            f"there are no results below {folder}; run `gossamer compare` or `gossamer train` first.{told}"
        )
    return Found(compare.rows(own), failed)


def written(found: Found, suffix: str) -> str:
    """The table, or the page, as a file of that suffix holds it."""
    if suffix in compare.FORMATS:
        return compare.FORMATS[suffix](found.rows)
    from gossamer.report import html

    return html(found.rows, found.failures)
