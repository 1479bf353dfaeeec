import os
import sys
from pathlib import Path

import pytest

BENCHMARK = '''
"""A domain as small as one can be: its `value` is a function of its configuration."""

import dataclasses
import os
import time
from dataclasses import dataclass

import gossamer as gs
from gossamer.results import plain

METRIC, HIGHER_IS_BETTER, FLOOR = "luck", True, 0.0


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

    def __post_init__(self):
        if not 0 <= self.sparsity < 1:
            raise gs.InputError(f"--sparsity is {self.sparsity}; it must be in [0, 1).")


PRESETS = {"quick": Config(), "rare": Config(sparsity=0.99), "slow": Config(slow=True)}


def grid(config):
    return [dataclasses.replace(config, method=m, seed=s) for s in (1, 2) for m in ("dense", "sparse", FAILS)]


FAILS = os.environ.get("TOY_FAILS", "static")


def run(config, log=lambda line: None):
    log("luck is being tried")
    if config.slow and config.method != "dense":
        time.sleep(60)
    if config.method == "broken":
        raise RuntimeError("the dice are broken")
    dense = config.method == "dense"
    return gs.Result(
        domain="toy", method=config.method, data="dice", pattern="", sparsity_asked=config.sparsity,
        sparsity=0.0 if dense else config.sparsity, seed=config.seed, metric=METRIC,
        value=0.8 if dense else 0.6 + config.seed / 10, higher_is_better=True, floor=FLOOR, parameters=100,
        nonzeros=100 if dense else 10, bytes=400, train_seconds=0.0, config=plain(config), extra={"rolls": 7},
    )
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fifth domain, installed as any package is: a module and an entry point; the current folder is empty."""
    site = tmp_path / "site"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    entries = "[gossamer.domains]\ntoy = toy_benchmark\nlost = toy_lost\n"
    (site / "toy-1.0.dist-info" / "entry_points.txt").write_text(entries)
    (site / "toy_benchmark.py").write_text(BENCHMARK)
    (site / "toy_lost.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield work
    sys.modules.pop("toy_benchmark", None)
