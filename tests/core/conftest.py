import os
import sys
from pathlib import Path

import pytest

BENCHMARK = '''
"""A domain as small as one can be: its `value` is a function of its configuration."""

import dataclasses
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import gossamer as gs
from gossamer import errors
from gossamer.results import plain

METRIC, HIGHER_IS_BETTER = "luck", True
COMMANDS = {"roll": "roll the dice"}


@dataclass(frozen=True)
class Config:
    method: str = "dense"
    """What to do."""
    seed: int = 1
    """The seed."""
    sparsity: float = 0.9
    """The sparsity."""
    slow: bool = False
    """Whether to take a minute."""
    learning_rate: float = 0.1
    """Of nothing."""
    checkpoint: Path | None = None
    """Where the state would be kept."""
    threads: int | None = None
    """How many compute."""

    places: ClassVar[tuple[str, ...]] = ("checkpoint", "threads")

    def __post_init__(self):
        errors.share(sparsity=self.sparsity)
        errors.learning_rate(learning_rate=self.learning_rate)


PRESETS = {"quick": Config(), "rare": Config(sparsity=0.99), "slow": Config(slow=True)}


def grid(config):
    return [dataclasses.replace(config, method=m, seed=s) for s in (1, 2) for m in ("dense", "sparse", FAILS)]


FAILS = os.environ.get("TOY_FAILS", "static")


def run(config, log=lambda line: None):
    with open("rolled", "a") as file:
        print(config.method, config.seed, file=file)
    log("luck is being tried, roll 1 of 2")
    deaths = int(config.method[4:]) if config.method.startswith("dies") else 0
    if Path("rolled").read_text().count(config.method) < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.slow and config.method != "dense":
        time.sleep(60)
    if config.method == "stopped":
        raise KeyboardInterrupt
    if config.method == "broken":
        raise RuntimeError("the dice are broken")
    dense = config.method == "dense"
    return gs.Result(
        domain="toy", method=config.method, data="dice", pattern="dense" if dense else "mask",
        sparsity_asked=config.sparsity, sparsity=0.0 if dense else config.sparsity, seed=config.seed, metric=METRIC,
        value=0.8 if dense else 0.6 + config.seed / 10, higher_is_better=True, floor=0.0, parameters=100,
        nonzeros=100 if dense else 10, bytes=400, train_seconds=0.0, config=plain(config), extra={"rolls": 7},
    )
'''


ROLL = '''
"""Roll the dice."""

from dataclasses import dataclass

import gossamer as gs
from tyro.conf import Positional


@dataclass(frozen=True)
class Options:
    """How often."""

    times: Positional[int] = 1
    """how many rolls"""
    file: str | None = None
    """a file to read"""


def main(options):
    if options.times < 1:
        raise gs.InputError(f"times is {options.times}; it must be at least 1.")
    if options.times == 13:
        import a_package_that_is_not_installed
    if options.file:
        open(options.file)
    for roll in range(options.times):
        print("rolled", roll)
    return 3 if options.times == 7 else None


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("toy", "roll")
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fifth domain, installed as any package is: a module and an entry point; the current folder is empty."""
    site = tmp_path / "site"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\nProvides-Extra: lost\nProvides-Extra: toy\n"
    )
    entries = "[gossamer.domains]\ntoy = gossamer_toy.benchmark\nlost = toy_lost\n"
    (site / "toy-1.0.dist-info" / "entry_points.txt").write_text(entries)
    (site / "gossamer_toy").mkdir()
    (site / "gossamer_toy" / "__init__.py").write_text('"""Games of chance."""')
    (site / "gossamer_toy" / "benchmark.py").write_text(BENCHMARK)
    (site / "gossamer_toy" / "roll.py").write_text(ROLL)
    (site / "toy_lost.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield work
    for name in ("gossamer_toy", "gossamer_toy.benchmark", "gossamer_toy.roll"):
        sys.modules.pop(name, None)
