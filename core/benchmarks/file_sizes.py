"""How small is the file of a sparse ResNet-50, beside the dense float32 file that safetensors writes?

    python core/benchmarks/file_sizes.py

Random weights under magnitude masks; sizes do not depend on what the weights are, only on how many live where. The last
two columns are the seconds of encoding and of decoding in memory on one thread, checks and checksum included.
"""

import argparse
import time
from typing import get_args

import safetensors.torch
import torch
from torchvision.models import resnet50

import gossamer as gs
from gossamer import files
from gossamer.files.coding import Values


def main() -> None:
    """Print a table: distribution, sparsity of the model, values, bytes, percent of dense, seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9, 0.95, 0.98])
    parser.add_argument("--distribution", nargs="+", default=["erk", "uniform"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dense = len(safetensors.torch.save(resnet50().state_dict()))
    print(f"dense float32 file: {dense:,} bytes")
    print("distribution  asked  model   values         bytes  of dense  encode  decode")
    for distribution in arguments.distribution:
        for sparsity in arguments.sparsity:
            model, twin = resnet50(), resnet50()
            masking = gs.sparsify(model, sparsity, distribution=distribution)
            zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1)
            share = zeros / sum(p.numel() for p in model.parameters())
            for values in get_args(Values):
                start = time.perf_counter()
                content = files.to_bytes(model, masks=masking.masks, values=values)
                middle = time.perf_counter()
                masks = files.from_bytes(content, twin)
                end = time.perf_counter()
                assert all(torch.equal(masks[name], mask) for name, mask in masking.masks.items())
                print(
                    f"{distribution:12s}  {sparsity:5.0%}  {share:5.1%}   {values:7s}  {len(content):12,}"
                    f"  {len(content) / dense:8.2%}  {middle - start:5.2f}s  {end - middle:5.2f}s"
                )


if __name__ == "__main__":
    main()
