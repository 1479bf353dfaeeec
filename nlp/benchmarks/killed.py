"""A writer is killed again and again while readers search: whatever it acknowledged must be there.

python nlp/benchmarks/killed.py
python nlp/benchmarks/killed.py --kills 20 --batch 200
"""

import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from gossamer_nlp.index import Index

WRITER = """
import sys
from gossamer_nlp.index import Index
folder, start, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
index = Index.open(folder, write=True)
while True:
    index.add({"id": f"n{i}", "text": f"common word and number{i % 97} of x{i} " + "more " * (i % 30)} for i in range(start, start + batch))
    start += batch
    print(start, flush=True)
    if start // batch % 20 == 0:
        index.commit()
"""  # noqa: E501


@dataclass(frozen=True)
class Options:
    """How often, and how much."""

    kills: int = 100
    batch: int = 10
    seed: int = 0


def main(options: Options) -> None:
    """Kill, open, count, go on."""
    draw, start, lost, torn = np.random.default_rng(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        Index.create(folder).close()
        reader = Index.open(folder)
        for _ in range(options.kills):
            command = [sys.executable, "-c", WRITER, str(folder), str(start), str(options.batch)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                lines = [process.stdout.readline()]
                for _ in range(3):
                    time.sleep(draw.uniform(0, 0.4))
                    reader.refresh()
                    torn += len(reader.search("common", len(reader) + 1)) != len(reader)
                process.send_signal(signal.SIGKILL)
                lines += process.stdout.readlines()
            start = max(start, *(int(line) for line in lines if line.endswith("\n")))
            reader.refresh()
            lost += max(0, start - len(reader))
            start = max(start, len(reader))
        reader = Index.open(folder)
        lost += start - sum(f"n{i}" in reader for i in range(start))
        print(
            f"{start:,} documents in batches of {options.batch}, {options.kills} kills: {lost} acknowledged "
            f"documents lost, {torn} of {3 * options.kills} looks at an inconsistent state"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
