"""What a network costs: parameters, non-zeros, floating-point operations, bytes and latency."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gossamer.files import size


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    `parameters` and `nonzeros` are counts; `flops` is what the non-zeros ask of one example (a multiply-add is two);
    `memory` is the bytes of dense parameters and buffers, `bytes` those of the file that `gossamer.save` would write;
    `latency_ms` is the median of a forward pass of the example, in milliseconds.
    """

    parameters: int
    nonzeros: int
    flops: int
    memory: int
    bytes: int
    latency_ms: float


def measure(model: nn.Module, example: Tensor, masks: Mapping[str, Tensor] | None = None) -> Cost:
    """The cost of `model` in evaluation mode on `example` (a batch), on the device where both are.

    `masks` (parameter name to boolean tensor) says which weights are alive; without it the non-zeros are.
    """
    alive = {name: masks[name] if masks and name in masks else p != 0 for name, p in model.named_parameters()}
    tensors = [*model.parameters(), *model.buffers()]
    mode = model.training
    model.eval()
    try:
        cost = Cost(
            parameters=sum(p.numel() for p in model.parameters()),
            nonzeros=sum(int(a.sum()) for a in alive.values()),
            flops=round(flops(model, example, alive) / len(example)),
            memory=sum(t.numel() * t.element_size() for t in tensors),
            bytes=size(model, masks=masks),
            latency_ms=latency(lambda: model(example)),
        )
    finally:
        model.train(mode)
    return cost


def flops(model: nn.Module, example: Tensor, alive: Mapping[str, Tensor]) -> float:
    """The operations of a forward pass: each module's dense count times the density of its own weight."""
    model = copy.deepcopy(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    total = float(sum(counts.get("Global", {}).values()))
    for name, mask in alive.items():
        module, _, own = name.rpartition(".")
        if own == "weight":
            dense = sum(counts.get(f"{root}.{module}" if module else root, {}).values())
            total -= dense * (1 - float(mask.float().mean()))
    return total


@torch.inference_mode()
def latency(call: Callable[[], object], runs: int = 20, seconds: float = 0.5) -> float:
    """The median milliseconds of `call`, after two warm-ups, over `runs` runs or as many as fit into `seconds`."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times: list[float] = []
    for run in range(runs + 2):
        start = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - start)
        if run >= 4 and sum(times) > seconds:
            break
    return median(times[2:]) * 1000
