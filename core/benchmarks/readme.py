"""Put a few rows a domain of the main job's table into the README, between its two marks.

    gossamer compare && python core/benchmarks/readme.py [FOLDER]
    python core/benchmarks/readme.py --check            (status 1 where the table is not that of the results kept)

FOLDER has the results, ./results where none is given; those in the table are kept beside this file, in readme.jsonl.
Of each data set: the reference, the best two sparse ones, static random sparsity and a small dense network, as far as
they are there. All other figures of the README stay as they are.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

from gossamer import compare
from gossamer.compare import Row
from gossamer.results import Result, read

README = Path(__file__).parents[2] / "README.md"
KEPT = Path(__file__).with_name("readme.jsonl")
START, END = "<!-- table: python core/benchmarks/readme.py -->\n", "<!-- end of the table -->\n"
LEFT_OUT = ("pattern", "reference", "caveat", "setting", "non-zeros", "p")


def chosen(rows: Sequence[Row]) -> list[Row]:
    """The few rows of one data set, in their order."""
    sparse = [row for row in rows if row.first.kind == "sparse" and row.first.method != "static-random"][:2]
    names = {rows[0].first.reference, "static-random", "small-dense"}
    return [row for row in rows if row in sparse or row.first.method in names]


def picked(found: Sequence[Row]) -> list[Row]:
    """Those rows of all data sets."""
    parts = groupby(found, key=lambda row: (row.first.domain, row.first.data))
    return [row for _, part in parts for row in chosen(list(part))]


def markdown(rows: Sequence[Row]) -> str:
    """Their table, without the columns that a README has no room for."""
    shown = [column for column in compare.columns(rows) if column.heading not in LEFT_OUT]
    lines = [[column.heading for column in shown], ["---:" if column.number else "---" for column in shown]]
    lines += [[column.cell(row) for column in shown] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def filled(readme: str, kept: str) -> str:
    """The README with the table of the results kept, a JSON object a line."""
    rows = picked(compare.rows([Result.of(json.loads(line)) for line in kept.splitlines()]))
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return before + START + markdown(rows) + END + after


def keep(rows: Sequence[Row]) -> str:
    """The results of those rows and their references as lines of JSON, without what is a domain's own."""
    results = [result for row in rows for result in (*row.results, *filter(None, row.references))]
    lines = (json.dumps(asdict(replace(result, extra={})), ensure_ascii=False) for result in results)
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def main(words: Sequence[str]) -> int:
    """Keep the results and write the README anew, or check it."""
    if list(words) == ["--check"]:
        return int(filled(README.read_text(), KEPT.read_text()) != README.read_text())
    KEPT.write_text(keep(picked(compare.rows(read(Path(*words) if words else Path("results"))))))
    README.write_text(filled(README.read_text(), KEPT.read_text()))
    print(f"wrote {KEPT.name} and {README.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:2]))
