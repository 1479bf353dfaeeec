"""What a network costs: parameters, non-zeros, floating-point operations, bytes and latency."""

import copy
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gossamer.errors import InputError, of_type
from gossamer.files import size
from gossamer.inputs import watching
from gossamer.layers import EMBEDDINGS, owner_of, plain, turned, weights_of
from gossamer.scores.batches import feed
from gossamer.threads import using_threads


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    `parameters` and `nonzeros` are counts; `flops` is what the non-zeros ask of one example (a multiply-add is two);
    `memory` is the bytes of dense parameters and buffers, `bytes` those of the file that `gossamer.save` would write;
    `latency_ms` is the median of a forward pass of the example, in milliseconds. `left_out` names the sparse parameters
    that `flops` counts as dense, for how often they are used cannot be seen.
    """

    parameters: int
    nonzeros: int
    flops: int
    memory: int
    bytes: int
    latency_ms: float
    left_out: tuple[str, ...] = ()


def measure(model: nn.Module, example: Any, masks: Mapping[str, Tensor] | None = None) -> Cost:
    """The cost of `model` in evaluation mode on `example`, on the device where the model is.

    `example` is a batch of what `model` takes: a tensor, a tuple of them or a dict by name, the batch first.
    `masks` (parameter name to boolean tensor) says which weights are alive; without it the non-zeros are.
    """
    model = plain(model)
    of_type((Mapping, type(None)), "a mapping of parameter names to masks, or a Masking", masks=masks)
    batch = _batch(example)
    alive = {name: masks[name] if masks and name in masks else p != 0 for name, p in model.named_parameters()}
    tensors = [*model.parameters(), *model.buffers()]
    mode = model.training
    model.eval()
    try:
        operations, left_out = flops(model, example, alive, masks or {})
        cost = Cost(
            parameters=sum(p.numel() for p in model.parameters()),
            nonzeros=sum(int(a.sum()) for a in alive.values()),
            flops=round(operations / batch),
            memory=sum(t.numel() * t.element_size() for t in tensors),
            bytes=size(model, masks=masks),
            latency_ms=latency(lambda: feed(model, example)),
            left_out=left_out,
        )
    finally:
        model.train(mode)
    return cost


def _batch(example: Any) -> int:
    """The number of examples in a batch: the length of its first tensor."""
    parts = list(example.values()) if isinstance(example, Mapping) else example
    parts = parts if isinstance(parts, list | tuple) else [parts]
    first = next((part for part in parts if isinstance(part, Tensor)), None)
    if first is None or not first.dim() or not len(first):
        raise InputError("example holds no tensor with a batch; pass one, or a tuple or dict of them.")
    return len(first)


def flops(
    model: nn.Module, example: Any, alive: Mapping[str, Tensor], masked: Collection[str]
) -> tuple[float, tuple[str, ...]]:
    """The operations of a forward pass, and the sparse parameters that are counted as dense for want of knowing better.

    The dense count is PyTorch's own. The weights of linear layers and convolutions ask for their density of what their
    modules were counted; in the projections of attention, recurrent layers and experts each dead one saves two
    operations for every sample that it would be multiplied with.
    """
    model = copy.deepcopy(model)
    backends: Any = torch.backends
    fast, one_dnn = backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled
    try:  # one operation for a whole layer is not counted: neither attention's fast paths nor oneDNN's LSTM
        backends.mha.set_fastpath_enabled(False)
        backends.mkldnn.enabled = False
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            feed(model, example)
    finally:
        backends.mha.set_fastpath_enabled(fast)
        backends.mkldnn.enabled = one_dnn
    counts = counter.get_flop_counts()
    total = float(sum(counts.get("Global", {}).values()))
    paths: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(f"{type(model).__name__}.{name}" if name else type(model).__name__)
    joint, uncounted = {}, {}
    for name, mask in _dead(model, alive).items():
        owner, weight = owner_of(model, name)
        turn = weights_of(owner).get(weight)
        own = sum(sum(counts.get(path, {}).values()) for path in paths[id(owner)])
        if turn and turn.experts and not own:  # PyTorch's counter does not know the product of groups
            uncounted[name] = torch.ones_like(mask)
        if weight == "weight" and own:
            total -= own * float(mask.float().mean())
        elif mask.any() and (turn or name in masked) and not isinstance(owner, EMBEDDINGS):
            joint[name] = mask
    more, unseen = _operations(model, example, uncounted)
    less, left_out = _operations(model, example, joint)
    return total + more - less, tuple(sorted(unseen | left_out))


def _dead(model: nn.Module, alive: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The dead weights of each matrix, by every name of it where it is tied."""
    known = {id(p): alive[name] for name, p in model.named_parameters()}
    parameters = model.named_parameters(remove_duplicate=False)
    return {name: ~known[id(p)] for name, p in parameters if p.dim() > 1}


def _operations(model: nn.Module, example: Any, weights: Mapping[str, Tensor]) -> tuple[float, set[str]]:
    """The operations of some weights, by the number of times that each is used; and names of which it is not seen."""
    counted = dict.fromkeys(weights, 0)

    def see(name: str, rows: slice, x: Tensor) -> None:
        counted[name] += 2 * len(x) * int(turned(model, name, weights[name])[rows].sum())

    unseen = set()
    with ExitStack() as stack, torch.no_grad():
        for name in weights:
            try:
                stack.enter_context(watching(model, [name], see))
            except InputError:
                unseen.add(name)
        if weights:
            feed(model, example)
    return sum(counted.values()), unseen


@torch.inference_mode()
def latency(call: Callable[[], object], runs: int = 20, seconds: float = 0.5) -> float:
    """The median milliseconds of `call` on one thread, over `runs` runs or as many as fit into `seconds`.

    Two warm-ups come before.
    """
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times: list[float] = []
    with using_threads(1):
        for run in range(runs + 2):
            start = time.perf_counter()
            call()
            synchronize()
            times.append(time.perf_counter() - start)
            if run >= 4 and sum(times) > seconds:
                break
    return median(times[2:]) * 1000
