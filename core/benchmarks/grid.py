"""Run a grid of 200 quick cells on one core, on two, and killed ten times on the way; compare their results.

    python core/benchmarks/grid.py [one] [two] [killed]

The cells are of the domain that `gossamer new` writes. A kill is SIGKILL of the command, at a random moment; its
workers end by themselves. All results must be the same, times aside.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS, SPARSITIES = ("dense", "static-random", "rigl", "small-dense"), ("0.5", "0.6", "0.7", "0.8", "0.9")
CELLS = ["--method", *METHODS, "--sparsity", *SPARSITIES, "--seeds", "10"]
KILLS = 10
TIMES = ("train_seconds", "seconds", "latency_ms", "commit", "versions")


def install(folder: Path) -> None:
    """A new domain in the folder, found there as an installed one is."""
    subprocess.run(
        [sys.executable, "-m", "gossamer", "new", "weather", "--to", folder], check=True, capture_output=True
    )
    home = folder / "weather"
    about = home / "gossamer_weather-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gossamer-weather\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text("[gossamer.domains]\nweather = gossamer_weather.benchmark\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))


def compare(folder: Path, results: str, cores: set[int], limit: float | None = None) -> bool:
    """Whether the grid has ended on those cores; after `limit` seconds it is killed."""
    words = ["compare", "--domain", "weather", *CELLS, "--results", results, "--format", "csv"]
    command = subprocess.Popen(
        [sys.executable, "-m", "gossamer", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    try:
        _, said = command.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        command.send_signal(signal.SIGKILL)
        command.wait()
        return False
    if command.returncode:
        raise SystemExit(said.decode())
    return True


def content(folder: Path) -> dict[str, dict[str, object]]:
    """All results without what is a matter of time."""
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("weather/*.json")}
    return {name: {key: value for key, value in fields.items() if key not in TIMES} for name, fields in found.items()}


def main(asked: list[str]) -> None:
    """Print the seconds of each way, and whether the results are the same."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        for way in asked:
            start, kills, own = time.perf_counter(), 0, set(cores[: 1 if way == "one" else 2])
            while not compare(folder, way, own, random.uniform(2, 6) if way == "killed" and kills < KILLS else None):
                kills += 1
            seconds, count = time.perf_counter() - start, len(content(folder / way))
            print(f"{way}: {seconds:.1f} s, {kills} kills, {count} results", flush=True)
        same = all(content(folder / way) == content(folder / asked[0]) for way in asked)
        print("all results are the same" if same else "THE RESULTS DIFFER")


if __name__ == "__main__":
    main(sys.argv[1:] or ["one", "two", "killed"])
