"""Print the table of all results that are there, and write the page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from gossamer import compare, domains, results
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

    def __post_init__(self) -> None:
        one_of(FORMATS, format=self.format)
        one_of((".html", *compare.FORMATS), **{"the suffix of --page": self.page.suffix})


def main(options: Options) -> None:
    """Print the table and write the page; `InputError` where there is no result."""
    rows = rows_in(options.results, options.domain)
    if options.format:
        sys.stdout.write(written(rows, FORMATS[options.format]))
        return
    Console(width=None if sys.stdout.isatty() else 160).print(compare.table(rows))
    write_page(options, rows)
    print(f"wrote {options.page}")


def write_page(options: Options, rows: Sequence[compare.Row]) -> None:
    """Write the page, or the table in the form that the page's suffix names."""
    write_atomically(options.page, written(rows, options.page.suffix).encode())


def rows_in(folder: Path, names: Sequence[str] = ()) -> list[compare.Row]:
    """The rows of all results in a folder, or of these domains alone; a damaged file is named and left out.

    Raises `InputError` where there is no result.
    """
    damaged: list[str] = []
    found = [result for name in names or ("*",) for result in results.read(folder, name, damaged)]
    for problem in damaged:
        print(f"left out: {problem}", file=sys.stderr)
    if not found:
        raise InputError(f"there are no results below {folder}; run `gossamer compare` or `gossamer train` first.")
    return compare.rows([domains.current(result) for result in found])


def written(rows: Sequence[compare.Row], suffix: str) -> str:
    """The rows as a file of that suffix holds them."""
    if suffix in compare.FORMATS:
        return compare.FORMATS[suffix](rows)
    from gossamer.report import html

    return html(rows)
