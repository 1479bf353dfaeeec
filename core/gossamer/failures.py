"""Runs that failed: a small file each beside the results, for the page; gone once the run has a result."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.paths import write_atomically
from gossamer.results import Result

SUFFIX = ".failed"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What was run, by which command, and the error that it ended with."""

    domain: str
    method: str
    seed: int
    error: str
    command: str
    config: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write it beside the place of the run's result."""
        text = json.dumps(dataclasses.asdict(self), indent=1, default=str)
        write_atomically(path.with_suffix(SUFFIX), text.encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> "Failure":
        """Read one; raise `ValueError`, `TypeError` or `OSError` where the file is not one."""
        found = cls(**json.loads(path.read_text()))
        texts = (found.domain, found.method, found.error, found.command)
        if not all(isinstance(text, str) for text in texts) or not isinstance(found.config, dict):
            raise TypeError("its fields are of other kinds")
        return found

    def __str__(self) -> str:
        return f"{self.domain} {self.method} seed {self.seed}: {self.error}"


def forget(path: Path) -> None:
    """Remove the failure beside the place of a result, where there is one."""
    path.with_suffix(SUFFIX).unlink(missing_ok=True)


def read(folder: Path, names: Sequence[str], finished: Iterable[Result], damaged: list[str]) -> list[Failure]:
    """All failures below `folder`, or of these domains, in the order of their paths, but those of runs that have a
    result; what is wrong with a file that is none is added to `damaged`."""
    known = [(result.domain, result.config) for result in finished]
    found = []
    for path in sorted(path for name in names or ("*",) for path in folder.glob(f"{name}/*{SUFFIX}")):
        try:
            failure = Failure.load(path)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            damaged.append(f"{path} tells of no failed run ({error}). Delete it.")
            continue
        if (failure.domain, failure.config) not in known:
            found.append(failure)
    return found
