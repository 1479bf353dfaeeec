"""Train one network: gossamer train DOMAIN [PRESET] [options]; each domain has its own --help."""

import dataclasses
import os
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gossamer import domains, runs
from gossamer.errors import Stopped
from gossamer.options import parse, spelled
from gossamer.results import Result

RESULTS = Path("results")


def train(domain: str, words: list[str], prog: str) -> None:
    """Train one configuration of a domain as the words say, save its result below ./results, and print it."""
    presets = domains.load(domain).PRESETS
    preset = words.pop(0) if words and not words[0].startswith("-") else next(iter(presets))
    default = domains.preset(domain, preset)
    config = parse(
        type(default),
        words,
        default=default,
        prog=f"{prog} {preset}",
        description=f"Train one network of the {domain} domain. Presets: {', '.join(presets)}.",
    )
    run = runs.Run(domain, config)
    first = os.environ.get("RANK", "0") == "0"
    log = partial(print, flush=True) if first else lambda line: None
    try:
        with domains.needing(domain), spelled(type(config)):
            result = runs.execute(run, log, getattr(config, "threads", None))
    except Stopped:
        raise
    except KeyboardInterrupt:
        raise Stopped(_kept(getattr(config, "checkpoint", None))) from None
    if first:
        show(result, result.save(RESULTS, run.name))


def _kept(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "stopped; nothing was kept (give --checkpoint FILE)"
    if not checkpoint.exists():
        return f"stopped before anything was kept in {checkpoint}"
    return f"stopped; kept in {checkpoint}: the same command goes on"


def show(result: Result, path: Path) -> None:
    """Print the result's numbers as a table, its own extras included."""
    table = Table(show_header=False, title=f"{result.domain}: {result.method}")
    numbers = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    for name in ("config", "versions", "extra"):
        del numbers[name]
    for name, value in {**numbers, **result.extra}.items():
        if isinstance(value, (bool, int, float, str)):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console = Console()
    console.print(table)
    console.print(f"saved as {path}")
