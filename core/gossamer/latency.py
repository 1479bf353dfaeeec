"""Densities that spend a latency budget: costs of layers measured, their errors weighed, by dynamic programming.

E. Frantar and D. Alistarh 2022, SPDY: Accurate Pruning with Speedup Guarantees.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from gossamer.engine import trace
from gossamer.engine.capture import NotCapturedError
from gossamer.engine.choice import choose, random_values, sparse_us
from gossamer.engine.dense import DenseLayer
from gossamer.engine.node import Node
from gossamer.engine.steps import LAYERS
from gossamer.engine.tokens import move_tokens_last
from gossamer.errors import InputError, at_least, function_of, of_type, share
from gossamer.masking import Masking
from gossamer.patterns import Pattern
from gossamer.sparsity import sparsify
from gossamer.threads import using_threads

SPARSITIES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)
"""The sparsities that a layer may take, beside 0."""
STEPS = 10_000
"""The parts of a limit that costs are rounded up to."""


class Budget(dict[str, float]):
    """Sparsities by parameter, which `sparsify` takes as its distribution.

    `dense_us` is the time of a call of the dense network in the engine, `us` that of the sparse one as its layers were
    measured, in microseconds of one thread.
    """

    def __init__(self, sparsities: dict[str, float], dense_us: float, us: float) -> None:
        super().__init__(sparsities)
        self.dense_us, self.us = dense_us, us

    @property
    def speedup(self) -> float:
        """How many times as fast as the dense network the sparse one should be."""
        return self.dense_us / self.us


def budget(
    model: nn.Module,
    example: Any,
    *,
    speedup: float,
    pattern: Pattern | None = None,
    loss: Callable[[nn.Module], float] | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
) -> Budget:
    """Return the sparsity of each layer with which the model in evaluation mode is `speedup` times as fast as dense.

    Each layer is measured, in the engine and on one thread, at each of the sparsities, its lightest weights under
    `pattern` gone. Of all choices whose times add up to no more than the budget, the one is returned whose errors add
    up to the least; a layer's error is that of its output on `example`, ‖difference‖² / ‖output‖², or with `loss`, a
    function from a model to a number such as its loss on held-out training data, what the number grows by where this
    layer alone is sparse. `include` and `exclude` are those of `sparsify`, which takes the result::

        sparsify(model, 0.9, pattern=Block(4, 1), distribution=budget(model, example, speedup=3, pattern=Block(4, 1)))

    Raises InputError where no choice is fast enough, saying what is reached, where the engine does not take the model
    whole, and for sparsities outside of (0, 1).
    """
    of_type((int, float), "a number", speedup=speedup)
    at_least(1, speedup=speedup)
    if loss is not None:
        function_of(1, "a function from a model to a number", loss=loss)
    of_type((list, tuple), "a list of sparsities", sparsities=sparsities)
    if not sparsities:
        raise InputError("sparsities are none: give some, such as (0.5, 0.9)")
    for sparsity in sparsities:
        of_type((int, float), "a number", **{"one of the sparsities": sparsity})
        share(**{"one of the sparsities": sparsity})
    maskings = [_masked(model, sparsity, pattern, include, exclude) for sparsity in sparsities]
    modules = {layer.parameter: layer.module for layer in maskings[0].layers if layer.parameter in maskings[0].masks}
    names = list(modules)
    costs, fixed, dense_us = _costs(model, example, maskings, names)
    errors = _losses(model, maskings, names, loss) if loss else _errors(model, example, maskings, modules)
    limit = dense_us / speedup - fixed
    chosen = spend(costs, errors, limit)
    if chosen is None:
        most = dense_us / (fixed + costs.min(1).sum())
        raise InputError(f"speedup is {speedup}, but these layers and sparsities give at most {most:.2f}: ask for less")
    us = fixed + float(costs[range(len(costs)), chosen].sum())
    shares = [0.0, *sparsities]
    return Budget({name: shares[k] for name, k in zip(names, chosen, strict=True)}, dense_us, us)


def spend(costs: np.ndarray, errors: np.ndarray, limit: float, steps: int = STEPS) -> list[int] | None:
    """Return for each layer the column of `costs` and `errors` (layers, choices) that it takes, None where none fits.

    The errors add up to the least that costs within the limit allow; each cost is rounded up to a part of the limit, of
    which there are `steps`, and one more for each layer, so that what fits is not lost by rounding:
    least(l, t) = min over k of errors[l, k] + least(l − 1, t − costs[l, k]).
    """
    if limit <= 0:
        return None
    parts, room = np.ceil(costs / limit * steps - 1e-9).astype(int), steps + len(costs)
    least, choices = np.zeros(room + 1), []
    for part, error in zip(parts, errors, strict=True):
        options = np.full((len(part), room + 1), np.inf)
        for k, taken in enumerate(part):
            if taken <= room:
                options[k, taken:] = least[: room + 1 - taken] + error[k]
        choices.append(options.argmin(0))
        least = options.min(0)
    if not np.isfinite(least[room]):
        return None
    chosen, left = [], room
    for part, choice in zip(parts[::-1], choices[::-1], strict=True):
        chosen.append(int(choice[left]))
        left -= part[chosen[-1]]
    return chosen[::-1]


def _masked(
    model: nn.Module, sparsity: float, pattern: Pattern | None, include: Iterable[str] | None, exclude: Iterable[str]
) -> Masking:
    twin = copy.deepcopy(model)
    return sparsify(twin, sparsity, pattern=pattern, distribution="uniform", include=include, exclude=exclude)


def _costs(
    model: nn.Module, example: Any, maskings: list[Masking], names: list[str]
) -> tuple[np.ndarray, float, float]:
    """Return the time of each layer (layers, 1 + sparsities), that of the rest, and of all, dense, in microseconds."""
    try:
        graph = move_tokens_last(trace(model, example))
    except NotCapturedError as reason:
        raise InputError(f"the engine does not take the model: {reason}") from reason
    batch = len(next(x for x in tree_leaves(example) if isinstance(x, Tensor)))
    with torch.no_grad(), using_threads(1):
        _, report = choose(graph, batch, DenseLayer)
        nodes = [node for node in graph.nodes if node.operation in LAYERS]
        dense = [row.dense_us for row in report if row.kind != "torch"]
        fixed = sum(report.rest.values()) + sum(row.chosen_us for row in report if row.kind == "torch")
        dense_us = fixed + sum(dense)
        values, known = random_values(graph, batch), dict[Any, float]()
        costs = np.zeros((len(names), 1 + len(maskings)))
        for node, us in zip(nodes, dense, strict=True):
            name = node.tensors["weight"].removesuffix(".1x1").removesuffix(".transposed")
            if name not in names:
                fixed += us
                continue
            costs[names.index(name), 0] += us
            shape = graph.tensors[node.tensors["weight"]].shape
            for k, masking in enumerate(maskings):
                mask = masking.masks[name]
                mask = mask.t() if ".transposed" in node.tensors["weight"] else mask
                key = (*_shapes(node, shape, values), k)
                if key not in known:
                    known[key] = sparse_us(node, graph, values, mask.numpy().reshape(shape))
                costs[names.index(name), 1 + k] += min(us, known[key])
    return costs, fixed, dense_us


def _shapes(node: Node, shape: tuple[int, ...], values: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Return what layers that take the same time have in common."""
    return node.operation, shape, values[node.inputs[0]].shape, len(node.inputs), repr(sorted(node.attributes.items()))


def _errors(model: nn.Module, example: Any, maskings: list[Masking], modules: dict[str, str]) -> np.ndarray:
    """Return the errors of each layer's output on the example, relative to its square."""
    errors, squares = np.zeros((len(modules), 1 + len(maskings))), np.zeros(len(modules))
    within: list[int] = []  # whose sparse forms are being called

    def watch(place: int, parameter: str, module: nn.Module) -> Any:
        own = parameter.removeprefix(modules[parameter] + ".")
        weight = module.get_parameter(own)

        def compare(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if within:
                return
            within.append(place)
            dense = tree_leaves(output)[0].double()
            squares[place] += float(dense.square().sum())
            for k, masking in enumerate(maskings):
                sparse = tree_leaves(functional_call(module, {own: weight * masking.masks[parameter]}, args, kwargs))[0]
                errors[place, 1 + k] += float((sparse.double() - dense).square().sum())
            within.pop()

        return module.register_forward_hook(compare, with_kwargs=True)

    found = enumerate(modules.items())
    hooks = [watch(place, parameter, model.get_submodule(name)) for place, (parameter, name) in found]
    try:
        with torch.no_grad():
            if isinstance(example, dict):
                model(**example)
            else:
                model(*(example if isinstance(example, tuple | list) else (example,)))
    finally:
        for hook in hooks:
            hook.remove()
    return errors / np.maximum(squares, np.finfo(float).tiny)[:, None]


def _losses(
    model: nn.Module, maskings: list[Masking], names: list[str], loss: Callable[[nn.Module], float]
) -> np.ndarray:
    """Return by how much the loss grows where each layer alone is sparse; where it falls, 0."""
    twin = copy.deepcopy(model)
    before = float(loss(twin))
    if not math.isfinite(before):
        raise InputError(f"loss gives {before} for the dense model: give one that is a number")
    errors = np.zeros((len(names), 1 + len(maskings)))
    with torch.no_grad():
        for place, name in enumerate(names):
            weight = twin.get_parameter(name)
            dense = weight.clone()
            for k, masking in enumerate(maskings):
                weight.copy_(dense * masking.masks[name])
                found = float(loss(twin))
                errors[place, 1 + k] = max(0.0, found - before) if math.isfinite(found) else np.inf
            weight.copy_(dense)
    return errors
