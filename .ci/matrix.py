"""Install the wheel outside the checkout for every Python and torch that is claimed, and run the core's tests there.

    python .ci/matrix.py [--python 3.11 3.12 3.13] [--tests tests/core]

Each cell is a new virtual environment: a Python on the path (a missing one is said and skipped), the oldest torch that
the project claims or the newest there is, with Numba or without it. The tests are those of the sdist; one that needs an
extra skips and says so. Takes several gigabytes of disk and, a cell, the time of the core's tests.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEST = ["pytest", "pytest-xdist", "hypothesis"]


def oldest_torch() -> str:
    """The requirement of the oldest torch claimed, such as torch==2.8.*."""
    (low,) = [found[1] for line in PROJECT["dependencies"] if (found := re.fullmatch(r"torch>=([\d.]+)", line))]
    return f"torch=={low}.*"


def run(*words: str | Path, **options: object) -> None:
    """Run a command and say it."""
    print("+", *words, flush=True)
    subprocess.run([str(word) for word in words], check=True, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


def cell(python: str, torch: str, numba: bool, wheel: Path, source: Path, tests: list[str]) -> str:
    """Install and test one combination in a folder of its own; what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        run(python, "-m", "venv", environment)
        own = environment / "bin" / "python"
        run(own, "-m", "pip", "install", "--quiet", torch, wheel, *TEST)
        if not numba:
            run(own, "-m", "pip", "uninstall", "--quiet", "--yes", "numba", "llvmlite")
        words = [own, "-m", "pytest", *tests, "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
        print("+", *words, flush=True)
        done = subprocess.run([str(word) for word in words], cwd=source, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return "passed" if done.returncode == 0 else f"failed ({done.returncode})"


def main() -> int:
    """Build once, run every cell, print what came of each; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--tests", nargs="+", default=["tests/core"])
    options = parser.parse_args()
    outcomes: dict[tuple[str, str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        builder = Path(folder) / "builder"
        run(sys.executable, "-m", "venv", builder)
        run(builder / "bin" / "python", "-m", "pip", "install", "--quiet", "hatchling")
        run(builder / "bin" / "python", "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
        (wheel,), (sdist,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        source = sdist.with_name(sdist.name.removesuffix(".tar.gz"))
        for part in ("core/gossamer", *(f"{name}/gossamer_{name}" for name in ("vision", "speech", "nlp", "rl"))):
            shutil.rmtree(source / part)  # what is tested is the wheel
        for version in options.python:
            python = shutil.which(f"python{version}")
            for torch, numba in ((oldest_torch(), True), ("torch", True), ("torch", False)):
                key = (f"Python {version}", torch, "Numba" if numba else "no Numba")
                try:
                    outcomes[key] = cell(python, torch, numba, wheel, source, options.tests) if python else "not here"
                except subprocess.CalledProcessError as error:
                    outcomes[key] = f"not installed ({error})"
    for key, outcome in outcomes.items():
        print(*key, outcome, sep=", ")
    return int(any(outcome.startswith(("failed", "not installed")) for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
