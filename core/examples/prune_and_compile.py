"""Prune a ResNet-18 by blocks and compile it: how much faster than PyTorch one thread gets, and how much smaller.

    pip install "gossamer[vision]"
    python core/examples/prune_and_compile.py

It printed, on one core of an Intel Xeon that others used too,

    80%: 13.1 ms in PyTorch, 2.2 compiled, 5.8×; 26.6% of the bytes
    90%: 12.4 ms in PyTorch, 1.5 compiled, 8.3×; 16.0% of the bytes
    95%: 12.8 ms in PyTorch, 1.0 compiled, 12.7×; 10.4% of the bytes
"""

import tempfile
from pathlib import Path

import torch
import torchvision

import gossamer as gs
from gossamer.measure import latency

torch.set_num_threads(1)
torch.manual_seed(0)
example = torch.randn(1, 3, 64, 64)

for sparsity in (0.8, 0.9, 0.95):
    model = torchvision.models.resnet18().eval()  # weights="DEFAULT" for those that ImageNet trained
    masking = gs.sparsify(model, sparsity, pattern=gs.Block(4, 1), exclude=("fc",))
    engine = gs.compile(model, example)
    torch.testing.assert_close(engine(example), model(example), atol=1e-3, rtol=1e-3)
    dense, sparse = latency(lambda model=model: model(example)), latency(lambda engine=engine: engine(example))
    with tempfile.TemporaryDirectory() as folder:
        size = gs.save(model, Path(folder) / "model.gossamer", masks=masking.masks)
    whole = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    speed = f"{dense:.1f} ms in PyTorch, {sparse:.1f} compiled, {dense / sparse:.1f}×"
    print(f"{sparsity:.0%}: {speed}; {size / whole:.1%} of the bytes")
