"""The page: one self-contained HTML file with charts, table, curves and pictures of all results."""

import base64
import json
import math
import sys
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from statistics import fmean
from typing import Any

from gossamer import domains
from gossamer.compare import CAPTION, Column, Row, columns, number, percent
from gossamer.errors import InputError
from gossamer.failures import Failure

POINTS = 32  # of a learning curve, at most
KINDS = {b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "audio/wav"}
SENTENCES = 3  # of a domain on the first screen


def html(rows: Sequence[Row], failures: Sequence[Failure] = ()) -> str:
    """The page as text, with the runs that failed.

    Nothing in it is fetched from a network, and what results say is text, never code.
    """
    groups = groupby(rows, key=lambda row: (row.first.domain, row.first.data))
    shown = [column for column in columns(rows) if column.heading not in ("domain", "data", "metric")]
    sections = [section(domain, data, list(group), shown) for (domain, data), group in groups]
    told = {
        "caption": CAPTION,
        "columns": [{"heading": column.heading, "number": column.number} for column in shown],
        "sections": sections,
    }
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {name: read(name) for name in ("page.css", "page.js", "echarts.common.min.js")}
    parts |= {"DATA": text, "SUMMARY": summary(sections), "FAILED": failed(failures), "CAPTION": escape(CAPTION)}
    page = read("page.html")
    before, *rest = page.split("{{")
    return before + "".join(parts[name.strip()] + after for name, after in (part.split("}}", 1) for part in rest))


def read(name: str) -> str:
    """A file of the page's."""
    return files("gossamer").joinpath("page", name).read_text(encoding="utf-8")


def summary(sections: Sequence[dict[str, Any]]) -> str:
    """The first screen as HTML, readable before any script has run: for each domain what its data sets say."""
    cards = []
    for domain, group in groupby(sections, key=lambda part: part["domain"]):
        own = list(group)
        shown = [part for part in own if part["told"]][:SENTENCES] or own[:1]
        lines = [
            f'<p><a href="#{escape(part["id"])}">{escape(part["data"])}</a>: {escape(part["sentence"])}</p>'
            for part in shown
        ]
        lines += [f"<p>Data sets below: {len(own)}.</p>"] if len(own) > len(shown) else []
        spark = f'<div class="spark" data-domain="{escape(domain)}"></div>'
        cards.append(f"<li><h3>{escape(domain)}</h3>{''.join(lines)}{spark}</li>")
    return "\n".join(cards)


def failed(failures: Sequence[Failure]) -> str:
    """The runs that failed as HTML: what each was, its error, and the command that runs it alone; empty without any."""
    if not failures:
        return ""
    cells = [
        f'<tr><td class="words">{escape(failure.domain)}</td><td class="words">{escape(failure.method)}</td>'
        f'<td>{failure.seed}</td><td class="words long">{escape(failure.error)}</td>'
        f'<td class="words long"><code>{escape(failure.command)}</code></td></tr>'
        for failure in failures
    ]
    heads = "".join(
        f'<th scope="col" class="words plain">{name}</th>' for name in ("domain", "method", "seed", "error")
    )
    return (
        f'<section aria-labelledby="failed"><h2 id="failed">Runs that failed: {len(failures)}</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="table of the runs that failed">'
        f'<table><thead><tr>{heads}<th scope="col" class="words plain">command</th></tr></thead>'
        f"<tbody>{''.join(cells)}</tbody></table></div></section>"
    )


def section(domain: str, data: str, rows: list[Row], shown: Sequence[Column]) -> dict[str, Any]:
    """What the page knows of one data set."""
    first = rows[0].first
    return {
        "id": f"{domain}-{data}".replace(" ", "-"),
        "domain": domain,
        "data": data,
        "metric": first.metric,
        "higher": first.higher_is_better,
        "floor": first.floor,
        "reference": first.reference,
        "sentence": (said := sentence(rows)) or "nothing sparse is beside a reference yet.",
        "told": bool(said),
        "rows": [drawn(row, shown) for row in rows],
        "pictures": pictures(domain, rows),
        "versions": ", ".join(f"{name} {version}" for name, version in first.versions.items()),
        "commit": first.commit,
    }


def drawn(row: Row, shown: Sequence[Column]) -> dict[str, Any]:
    """What the page knows of a row: its cells as text, and the numbers of its charts, four digits each."""
    low, high = row.interval or (None, None)
    sizes = {name: row.mean(name) or None for name in ("nonzeros", "bytes", "latency_ms")}
    return {
        "name": name_of(row),
        "method": row.first.method,
        "kind": row.first.kind,
        "cells": [column.cell(row) for column in shown],
        "values": [short(result.value) for result in row.results],
        "value": short(row.value),
        "interval": [short(low), short(high)] if row.interval else None,
        "sparsity": short(row.mean("sparsity") or 0.0, 6),
        "score": short(row.score),
        **{name: short(value) for name, value in sizes.items()},
        "curve": curve(row),
        "commands": [result.command for result in row.results],
    }


def sentence(rows: Sequence[Row]) -> str:
    """What sparsity cost and gained: the best sparse row beside the best reference; empty where there are not both."""
    sign = 1 if rows[0].first.higher_is_better else -1
    sparse = [row for row in rows if row.first.kind == "sparse"]
    best = max(sparse, key=lambda row: (sign * row.value, -(row.mean("nonzeros") or 0.0)), default=None)
    twins = [row for row in rows if best and best.first.reference in (row.first.method, row.first.config.get("method"))]
    twin = max(twins, key=lambda row: sign * row.value, default=None)
    if best is None or twin is None or twin is best:
        return ""
    own = best.p is not None and set(map(id, best.references)) <= set(map(id, twin.results))
    told = f"{name_of(best)} reaches {number(best.value, '.4g')} {best.first.metric}, {twin.first.method} "
    told += f"{number(twin.value, '.4g')}{f' (p = {best.p:.2g})' if own else ''}"
    gains = []
    for name, what in (("nonzeros", "non-zero weights"), ("bytes", "bytes"), ("latency_ms", "latency")):
        mine, other = best.mean(name), twin.mean(name)
        share = mine / other if mine and other else 1.0
        if abs(share - 1) > 0.02:
            gains.append(f"{share:.2g} times the {what}" if share > 1 else f"{share:.2g} of the {what}")
    return told + (f"; it takes {', '.join(gains)}." if gains else ".")


def curve(row: Row) -> list[list[float | None]] | None:
    """The mean over the seeds of `extra["curve"]`, at most `POINTS` of (x, value); None where there is none.

    A result's curve is a list of values, one an epoch, or of points whose first number is x and last the value.
    """
    found = [points for result in row.results if (points := curve_of(result.extra.get("curve")))]
    length = min(map(len, found), default=0)
    if length < 2:
        return None
    places = sorted({round(place * (length - 1) / (POINTS - 1)) for place in range(POINTS)})
    return [[short(found[0][p][0]), short(fmean(points[p][1] for points in found))] for p in places]


def curve_of(told: Any) -> list[tuple[float, float]]:
    """The points of a curve as a result keeps it, none where it is no such thing."""
    try:
        points = [
            (float(point[0]), float(point[-1])) if isinstance(point, list) else (place, float(point))
            for place, point in enumerate(told, 1)
        ]
    except (TypeError, ValueError, IndexError):
        return []
    return points if all(math.isfinite(number) for point in points for number in point) else []


def pictures(domain: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The domain's own pictures of these results as data URLs; a domain that cannot draw them is named on stderr."""
    results = [result for row in rows for result in row.results]
    try:
        found = domains.pictures(domain, results)
    except (InputError, OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        print(f"no pictures of {domain}, {results[0].data}: {error}", file=sys.stderr)
        return []
    return [
        {"caption": caption, "sources": [data_url(part) for part in ([own] if isinstance(own, bytes) else own)]}
        for caption, own in found.items()
    ]


def data_url(content: bytes) -> str:
    """A picture or a sound as the address that holds it; an SVG where it begins as nothing else of `KINDS`."""
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), "image/svg+xml")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def name_of(row: Row) -> str:
    """What tells the row from its neighbours in a chart."""
    sparsity = row.mean("sparsity") or 0.0
    parts = (row.first.method + (f" {percent(sparsity)}" if sparsity > 0 else ""), row.setting)
    return ", ".join(filter(None, parts))


def short(value: float | None, digits: int = 4) -> float | None:
    """The number with so many digits."""
    return None if value is None else float(f"{value:.{digits}g}")
