"""2:4 sparsity on a GPU: linear layers as PyTorch's semi-structured tensors, where they were measured to be faster."""

import copy
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer.engine.choice import LayerRow, Report
from gossamer.engine.program import Whole


def compile_on_gpu(model: nn.Module, inputs: tuple[Tensor, ...]) -> Whole:
    """Return a copy of the model whose 2:4 sparse linear layers (float16 or bfloat16) run on the sparse tensor cores.

    A layer is swapped only if two of every four neighbouring weights of each output are zero, its sizes are ones that
    PyTorch's semi-structured tensors take, and it was measured to be faster on its input from the example.
    """
    model = copy.deepcopy(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: seen.update({module: args[0]}))
        for layer in layers.values()
    ]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its semi-structured tensors a prototype
        model(*inputs)
        for hook in hooks:
            hook.remove()
        report = Report(_swap(name, layer, seen[layer]) for name, layer in layers.items() if layer in seen)
    return Whole(model, report, "it runs on a GPU")


def _swap(name: str, layer: nn.Linear, x: Tensor) -> LayerRow:
    weight = layer.weight.detach()
    density = float(torch.count_nonzero(weight)) / weight.numel()
    dense_us = _measure(lambda: layer(x))
    kind, pattern, chosen_us = "torch", "dense", dense_us
    if _is_two_of_four(weight):
        sparse = nn.Parameter(torch.sparse.to_sparse_semi_structured(weight), requires_grad=False)
        sparse_us = _measure(lambda: nn.functional.linear(x, sparse, layer.bias))
        if sparse_us < dense_us:
            layer.weight = sparse
            kind, pattern, chosen_us = "sparse", "2:4", sparse_us
    return LayerRow(name, kind, pattern, density, dense_us, chosen_us)


def _is_two_of_four(weight: Tensor) -> bool:
    rows, columns = weight.shape
    fits = weight.dtype in (torch.float16, torch.bfloat16) and rows % 32 == columns % 64 == 0
    return fits and bool((torch.count_nonzero(weight.view(rows, -1, 4), -1) <= 2).all())


def _measure(call: Callable[[], Tensor]) -> float:
    """Return the shortest of several runs of ten calls, in microseconds for one."""
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 10)
    return min(times) * 1e6
