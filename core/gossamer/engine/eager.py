"""A call that stays PyTorch code, as a function from its input tensors to its output tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree

from gossamer.engine import exported


@dataclass(frozen=True)
class _Slot:
    """Where one of a call's input tensors goes."""

    place: int


def binder(
    target: torch.fx.Node,
    pick: Any,
    values: Mapping[torch.fx.Node, Any],
    names: Sequence[str],
    symbols: Sequence[Any],
) -> Callable[[int], Callable[..., torch.Tensor]]:
    """Return what makes, of a batch size, the function that runs the call of `target`.

    `values` are what its arguments stand for: the `names` of its input tensors, constants, or sizes, of which `symbols`
    are the batch's. `pick` is which of several results to take, None where there is one.
    """

    def bind(batch: int) -> Callable[..., torch.Tensor]:
        size = exported.size_at(symbols, batch)

        def known(leaf: Any) -> Any:
            if isinstance(leaf, str):
                return _Slot(names.index(leaf))
            return size(leaf) if isinstance(leaf, torch.SymInt) else leaf

        read = {source: pytree.tree_map(known, value) for source, value in values.items()}
        given = pytree.tree_map_only(torch.fx.Node, read.__getitem__, (target.args, target.kwargs))
        leaves, spec = pytree.tree_flatten(given)
        slots = [(place, leaf.place) for place, leaf in enumerate(leaves) if isinstance(leaf, _Slot)]
        flat = not given[1] and len(leaves) == len(given[0])  # a call without lists needs not be arranged anew

        def call(*tensors: torch.Tensor) -> torch.Tensor:
            filled: Any = list(leaves)
            for place, tensor in slots:
                filled[place] = tensors[tensor]
            args, kwargs = (tuple(filled), {}) if flat else pytree.tree_unflatten(filled, spec)
            result = exported.run(target, args, kwargs)
            return result if pick is None else result[pick]

        return call

    return bind
