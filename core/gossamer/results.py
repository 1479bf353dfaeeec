"""One small JSON file per run: what was trained, what it scored, what it cost."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from gossamer import __version__
from gossamer.errors import InputError
from gossamer.paths import write_atomically

PACKAGES = (
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

RETIRED = {"dense_value", "dense_latency_ms"}
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("value", "floor", "sparsity", "sparsity_asked", "train_seconds"), (int, float)),
    **dict.fromkeys(("seed", "parameters", "nonzeros", "bytes"), int),
}
TEXTS = ("domain", "method", "data", "pattern", "metric", "reference", "caveat", "commit", "command")

# A list of numbers alone, which is kept on one line; no string holds a line break, so none is taken for such a list.
_ROWS = re.compile(r"\[\n[-+.\deE,\s]*\]")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"gossamer": __version__}


@cache
def commit() -> str:
    """The commit of the checkout this process runs from, with `+` where files differ from it; empty outside one."""
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
    """A configuration dataclass as JSON knows it, without the fields that `config.places` names.

    Those say where files lie or how many cores work, and are no part of what is run. Any other path is its last name.
    """
    places = getattr(config, "places", ())
    return _json({name: value for name, value in dataclasses.asdict(config).items() if name not in places})


def defaults(kind: type) -> dict[str, Any]:
    """The defaults of a configuration's fields, as `plain` has them; a field without one has none."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)
    values = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields}
    return _json({name: value for name, value in values.items() if value is not dataclasses.MISSING})


def differing(saved: Mapping[str, Any], config: Any) -> dict[str, tuple[Any, Any]]:
    """The fields in which a configuration once stored differs from `config`, with both values.

    A field that the stored one lacks has today's default, so that a new field leaves old results valid; where files lie
    (`config.places`) is no difference.
    """
    stored = defaults(type(config)) | dict(saved)
    return {name: (stored.get(name), own) for name, own in plain(config).items() if stored.get(name) != own}


def file_name(config: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """What a run's files are called: its data, method, sparsity and seed, and a hash of what is not as by default."""
    told = [str(config[name]) for name in ("data", "method", "sparsity") if config.get(name) is not None]
    told += [f"seed{config['seed']}"] if "seed" in config else []
    changed = {name: value for name, value in config.items() if name not in default or default[name] != value}
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    return re.sub(r"[^\w-]+", "_", "-".join([*told, digest]))


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON gives it back: tuples become lists, a path its last name, what JSON does not know a string."""
    return json.loads(json.dumps(values, default=lambda value: value.name if isinstance(value, Path) else str(value)))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run measured.

    `value` and `floor` (what chance, or the untrained baseline, scores) are in the unit of `metric`; `reference` is the
    method whose value scores 1 on the same data; `sparsity` is the measured share of weights that are zero (or of
    codes, as `pattern` says), in [0, 1); `bytes` is the size on disk; `latency_ms` is the median of milliseconds for
    one input on one thread, by what the domain's own command runs; `caveat` is what a reader of `value` must know;
    `seconds` is the time of the whole run, of which `train_seconds` are those of the training.
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
    reference: str = "dense"
    caveat: str = ""
    latency_ms: float | None = None
    versions: dict[str, str] = field(default_factory=lambda: dict(versions()))
    commit: str = field(default_factory=commit)
    command: str = ""
    seconds: float | None = field(default=None, compare=False)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["dense", "sparse", "other"]:
        """Whether the run is of method dense, on whatever network; has anything sparse; or is neither."""
        if self.config.get("method", self.method) == "dense":
            return "dense"
        return "other" if self.pattern in ("", "dense") else "sparse"

    def score(self, reference: float) -> float | None:
        """(value − floor) / (reference − floor): 1 is as good as the reference, 0 no better than the floor.

        None where the reference itself is no better than that.
        """
        return None if reference == self.floor else (self.value - self.floor) / (reference - self.floor)

    def save(self, folder: Path, name: str | None = None) -> Path:
        """Write the result atomically to `folder`/DOMAIN/`name`.json, named by its configuration; return the path."""
        path = folder / self.domain / f"{name or file_name(self.config, {})}.json"
        text = json.dumps(dataclasses.asdict(self), indent=1, default=str)
        write_atomically(path, _ROWS.sub(lambda row: " ".join(row[0].split()), text).encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read one result; raise `InputError` where the file is not one."""
        try:
            return cls.of(json.loads(path.read_text()))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}). Delete it and run again.") from error
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise InputError(f"{path} is not a result file ({error}). Delete it and run again.") from error

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Result":
        """The result of these fields, such as JSON gives; raise `ValueError` or `TypeError` where they are not one.

        What an older version wrote is one: fields that are no more are passed over, new ones have their defaults.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        if later := fields.keys() - known.keys() - RETIRED:
            raise ValueError(f"this version does not know its {', '.join(sorted(later))}")
        given = {name: value for name, value in fields.items() if name in known}
        bare = (dataclasses.MISSING, dataclasses.MISSING)
        needed = {name for name, field in known.items() if (field.default, field.default_factory) == bare}
        if lacking := needed - given.keys():
            raise ValueError(f"it has no {', '.join(sorted(lacking))}")
        return checked(cls(**given))


def checked(result: Result) -> Result:
    """The result itself; raise `ValueError` or `TypeError` where its fields cannot be those of one."""
    given = [name for name in ("latency_ms", "seconds") if getattr(result, name) is not None]
    for name, kind in {**NUMBERS, **dict.fromkeys(given, (int, float))}.items():
        value = getattr(result, name)
        if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r:.60}")
    for name in NUMBERS.keys() - {"value", "floor", "seed"} | set(given):
        if getattr(result, name) < 0:
            raise ValueError(f"{name} is {getattr(result, name)!r}, below 0")
    if result.sparsity > 1 or not isinstance(result.higher_is_better, bool):
        raise ValueError(f"sparsity is {result.sparsity!r}, higher_is_better {result.higher_is_better!r}")
    for name in TEXTS:
        if not isinstance(getattr(result, name), str):
            raise TypeError(f"{name} is {getattr(result, name)!r:.60}")
    for name in ("domain", "method", "data", "metric"):
        if not getattr(result, name):
            raise ValueError(f"{name} is empty")
    if not all(isinstance(table, dict) for table in (result.config, result.extra, result.versions)):
        raise TypeError("its config, extra or versions is no table")
    told = [[getattr(result, name) for name in TEXTS], result.config, result.versions]
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()  # no nan, and no text that a file cannot hold
    return result


def read(folder: Path, domain: str | None = None, damaged: list[str] | None = None) -> list[Result]:
    """All results below `folder` (of one domain, or of all), in the order of their paths.

    Raises `InputError` for a file that is no result, or adds what is wrong with it to `damaged` and leaves it out.
    """
    found = []
    for path in sorted(folder.glob(f"{domain or '*'}/*.json")):
        try:
            result = Result.load(path)
            if result.domain != path.parent.name:
                raise InputError(f"{path} says that it is of the domain {result.domain!r}. Delete it and run again.")
            found.append(result)
        except InputError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    return found
