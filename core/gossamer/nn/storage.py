"""What the sparse layers share: a weight kept as the values and the positions of its non-zeros."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError, of_type
from gossamer.nn.operators import dense
from gossamer.nn.structures import structures


class SparseWeight(nn.Module):
    """A module whose weight is stored as `values` (a parameter) and `positions` (a buffer), both (non-zeros,).

    Positions are ascending indices into the raveled weight, of `shape`. Gradients and an optimizer's moments have the
    shape of `values`, so that all memory is in proportion to the non-zeros. While `wants_dense_grad` is true, backward
    passes add the dense gradient, of the weight's shape, to `dense_grad`; `move` clears both.
    """

    values: nn.Parameter
    positions: Tensor
    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, mask: Tensor | None, bias: Tensor | None) -> None:
        super().__init__()
        kind = type(self).__name__
        of_type(Tensor, f"a dense weight; {kind}.from_dense(layer) makes one of a layer", weight=weight)
        of_type((Tensor, type(None)), "a boolean tensor of the weight's shape", mask=mask)
        of_type((Tensor, type(None)), "a tensor of one number an output", bias=bias)
        if weight.dim() < 2:
            raise InputError(f"weight has shape {tuple(weight.shape)}; a weight has outputs and inputs.")
        mask = weight != 0 if mask is None else mask.bool()
        if mask.shape != weight.shape:
            raise InputError(f"the mask has shape {tuple(mask.shape)}, but the weight has {tuple(weight.shape)}.")
        self.shape = tuple(weight.shape)
        where = mask.flatten().nonzero().squeeze(1)
        self.values = nn.Parameter(weight.detach().flatten()[where].clone())
        self.register_buffer("positions", where.to(torch.int32 if weight.numel() < 2**31 else torch.int64))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
        self.dense_grad: Tensor | None = None
        self.wants_dense_grad = False

    @property
    def mask(self) -> Tensor:
        """Where the weight is stored: a boolean tensor of its shape."""
        return dense(torch.ones_like(self.values, dtype=torch.bool), self.positions, list(self.shape))

    @property
    def weight(self) -> Tensor:
        """The dense weight, without gradient."""
        return dense(self.values.detach(), self.positions, list(self.shape))

    @property
    def density(self) -> float:
        """The share of the weight that is stored."""
        return len(self.values) / torch.Size(self.shape).numel()

    @torch.no_grad()
    def move(self, drop: Tensor, grow: Tensor) -> Tensor:
        """Drop some non-zeros and grow as many others, at zero.

        Both are boolean tensors of the weight's shape or indices into the raveled weight, of equal count. Returns
        `source` (non-zeros,): new value k was value source[k] before, or is grown where source[k] is -1, so that an
        optimizer's moments can follow (`moved`). The parameter stays the same object; its gradient is dropped.
        """
        drop, grow = self._indices(drop, "drop"), self._indices(grow, "grow")
        old = self.positions.long()
        place = torch.searchsorted(old, drop)
        wrong = torch.cat([drop[~torch.isin(drop, old)], grow[torch.isin(grow, old) & ~torch.isin(grow, drop)]])
        if len(drop) != len(grow) or len(wrong):
            told = f", {int(wrong[0])} among them" if len(wrong) else ""
            raise InputError(
                f"cannot drop {len(drop)} and grow {len(grow)} weights{told}: drop living ones, grow as many dead ones."
            )
        kept = torch.ones_like(old, dtype=torch.bool)
        kept[place] = False
        positions, order = torch.cat([old[kept], grow]).sort()
        source = torch.cat([kept.nonzero().squeeze(1), torch.full_like(grow, -1)])[order]
        structures.forget(self.positions)
        self.positions = positions.to(self.positions.dtype)
        self.values.copy_(moved(self.values, source))
        self.values.grad = self.dense_grad = None
        self.wants_dense_grad = False
        return source

    def _indices(self, which: Tensor, name: str) -> Tensor:
        of_type(Tensor, "a boolean tensor of the weight's shape, or indices", **{name: which})
        if which.dtype == torch.bool:
            if which.shape != self.shape:
                raise InputError(f"{name} has shape {tuple(which.shape)}, but the weight has {self.shape}.")
            which = which.flatten().nonzero().squeeze(1)
        which, size = which.long().unique(), torch.Size(self.shape).numel()
        if len(which) and not (which[0] >= 0 and which[-1] < size):
            raise InputError(f"{name} holds the index {int(which[-1])}; the weight has the indices 0 to {size - 1}.")
        return which

    def dense_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The gradient to the dense weight from the input and the gradient to the output."""
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the number of non-zeros, too, from the saved state; take nothing where it makes no sense."""
        saved, values = state_dict.get(prefix + "positions"), state_dict.get(prefix + "values")
        wrong = self._mistake(saved, values)
        if wrong:
            error_msgs.append(f"{prefix}positions and {prefix}values: {wrong}.")
            return
        if saved is not None and saved.shape != self.positions.shape:
            structures.forget(self.positions)
            self.positions = self.positions.new_empty(saved.shape)
            self.values.data = self.values.data.new_empty(saved.shape)
        rest = local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _mistake(self, positions: Tensor | None, values: Tensor | None) -> str:
        """What is wrong with saved positions and values; "" if nothing is, or if both are missing."""
        if positions is None or values is None:
            return "" if positions is values else "one is saved without the other"
        if positions.is_floating_point() or positions.dtype == torch.bool or positions.dim() != 1:
            return f"positions are a list of integers, not {positions.dtype} of shape {tuple(positions.shape)}"
        if values.shape != positions.shape:
            return f"there are {tuple(values.shape)} values for {tuple(positions.shape)} positions"
        size = torch.Size(self.shape).numel()
        places = positions.long()
        if len(places) and not (places[0] >= 0 and places[-1] < size and (places.diff() > 0).all()):
            return f"positions must ascend from 0 to at most {size - 1} in a weight of shape {self.shape}"
        return ""

    def extra_repr(self) -> str:
        """The weight's shape and its density."""
        return f"weight={'×'.join(map(str, self.shape))}, density={self.density:.3g}, bias={self.bias is not None}"


def moved(tensor: Tensor, source: Tensor) -> Tensor:
    """An optimizer's moment (non-zeros,) after `source = layer.move(…)`: zero where a value was grown."""
    return torch.where(source >= 0, tensor[source.clamp(min=0)], tensor.new_zeros(()))


def _watch(layer: SparseWeight, x: Tensor, y: Tensor) -> None:
    """Add to a layer's dense gradient when y's gradient arrives."""
    x = x.detach()

    def add(gradient: Tensor) -> None:
        whole = layer.dense_gradient(x, gradient.detach())
        layer.dense_grad = whole if layer.dense_grad is None else layer.dense_grad + whole

    if y.requires_grad:
        y.register_hook(add)


watch: Callable[[SparseWeight, Tensor, Tensor], None] = torch.compiler.disable(_watch)  # pyright: ignore[reportAssignmentType]
