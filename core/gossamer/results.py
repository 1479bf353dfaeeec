"""One small JSON file per run: what was trained, what it scored, what it cost."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.errors import InputError

PACKAGES = (
    "gossamer",
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "gymnasium",
    "minigrid",
    "bm25s",
)

# A list of numbers alone, which is kept on one line; no string holds a line break, so none is taken for such a list.
_ROWS = re.compile(r"\[\n[-+.\deE,\s]*\]")


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the checkout this package runs from, with `+` where files differ from it; empty outside one."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def plain(config: Any) -> dict[str, Any]:
    """A configuration dataclass as JSON knows it: paths become strings, tuples become lists.

    Fields that `config.places` names, where there is such, become None: where files lie is no part of what is run.
    """
    values = dataclasses.asdict(config) | dict.fromkeys(getattr(config, "places", ()))
    return json.loads(json.dumps(values, default=str))


def config_hash(domain: str, config: Mapping[str, Any]) -> str:
    """The name of a run's file: 16 hexadecimal digits of the SHA-256 of its domain and configuration."""
    text = json.dumps([domain, dict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run measured.

    `value` and `floor` (what chance, or the untrained baseline, scores) are in the unit of `metric`; `sparsity` is the
    measured share of weights that are zero (or of codes, as `pattern` says), in [0, 1); `bytes` is the size on disk;
    latencies are in milliseconds for one input; `dense_value` and `dense_latency_ms` belong to the dense run of the
    same data and seed, None where there is none.
    """

    domain: str
    method: str
    data: str
    pattern: str
    sparsity_asked: float
    sparsity: float
    seed: int
    metric: str
    value: float
    higher_is_better: bool
    floor: float
    parameters: int
    nonzeros: int
    bytes: int
    train_seconds: float
    config: dict[str, Any]
    dense_value: float | None = None
    latency_ms: float | None = None
    dense_latency_ms: float | None = None
    versions: dict[str, str] = field(default_factory=versions)
    commit: str = field(default_factory=commit)
    command: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """(value − floor) / (dense − floor): 1 is as good as dense, 0 no better than the floor; None without dense."""
        if self.dense_value is None or self.dense_value == self.floor:
            return None
        return (self.value - self.floor) / (self.dense_value - self.floor)

    def path(self, folder: Path) -> Path:
        """Where this result lives below the results folder."""
        return folder / self.domain / f"{config_hash(self.domain, self.config)}.json"

    def save(self, folder: Path) -> Path:
        """Write the result atomically below `folder`; return the path."""
        path = self.path(folder)
        text = json.dumps(dataclasses.asdict(self), indent=1, default=str)
        write_atomically(path, _ROWS.sub(lambda row: " ".join(row[0].split()), text).encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read one result; raise `InputError` where the file is not one."""
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is not a result file ({error}). Delete it and run again.") from error


def read(folder: Path, domain: str | None = None) -> list[Result]:
    """All results below `folder` (of one domain, or of all), in the order of their paths."""
    return [Result.load(path) for path in sorted(folder.glob(f"{domain or '*'}/*.json"))]


def beside_dense(results: list[Result]) -> list[Result]:
    """The same results, each with the value and latency of its dense twin filled in, where there is one.

    The twin is the run of the method `dense` on the same data and seed whose configuration has most in common.
    """
    dense = [result for result in results if result.config.get("method") == "dense"]

    def filled(result: Result) -> Result:
        place = (result.domain, result.data, result.seed)
        twins = [twin for twin in dense if (twin.domain, twin.data, twin.seed) == place]
        if not twins:
            return result
        twin = max(twins, key=lambda twin: sum(result.config.get(name) == value for name, value in twin.config.items()))
        return dataclasses.replace(result, dense_value=twin.value, dense_latency_ms=twin.latency_ms)

    return [filled(result) for result in results]


def refuse_unwritable(path: Path) -> None:
    """Raise `InputError` now where no file could be written at `path` later; make the folder that it is to lie in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            reason = "it is a folder" if path.is_dir() else None
    except OSError as error:
        reason = error.strerror
    if reason:
        raise InputError(f"{path} cannot be written ({reason}); name another file.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself lasts only once the folder is on the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
