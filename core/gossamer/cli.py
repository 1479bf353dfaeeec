"""The command line: `gossamer list`, `train`, `compare`, `report`."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tyro.conf import arg

from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.results import Result

RESULTS = Path("results")
PAGE = Path("report.html")

Results = Annotated[Path, arg(metavar="FOLDER", help="Where the results are kept.")]
Page = Annotated[Path, arg(metavar="FILE", help="The page to write: .html, or .md for the table alone.")]
Domains = Annotated[tuple[str, ...], arg(name="domain", metavar="NAME …", help="Only these domains.")]
Preset = Annotated[str | None, arg(metavar="NAME", help="Another preset than the quick one, of one --domain.")]
DataDir = Annotated[Path | None, arg(metavar="FOLDER", help="The folder of that preset's data.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The `gossamer` command. Exit status 2 for input that a person can mend, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"] and words[1:2] and not words[1].startswith("-"):
        train_command(words[1], words[2:], prog=f"gossamer train {words[1]}")
        return
    commands: dict[str, Callable[..., Any]] = {"list": list_, "train": train, "compare": compare, "report": report}
    with plain_errors():
        if words[:1] and not words[0].startswith("-") and words[0] not in commands:
            from gossamer.domains import nearest

            raise InputError(
                f"there is no command {words[0]!r}{nearest(words[0], commands)}; they are: {', '.join(commands)}."
            )
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="gossamer",
            description="Sparse neural networks that are really lighter.",
            args=words or ["--help"],
        )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Prints an `InputError`, or what a file refuses, as one message, exit 2; says at Ctrl-C that nothing is lost."""
    try:
        yield
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise
        text = str(error) if isinstance(error, InputError) else f"{error.filename}: {error.strerror}"
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"gossamer: {text}", markup=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("gossamer: stopped; what is finished is kept. Run the same command to go on.")
        raise SystemExit(130) from None


def list_() -> None:
    """The domains, whether they are installed, and their presets."""
    from gossamer import domains

    table, missing = Table("domain", "metric", "presets"), []
    for name in domains.names():
        try:
            domain = domains.load(name)
        except InputError as error:
            missing.append(str(error))
            continue
        arrow = "↑" if domain.HIGHER_IS_BETTER else "↓"
        table.add_row(name, f"{domain.METRIC} {arrow}", ", ".join(domain.PRESETS))
    console = Console(soft_wrap=True)
    console.print(table)
    for reason in missing:
        console.print(reason, markup=False, highlight=False)


def train() -> None:
    """Train one network: gossamer train DOMAIN [PRESET] [options]; each domain has its own --help."""
    from gossamer import domains

    raise InputError(f"train needs a domain: gossamer train DOMAIN [PRESET], with one of {', '.join(domains.names())}.")


def train_command(domain: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Train one configuration of a domain as the command line says, save its result below ./results, and print it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prog = prog or f"python -m gossamer_{domain}.train"
    with plain_errors():
        from gossamer import domains, runs

        benchmark = domains.load(domain)
        presets = benchmark.PRESETS
        preset = words.pop(0) if words and not words[0].startswith("-") else next(iter(presets))
        default = preset_of(domain, presets, preset)
        config = tyro.cli(
            type(default),
            default=default,
            args=words,
            prog=f"{prog} {preset}",
            description=f"Train one network of the {domain} domain. Presets: {', '.join(presets)}.",
        )
        first = os.environ.get("RANK", "0") == "0"
        result = benchmark.run(config, log=print if first else lambda line: None)
        if first:
            result = dataclasses.replace(result, command=runs.command(domain, config))
            path = result.save(RESULTS)
            print_result(result, path)


def preset_of(domain: str, presets: Mapping[str, Any], name: str | None) -> Any:
    """The preset of that name, or the first of a domain's; `InputError` where there is no such preset."""
    from gossamer.domains import nearest

    name = name or next(iter(presets))
    if name not in presets:
        raise InputError(
            f"{domain} has no preset {name!r}{nearest(name, presets)}; its presets are: {', '.join(presets)}."
        )
    return presets[name]


def print_result(result: "Result", path: Path) -> None:
    """The result's numbers as a table, its own extras included."""
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


def compare(
    domain: Domains = (),
    preset: Preset = None,
    data_dir: DataDir = None,
    results: Results = RESULTS,
    page: Page = PAGE,
) -> None:
    """Run the quick preset of every domain, dense beside sparse, and compare them; goes on where it was stopped."""
    from gossamer import domains, runs

    console = Console()
    if (preset or data_dir) and len(domain) != 1:
        raise InputError("--preset and --data-dir belong to one domain; name it with --domain.")
    plan: list[runs.Run] = []
    for name in domain or domains.names():
        try:
            benchmark = domains.load(name)
        except InputError as error:
            if domain:
                raise
            console.print(f"left out: {error}", style="yellow", markup=False, soft_wrap=True)
            continue
        config = preset_of(name, benchmark.PRESETS, preset)
        if data_dir:
            if not hasattr(config, "data_dir"):
                raise InputError(f"--data-dir is {data_dir}, but {name} reads no folder; leave it out.")
            config = dataclasses.replace(config, data_dir=data_dir)
        plan += [runs.Run(name, run) for run in benchmark.grid(config)]
    finished = sum(run.path(results).exists() for run in plan)
    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, closing(runs.run_all(plan, results)) as outcomes:
        task = progress.add_task("compare", total=len(plan), completed=finished)
        for run, outcome in outcomes:
            progress.advance(task)
            if isinstance(outcome, Exception):
                failures.append(f"{run}: {outcome}")
                progress.console.print(f"failed {run}: {outcome}", style="red", markup=False)
            else:
                score = f"{outcome.metric} {outcome.value:.3f} ({outcome.train_seconds:.0f} s)"
                progress.console.print(f"[green]done[/] {run.domain} {outcome.method} seed {outcome.seed}: {score}")
    if failures:
        raise InputError(f"{len(failures)} of {len(plan)} runs failed; the first: {failures[0]}")
    report(domain, results, page)


def report(domain: Domains = (), results: Results = RESULTS, page: Page = PAGE) -> None:
    """Print the table of all results that are there, and write the page."""
    from gossamer import compare as comparison
    from gossamer import results as files

    found = [result for name in domain or ("*",) for result in files.read(results, name)]
    if not found:
        raise InputError(f"there are no results below {results}; run `gossamer compare` or `gossamer train` first.")
    table = comparison.rows(found)
    Console(width=None if sys.stdout.isatty() else 160).print(comparison.table(table))
    if page.suffix == ".md":
        files.write_atomically(page, comparison.markdown(table).encode())
    else:
        from gossamer.report import html

        files.write_atomically(page, html(table).encode())
    Console().print(f"wrote {page}")
