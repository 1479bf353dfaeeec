"""Sparse storage in the place of masked layers, and dense layers in the place of sparse storage."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gossamer.errors import InputError, of_type
from gossamer.nn.conv import SparseConv1d, SparseConv2d
from gossamer.nn.joined import join, part
from gossamer.nn.linear import SparseLinear
from gossamer.nn.norm import BatchNorm2d
from gossamer.nn.storage import SparseWeight

STORED: dict[type[nn.Module], Any] = {nn.Linear: SparseLinear, nn.Conv1d: SparseConv1d, nn.Conv2d: SparseConv2d}


def convert(model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Put layers of sparse storage in the place of masked ones, in place, and return the model.

    `masks` is a masking, or parameter names and boolean tensors. Without masks it goes the way back: every layer of
    sparse storage becomes an ordinary one with zeros. Parameters are new ones, so make the optimizer afterwards, and
    sparsify the converted model for a method that moves its topology. Batch norms, which would then take much of the
    time, become `gossamer.nn.norm.BatchNorm2d`, and keep their parameters; in training they take over the residuals,
    ReLUs and max pooling that follow them in a module's `forward` (`gossamer.nn.joined`).

    Raises `InputError`, before anything is changed, for a masked weight that is not that of a Linear, Conv1d or Conv2d,
    for one that is tied to another, and for a model that is itself the layer.
    """
    of_type(nn.Module, "a torch.nn.Module", model=model)
    of_type((Mapping, type(None)), "a masking, or a mapping of parameter names to masks", masks=masks)
    if masks is None:
        layers = {name: module.to_dense() for name, module in model.named_modules() if isinstance(module, SparseWeight)}  # pyright: ignore[reportCallIssue]
        norms = {name: module.to_plain() for name, module in model.named_modules() if type(module) is BatchNorm2d}
        part(model)
    else:
        layers = {name.rpartition(".")[0]: _stored(model, name, mask) for name, mask in masks.items()}
        norms = {
            name: BatchNorm2d.of(module) for name, module in model.named_modules() if type(module) is nn.BatchNorm2d
        }
    for name, layer in layers.items():
        if not name:
            raise InputError(f"the model is itself the layer to convert; use {type(layer).__name__} directly.")
    for name, layer in (layers | norms).items():
        model.set_submodule(name, layer)
    if masks is not None:
        join(model)
    return model


def _stored(model: nn.Module, name: str, mask: Tensor) -> nn.Module:
    """The layer of sparse storage for the masked weight of that name."""
    place, _, weight = name.rpartition(".")
    try:
        layer, parameter = model.get_submodule(place), model.get_parameter(name)
    except AttributeError as error:
        raise InputError(f"masks names {name}, which the model has not: {error}") from error
    if weight != "weight" or type(layer) not in STORED:
        raise InputError(
            f"{name} is of a {type(layer).__name__}; sparse storage is for Linear, Conv1d and Conv2d. Exclude it from "
            "the masking."
        )
    if sum(other is parameter for _, other in model.named_parameters(remove_duplicate=False)) > 1:
        raise InputError(f"{name} is tied to another weight, which sparse storage would untie. Exclude it.")
    return STORED[type(layer)].from_dense(layer, mask)
