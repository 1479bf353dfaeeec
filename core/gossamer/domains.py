"""The installed domains, found through the entry points of the group `gossamer.domains`."""

import importlib
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol, cast

from gossamer.errors import InputError, nearest
from gossamer.results import Result, defaults

Log = Callable[[str], None]


class Domain(Protocol):
    """What a domain's `benchmark` module offers. It is light: what is heavy is imported when `run` needs it.

    `PRESETS` names configurations, the smoke test first; `COMMANDS` says in a line what each command of the domain's
    does, which is a module of that name beside `benchmark`; `grid` gives the runs that compare a preset: methods by
    seeds, the dense one first; `run` trains and evaluates one configuration and tells its progress to `log`, a line at
    a time. A configuration is a frozen dataclass with `method` and `seed`, and may have `places`, the names of its
    fields that say where files lie or how many cores work: no part of what a run is. A folder of one's own data is no
    place: the name of the folder says which data were used.

    A domain may also have `UNREAD`, the fields that a method does not read, by methods: a grid has such a method once
    for all their values; and `pictures(results)`: what it can draw of the results of one data set, for the page of
    `gossamer report`: a PNG, an SVG, a GIF or a WAV, or several that belong together, by its caption. A result's
    `extra["curve"]`, a list of values or of points whose first number is x and last the value, is drawn as its learning
    curve. A line of the log that counts (`epoch 3/20`, `fold 2 of 5`) says how far the run is.
    """

    METRIC: str
    HIGHER_IS_BETTER: bool
    PRESETS: Mapping[str, Any]
    COMMANDS: Mapping[str, str]

    def grid(self, config: Any) -> Sequence[Any]:
        """The configurations that a comparison of this one consists of."""
        ...

    def run(self, config: Any, log: Log = ...) -> Result:
        """The result of one training and evaluation; `log` takes lines on the way."""
        ...


def pictures(name: str, results: Sequence[Result]) -> Mapping[str, bytes | Sequence[bytes]]:
    """The domain's own pictures of results of one data set, by their captions; none where it draws none."""
    if name not in names():
        return {}
    draw = getattr(load(name), "pictures", None)
    return draw(results) if draw else {}


def names() -> list[str]:
    """The names of all domains that the installation knows, installed or not."""
    return list(_entries())


def load(name: str) -> Domain:
    """The domain of that name; `InputError` with the nearest name, or with the line that installs what it lacks."""
    with needing(name):
        found = _entry(name).load()
    if lacks := [part for part in Domain.__annotations__.keys() | {"grid", "run"} if not hasattr(found, part)]:
        raise InputError(
            f"the domain {name!r} has no {', '.join(sorted(lacks))} in {_entry(name).module}; see the docstring of "
            "gossamer.domains.Domain."
        )
    return cast(Domain, found)


def package(name: str) -> str:
    """The name of the package that holds a domain's `benchmark` and its commands."""
    return _entry(name).module.rpartition(".")[0]


def preset(domain: str, name: str | None = None) -> Any:
    """The configuration that a domain's preset names, or its first; `InputError` where there is no such preset."""
    presets = load(domain).PRESETS
    name = name or next(iter(presets))
    if name not in presets:
        raise InputError(
            f"{domain} has no preset {name!r}{nearest(name, presets)}; its presets are: {', '.join(presets)}."
        )
    return presets[name]


def current(result: Result) -> Result:
    """The result with its configuration as today's code stores it: new fields at their defaults, without places.

    The result itself where its domain is not installed.
    """
    try:
        config = preset(result.domain)
    except InputError:
        return result
    stored = {**defaults(type(config)), **result.config}
    unchecked = object.__new__(type(config))  # what is a place may depend on the other fields: a folder names its data
    vars(unchecked).update(stored)
    places = getattr(unchecked, "places", ())
    return replace(result, config={name: value for name, value in stored.items() if name not in places})


def command(domain: str, name: str) -> ModuleType:
    """The module of a domain's command; `InputError` where there is none of that name."""
    commands = load(domain).COMMANDS
    if name not in commands:
        choices = ["train", *commands]
        raise InputError(f"{domain} has no command {name!r}{nearest(name, choices)}; it has {', '.join(choices)}.")
    with needing(domain):
        return importlib.import_module(f"{package(domain)}.{name}")


@contextmanager
def needing(name: str) -> Iterator[None]:
    """Turns the lack of a package that the domain needs into an `InputError` with the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("gossamer"):
            raise
        raise InputError(remedy(name, str(error.name))) from error


def lacking(name: str) -> list[str]:
    """The packages that the domain asks for, as its distribution's extra of the same name, and that are missing."""
    entry = _entry(name)
    return lacking_of(entry.dist.name, name) if entry.dist else []


def lacking_of(distribution: str, extra: str) -> list[str]:
    """The packages that an extra of a distribution asks for and that are missing."""
    asked = [line.partition(";") for line in importlib.metadata.requires(distribution) or []]
    own = [line for line, _, marker in asked if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", marker)]
    packages = [found[0] for line in own if (found := re.match(r"[\w.-]+", line))]
    return [package for package in packages if not _installed(package)]


def remedy(name: str, missing: str) -> str:
    """How to install what a domain lacks."""
    entry = _entry(name)
    home = entry.dist.name if entry.dist else "gossamer"
    extras = entry.dist.metadata.get_all("Provides-Extra") or [] if entry.dist else [name]
    asked = f'"{home}[{name}]"' if name in extras else missing
    return f"the domain {name!r} needs {missing}, which is not installed; type: pip install {asked}"


def _entries() -> dict[str, importlib.metadata.EntryPoint]:
    return _entries_on(tuple(sys.path))


@lru_cache(1)  # looking through all that is installed takes as long as a small run
def _entries_on(_: tuple[str, ...]) -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group="gossamer.domains")}


def _entry(name: str) -> importlib.metadata.EntryPoint:
    entries = _entries()
    if name not in entries:
        raise InputError(f"there is no domain {name!r}{nearest(name, entries)}; the domains are: {', '.join(entries)}.")
    return entries[name]


def _installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False
