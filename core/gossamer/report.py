"""The page: one self-contained HTML file with the table and the plots of all results."""

import io
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

from gossamer.compare import HEADINGS, Row, percent
from gossamer.errors import InputError

BLUE, GREY, ORANGE = "#2563a8", "#9aa3ad", "#d9730d"


def html(rows: Sequence[Row]) -> str:
    """The page as text. Nothing in it is fetched from a network; plots are inline SVG."""
    try:
        import jinja2
        import matplotlib
    except ModuleNotFoundError as error:
        raise InputError(f'the page needs {error.name}; type: pip install "gossamer[report]"') from error
    matplotlib.use("Agg")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("gossamer").joinpath("report.html.j2").read_text()
    )
    groups = groupby(rows, key=lambda row: (row.first.domain, row.first.data))
    sections = [section(domain, data, list(group)) for (domain, data), group in groups]
    return template.render(sections=sections, headings=HEADINGS[2:])


def section(domain: str, data: str, rows: list[Row]) -> dict[str, Any]:
    """What the template shows of one data set."""
    first = rows[0].first
    return {
        "domain": domain,
        "data": data,
        "metric": first.metric,
        "better": "higher is better" if first.higher_is_better else "lower is better",
        "floor": first.floor,
        "cells": [row.cells()[2:] for row in rows],
        "command": first.command,
        "versions": ", ".join(f"{name} {version}" for name, version in first.versions.items()),
        "commit": first.commit,
        "plots": [svg(bars, rows), svg(sizes, rows)],
    }


def svg(draw: Any, rows: list[Row]) -> str:
    """A plot as an inline SVG element, the same bytes for the same rows."""
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "gossamer", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.2, 0.9 + 0.32 * max(7, len(rows))), layout="constrained")
        draw(axes, rows)
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    drawing = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    return drawing[drawing.index("<svg") :]


def name_of(row: Row) -> str:
    """What tells the row from its neighbours in a plot."""
    sparsity = row.mean("sparsity") or 0.0
    return row.first.method + (f" {percent(sparsity)}" if sparsity > 0 else "")


def colour(row: Row) -> str:
    """Orange is dense, blue is sparse, grey is neither."""
    return ORANGE if row.first.method == "dense" else BLUE if (row.mean("sparsity") or 0) > 0 else GREY


def bars(axes: Any, rows: list[Row]) -> None:
    """The value of every method, its seeds as dots, the dense one as a line."""
    rows = rows[::-1]
    colours = [colour(row) for row in rows]
    axes.barh(range(len(rows)), [row.value for row in rows], color=colours, height=0.62, alpha=0.85)
    for place, row in enumerate(rows):
        values = [r.value for r in row.results]
        axes.plot(values, [place] * len(values), "o", color="#1b1f24", markersize=3, alpha=0.7)
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows])
    dense = rows[-1].mean("dense_value")
    if dense is not None:
        axes.axvline(dense, color=ORANGE, linewidth=1, linestyle="--")
    low = min(min(r.value for r in row.results) for row in rows)
    high = max(max(r.value for r in row.results) for row in rows)
    floor = rows[0].first.floor
    axes.set_xlim(min(low, floor) if low - floor < 0.5 * (high - floor) else low - 0.3 * (high - low) - 1e-3, None)
    axes.set_xlabel(rows[0].first.metric)
    axes.set_title("what it scores (dots: seeds)", loc="left", fontsize=10)


def sizes(axes: Any, rows: list[Row]) -> None:
    """Value against non-zero parameters, on a logarithmic axis."""
    rows = sorted((row for row in rows if (row.mean("nonzeros") or 0) > 0), key=lambda row: -row.value)
    for row in rows:
        axes.errorbar(
            row.mean("nonzeros"), row.value, yerr=row.spread or None, fmt="o", color=colour(row), markersize=5
        )
    if rows:
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.15)
        low, high = axes.get_ylim()
        labels: list[tuple[float, float]] = []  # where they stand: none may lie on another
        for row in rows:
            size, height = row.mean("nonzeros") or 1.0, row.value
            for other, above in labels:
                if max(size, other) < 3 * min(size, other):
                    height = min(height, above - 0.06 * (high - low))
            labels.append((size, height))
            axes.annotate(
                name_of(row),
                labels[-1],
                (7, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                annotation_clip=False,
            )
    axes.set_xlabel("non-zero parameters")
    axes.set_ylabel(rows[0].first.metric if rows else "")
    axes.set_title("what it takes (bars: standard deviation over seeds)", loc="left", fontsize=10)
