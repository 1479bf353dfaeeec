"""The installed domains, found through the entry points of the group `gossamer.domains`."""

import difflib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from gossamer.errors import InputError
from gossamer.results import Result

Log = Callable[[str], None]


class Domain(Protocol):
    """What a domain's `benchmark` module offers.

    `PRESETS` names configurations, the smoke test first; `grid` gives the runs that compare a preset: methods by seeds,
    the dense one first; `run` trains and evaluates one configuration and tells its progress to `log`, a line at a time.
    A configuration may have `places`, the names of its fields that say where files lie: no part of what a run is.
    """

    METRIC: str
    HIGHER_IS_BETTER: bool
    FLOOR: float
    PRESETS: Mapping[str, Any]

    def grid(self, config: Any) -> Sequence[Any]:
        """The configurations that a comparison of this one consists of."""
        ...

    def run(self, config: Any, log: Log = ...) -> Result:
        """One run."""
        ...


def names() -> list[str]:
    """The names of all domains that the installation knows, installed or not."""
    return [entry.name for entry in importlib.metadata.entry_points(group="gossamer.domains")]


def load(name: str) -> Domain:
    """The domain of that name; `InputError` with the nearest name, or with the line that installs what it lacks."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="gossamer.domains")}
    if name not in entries:
        raise InputError(f"there is no domain {name!r}{nearest(name, entries)}; the domains are: {', '.join(entries)}.")
    try:
        return cast(Domain, entries[name].load())
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("gossamer"):
            raise
        raise InputError(
            f'the domain {name!r} needs {error.name}, which is not installed; type: pip install "gossamer[{name}]"'
        ) from error


def nearest(name: str, choices: Sequence[str] | Mapping[str, Any]) -> str:
    """`, did you mean 'x'?` where a choice is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
