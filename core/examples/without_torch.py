"""Compile a network once, and run it where PyTorch is not installed: NumPy and Numba are enough.

    python core/examples/without_torch.py

It printed

    compiled: sum of a row 0.11575
    file: 17,788 bytes for 20,234 parameters
    batch 1: output (1, 10), sum of a row 0.11575, torch imported: False
    batch 3: output (3, 10), sum of a row 0.11575, torch imported: False
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import gossamer as gs

SERVER = """
import sys, numpy as np
from gossamer import engine
model = engine.load(sys.argv[1])
for batch in (1, 3):
    y = model(np.ones((batch, 3, 32, 32), np.float32))
    print(f"batch {batch}: output {y.shape}, sum of a row {y[0].sum():.5f}, torch imported: {'torch' in sys.modules}")
"""

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.BatchNorm2d(64), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
).eval()  # fmt: skip
gs.sparsify(model, 0.9, exclude=("8",))

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.engine"
    engine = gs.compile(model, torch.ones(1, 3, 32, 32))
    engine.save(path)
    print(f"compiled: sum of a row {engine(torch.ones(1, 3, 32, 32)).sum():.5f}")
    parameters = sum(p.numel() for p in model.parameters())
    print(f"file: {path.stat().st_size:,} bytes for {parameters:,} parameters", flush=True)
    subprocess.run([sys.executable, "-c", SERVER, str(path)], check=True)
