"""Layers: which weights of a model can be sparse, and which of them stay dense and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gossamer.errors import InputError
from gossamer.patterns import Channel, Pattern
from gossamer.weights import stores_sparsely

if TYPE_CHECKING:
    from rich.table import Table

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Layer:
    """One weight that can be sparse: its module, its name and shape and, where it stays dense, the reason."""

    module: str
    parameter: str
    shape: torch.Size
    kept_dense: str = ""


def weights_of(module: nn.Module) -> list[str]:
    """The names, within the module, of its own weights that can be masked (matrices and convolution kernels)."""
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        return [name for name in names if getattr(module, name) is not None]
    if stores_sparsely(module):
        return ["weight"]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_")]
    return []


def matching(name: str, globs: Iterable[str]) -> bool:
    """Whether the module name matches one of the globs."""
    return any(fnmatchcase(name, glob) for glob in globs)


def find_layers(
    model: nn.Module, include: Iterable[str] | None, exclude: Iterable[str], pattern: Pattern
) -> list[Layer]:
    """Every weight that can be masked, once even where tied; with the reason where it stays dense.

    The weight of the last layer, in the order of registration, is what `Channel` keeps dense. Raises `InputError` for a
    glob that matches none, and for a lazy module that has no weights yet.
    """
    found: list[Layer] = []
    seen: set[int] = set()
    first_convolution = True
    for name, module in model.named_modules():
        for own in weights_of(module):
            sparse, weight = stores_sparsely(module), getattr(module, own)
            identity = id(module if sparse else weight)
            if identity in seen:
                continue
            seen.add(identity)
            parameter = f"{name}.{own}" if name else own
            if is_lazy(weight):
                raise InputError(f"{parameter} has no shape yet; run one batch through the model first.")
            reason = ""
            if include is None:
                if isinstance(module, CONVOLUTIONS) and first_convolution:
                    reason = "first convolution"
                elif isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels > 1:
                    reason = "depthwise convolution"
            elif not matching(name, include):
                reason = "not included"
            if matching(name, exclude):
                reason = "excluded"
            if not sparse and module._parameters.get(own) is None:
                reason = "parametrized: not a parameter of its own"
            first_convolution &= not isinstance(module, CONVOLUTIONS)
            found.append(Layer(name, parameter, weight.shape, reason))
    if isinstance(pattern, Channel) and found and not found[-1].kept_dense:
        last = found[-1]
        found[-1] = Layer(last.module, last.parameter, last.shape, "last layer: its channels are classes")
    for glob in (*(include or ()), *exclude):
        if not any(fnmatchcase(layer.module, glob) for layer in found):
            names = ", ".join(layer.module or "(the model itself)" for layer in found) or "none"
            raise InputError(f"the glob {glob!r} matches no layer that can be sparse; the layers are: {names}.")
    return found


def table(layers: Iterable[Layer], pattern: Pattern, counts: Mapping[str, int], masks: Mapping[str, Tensor]) -> "Table":
    """A row a layer: its name, shape, pattern, and the sparsity asked and measured, or why it stays dense."""
    from rich.table import Table

    shown = Table("layer", "shape", "pattern", "asked", "measured")
    for layer in layers:
        shape = " × ".join(map(str, layer.shape))
        if layer.kept_dense:
            shown.add_row(layer.parameter, shape, f"dense: {layer.kept_dense}", "", "")
            continue
        mask = masks[layer.parameter]
        asked, measured = (1 - n / mask.numel() for n in (counts[layer.parameter], int(mask.count_nonzero())))
        shown.add_row(layer.parameter, shape, str(pattern), f"{asked:.2%}", f"{measured:.2%}")
    return shown
