"""Run methods beside each other and compare them: every domain's quick preset, or a grid; goes on where it stopped.

gossamer compare
gossamer compare --domain vision --preset fashion-mnist --data-dir FOLDER
gossamer compare --domain vision --method dense rigl gmp --sparsity 0.8 0.95 --seeds 5 --dry-run
gossamer compare --json > events.jsonl                       (what happens, for machines)
gossamer compare --ray-address HOST:6379                     (on a Ray cluster in place of this machine's cores)
gossamer compare OLD NEW                                     (two folders of results; status 1 where one got worse)

Any field of the one domain's configuration may be given, with as many values as are to be tried.
"""

import json
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Suppress, arg

from gossamer import changes, domains, grids, live, options, runs
from gossamer.commands import report
from gossamer.errors import InputError, Stopped, at_least
from gossamer.results import Result


@dataclass(frozen=True)
class Options(report.Options):
    """What is run, and where its results are kept."""

    preset: Annotated[str | None, arg(metavar="NAME")] = None
    """another preset than the quick one, of one --domain"""
    data_dir: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """the folder of that preset's data"""
    seeds: Annotated[int | None, arg(metavar="INT")] = None
    """run each setting with the seeds 1 to this; the domain's own where it is not given"""
    dry_run: bool = False
    """print what would run and how long it may take, and run nothing"""
    json: bool = False
    """say on standard output what happens, a JSON object a line, in place of bars and table"""
    ray_address: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """run on the Ray cluster at HOST:PORT, ray://HOST:PORT, or auto: the one that this machine is part of"""
    fields: Suppress[tuple[str, ...]] = ()
    folders: Suppress[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        at_least(1, seeds=self.seeds)
        if self.json and self.format:
            raise InputError("--json and --format both say what standard output holds; give one of them.")


def parse(words: list[str], **more: Any) -> Options:
    """The options; two words that open are `folders`, and words that are no options `fields` of a configuration."""
    folders = words[:2] if len(words) > 1 and not any(word.startswith("-") for word in words[:2]) else []
    found, fields = options.parse(Options, words[len(folders) :], return_unknown_args=True, **more)
    return replace(found, fields=tuple(fields), folders=tuple(map(Path, folders)))


def main(options: Options) -> int | None:
    """Run what is not finished, keeping each result as it comes, then report on all; or compare two folders."""
    if options.folders:
        return compared(options)
    damaged: list[str] = []
    console = Console(stderr=True)
    plan = planned(options, console)
    there = runs.finished(plan, options.results, damaged)
    for problem in damaged:
        console.print(f"left out: {problem}", markup=False, soft_wrap=True)
    report.track(options)
    with runs.pool(options.ray_address) as pool:
        if options.dry_run:
            Console().print(overview(plan, there, pool.count))
            return None
        if len(there) < len(plan) and not options.json:
            console.print(overview(plan, there, pool.count))
        failures, count = run(plan, there, options, console, pool)
    if count and options.json:
        found = report.found_in(options.results, options.domain)
        report.keep(options, found)
        live.say("report", page=str(options.page), rows=len(found.rows))
    elif count:
        report.main(options)
    if failures:
        raise InputError(f"{len(failures)} of {len(plan)} runs failed:\n  " + "\n  ".join(failures))
    return None


def run(
    plan: list[runs.Run], there: dict[runs.Run, Result], options: Options, console: Console, pool: Any
) -> tuple[list[str], int]:
    """Run what is not there yet and tell of it; return how runs failed, and the number of results."""
    failures: list[str] = []
    says = (live.Lines if options.json else live.Bars)(console, len(plan), len(there))
    count = len(there)
    try:
        with says, closing(runs.run_all(plan, options.results, says.line, pool)) as outcomes:
            for run, outcome in outcomes:
                says.end(run, outcome)
                if isinstance(outcome, Exception):
                    failures.append(f"{run}: {outcome} (alone: {runs.command(run.domain, run.config)})")
                else:
                    count += 1
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; {count} of {len(plan)} results are kept in {options.results}: the same command goes on"
        ) from None
    return failures, count


def compared(options: Options) -> int:
    """Print what changed between two folders; 1 where something got worse, or failed. What vanished is named."""
    old, new = (report.found_in(folder, options.domain) for folder in options.folders)
    found = changes.changes(old.rows, new.rows, new.failures)
    if all(change.new is None for change in found):
        raise InputError(f"{options.folders[0]} and {options.folders[1]} hold no run that is the same in both.")
    if options.json:
        print(json.dumps([change.plain() for change in found], indent=1, ensure_ascii=False))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(changes.table(found))
    return int(any(change.verdict in changes.WORSE for change in found))


def planned(options: Options, console: Console) -> list[runs.Run]:
    """The runs of every domain asked for; one that is not installed is left out, unless it was named."""
    if (options.preset or options.data_dir or options.fields) and len(options.domain) != 1:
        what = options.fields[0] if options.fields else "--preset and --data-dir"
        raise InputError(f"{what} must be of one domain; name it with --domain.")
    plan: list[runs.Run] = []
    for name in options.domain or domains.names():
        try:
            benchmark = domains.load(name)
            if lacking := domains.lacking(name):
                raise InputError(domains.remedy(name, ", ".join(lacking)))
        except InputError as error:
            if options.domain:
                raise
            console.print(f"left out: {error}", style="yellow", markup=False, soft_wrap=True)
            continue
        config = domains.preset(name, options.preset)
        if options.data_dir:
            if not hasattr(config, "data_dir"):
                raise InputError(f"--data-dir is {options.data_dir}, but {name} reads no folder; leave it out.")
            config = replace(config, data_dir=options.data_dir)
        unread = getattr(benchmark, "UNREAD", {})
        found = grids.cells(config, options.fields, unread) if options.fields else benchmark.grid(config)
        plan += [runs.Run(name, run) for run in (grids.seeded(found, options.seeds) if options.seeds else found)]
    return plan


def overview(plan: list[runs.Run], there: dict[runs.Run, Result], count: int) -> Table:
    """A row for each domain and method: its runs, those that are finished, and the time reckoned from these.

    A method of which none is finished is reckoned to take as long as the domain's others.
    """
    groups: dict[tuple[str, str], list[runs.Run]] = {}
    for run in plan:
        groups.setdefault((run.domain, run.config.method), []).append(run)
    table, total, unknown = Table("domain", "method", "runs", "finished", "to go"), 0.0, 0
    for (domain, method), own in groups.items():
        taken = {run: result.seconds or result.train_seconds for run, result in there.items() if run.domain == domain}
        finished = [taken[run] for run in own if run in taken]
        left = len(own) - len(finished)
        seconds = left * fmean(finished or taken.values()) / count if taken else None
        total, unknown = total + (seconds or 0.0), unknown + (left if seconds is None else 0)
        told = "–" if not left else "unknown" if seconds is None else f"{'' if finished else '~ '}{seconds:.0f} s"
        table.add_row(domain, method, str(len(own)), str(len(finished)), told)
    rest = f", {unknown} runs not reckoned" if unknown else ""
    table.caption = f"{len(there)} of {len(plan)} finished; {total:.0f} s to go on {count} cores{rest}"
    return table
