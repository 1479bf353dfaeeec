"""Run a study, methods by settings by seeds, going on from what is finished, and print its table.

gossamer vision study sparsity quick
gossamer vision study scarce quick --methods dense static-random rigl --seeds 1 2 3
gossamer vision study pattern fashion-mnist --data-dir FOLDER --values block-4x1 2:4 --seeds 1 --keep networks
gossamer vision study sparsity fashion-mnist --results vision/studies/fashion-mnist/results.jsonl --finished
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import CascadeSubcommandArgs, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, configure
from tyro.extras import subcommand_type_from_defaults

from gossamer import runs
from gossamer.errors import InputError, one_of
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer.results import Result, differing, read
from gossamer_vision.config import PRESETS, Config
from gossamer_vision.methods import METHODS, PATTERNS, density


def accuracies(results: Sequence[Result]) -> str:
    """The mean accuracy on the test part, with its interval over the seeds."""
    from gossamer_vision.metrics import mean_and_interval

    return mean_and_interval([result.value for result in results])


def costs(results: Sequence[Result]) -> str:
    """The accuracy, with what training holds in memory between two steps, masks included, and takes for an epoch."""
    held = fmean(result.extra["training_bytes"] for result in results) / 1e6
    seconds = fmean(result.train_seconds / result.extra["epochs"] for result in results)
    return f"{accuracies(results)}, {held:.2f} MB, {seconds:.1f} s an epoch"


@dataclass(frozen=True)
class Study:
    """One question: the field of `Config` that varies, its values, the methods asked, and what is said of each."""

    field: str
    values: tuple[Any, ...]
    methods: tuple[str, ...]
    cell: Callable[[Sequence[Result]], str] = accuracies


SPARSE = tuple(name for name, method in METHODS.items() if method.masked and name not in ("srigl", "fixed"))
BRIEF = ("dense", "small-dense", "static-random", "rigl", "gmp")
STUDIES = {
    "sparsity": Study("sparsity", (0.8, 0.9, 0.95, 0.98), ("dense", "small-dense", *SPARSE)),
    "scarce": Study("share", (0.01, 0.05, 0.1, 1.0), BRIEF),
    "pattern": Study("pattern", tuple(PATTERNS), ("dense", "static-random", "rigl", "gmp")),
    "storage": Study("storage", ("masks", "sparse"), ("dense", "static-random"), costs),
}


if TYPE_CHECKING:
    Preset = Config
else:
    Preset = subcommand_type_from_defaults(PRESETS)


@configure(CascadeSubcommandArgs, OmitSubcommandPrefixes, OmitArgPrefixes)
@dataclass(frozen=True)
class Options:
    """How much of the study to run, and where its results are kept."""

    study: Positional[str] = "sparsity"
    """sparsity, scarce, pattern or storage"""
    config: Preset = field(default_factory=lambda: next(iter(PRESETS.values())))
    methods: tuple[str, ...] = ()
    """the methods asked; the study's own where none is given"""
    values: tuple[str, ...] = ()
    """the values asked of what varies; the study's own where none is given"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """one run of each setting for each"""
    results: Annotated[Path, arg(metavar="FOLDER")] = Path("results")
    """the folder of the result files, or with --finished a table that --to wrote"""
    keep: Path | None = None
    """the folder for every run's trained network, and for its checkpoints, from which a run that was killed goes on"""
    finished: bool = False
    """print the table of what is finished, and run nothing"""
    to: Path | None = None
    """write what is finished there as one table to publish, a line of JSON for each run"""


def published(results: Iterable[Result]) -> str:
    """The results as one table, sorted, a line of JSON each, without lists of images and of epochs."""
    lines = []
    for result in results:
        extra = {name: value for name, value in result.extra.items() if not isinstance(value, list)}
        lines.append(json.dumps(dataclasses.asdict(replace(result, extra=extra)), ensure_ascii=False))
    return "".join(f"{line}\n" for line in sorted(set(lines)))


def read_results(place: Path) -> list[Result]:
    """The results in a folder, or in a table of `published`; `InputError` where a line of it is no result."""
    if not place.is_file():
        return read(place, "vision")
    try:
        return [Result.of(json.loads(line)) for line in place.read_text().splitlines()]
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{place} is no table of results ({error}); give one that --to wrote.") from error


def narrowed(study: Study, values: Sequence[str]) -> Study:
    """The study with these values alone, given as words."""
    if not values:
        return study
    kind = type(study.values[0])
    try:
        return replace(study, values=tuple(kind(value) for value in values))
    except ValueError as error:
        raise InputError(f"--values {' '.join(values)}: a value of {study.field} is a {kind.__name__}.") from error


def kept(config: Config, preset: Config, folder: Path | None) -> Config:
    """The configuration that leaves its checkpoints and its network in the folder, named as its result is.

    It goes on from the dense network there, where it prunes one.
    """
    if folder is None:
        return config
    name, dense = (folder / runs.Run("vision", c).path(folder).stem for c in (config, dense_of(config, preset)))
    return replace(
        config,
        checkpoint=name.with_suffix(".pt"),
        trained=dense.with_suffix(".pt"),
        save=name.with_suffix(".gossamer"),
    )


def dense_of(config: Config, preset: Config) -> Config:
    """The dense run that a study has beside this one."""
    same = {name: getattr(preset, name) for name in ("sparsity", "pattern", "storage")}
    return replace(config, method="dense", **same)


def plan(study: Study, config: Config, methods: Sequence[str], seeds: Sequence[int]) -> list[Config]:
    """The runs of a study; a method that knows no masks runs once where these are what varies."""
    found: dict[Config, None] = {}
    for seed in seeds:
        for method in methods or study.methods:
            for value in study.values:
                changes: dict[str, Any] = {study.field: value}
                if study.field == "pattern" and (only := density(value)):
                    changes["sparsity"] = 1 - only
                own = {} if constant(study, method) else changes
                found[replace(config, method=method, seed=seed, **own)] = None
    return list(found)


def constant(study: Study, method: str) -> bool:
    """Whether what varies in the study is nothing to the method."""
    return method == "dense" and study.field in ("sparsity", "pattern", "storage")


def table(study: Study, results: Sequence[Result]) -> Table:
    """What the study says of the runs that differ in their seed alone: a row a method, a column a value."""
    shown = Table("method", *(f"{study.field} {value}" for value in study.values), box=box.MARKDOWN)
    for method in dict.fromkeys(result.config["method"] for result in results):
        groups: dict[Any, list[Result]] = {}
        for result in results:
            if result.config["method"] == method:
                groups.setdefault(result.config[study.field], []).append(result)
        same = next(iter(groups.values())) if constant(study, method) else []
        cells = [groups.get(value, same) for value in study.values]
        shown.add_row(method, *(study.cell(own) if own else "–" for own in cells))
    return shown


def main(options: Options) -> None:
    """The command."""
    one_of(STUDIES, study=options.study)
    one_of(METHODS, **{f"methods[{place}]": name for place, name in enumerate(options.methods)})
    if options.to:
        refuse_unwritable(options.to)
    study, console = (
        narrowed(STUDIES[options.study], options.values),
        Console(width=None if sys.stdout.isatty() else 160),
    )
    planned = plan(study, options.config, options.methods, options.seeds)
    wanted = [runs.Run("vision", kept(config, options.config, options.keep)) for config in planned]
    with closing(runs.run_all([] if options.finished else wanted, options.results)) as outcomes:
        for number, (run, outcome) in enumerate(outcomes):
            text = outcome if isinstance(outcome, Exception) else f"{outcome.value:.2%}"
            value = getattr(run.config, study.field)
            console.print(f"{number + 1} of {len(wanted)}: {run}, {study.field} {value}: {text}", markup=False)
    there = read_results(options.results)
    finished = [result for config in planned for result in there if not differing(result.config, config)]
    console.print(table(study, finished))
    if options.to:
        write_atomically(options.to, published(finished).encode())
        print(f"wrote {options.to}: {len(finished)} runs")


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("vision", "study")
