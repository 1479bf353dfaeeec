"""Batches as people have them: tensors, tuples, dicts of a tokenizer or a DataLoader; and the loss of one."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError, function_of

Loss = Callable[[nn.Module, Any], Any]


def checked(batches: Any, asked_by: str) -> Iterable[Any]:
    """The batches, or an `InputError` where they are none: a single tensor or dict is a batch, not a list of them."""
    if isinstance(batches, Tensor | Mapping | str) or not isinstance(batches, Iterable):
        raise InputError(
            f"batches of {asked_by} is a {type(batches).__name__}; pass a list of batches, or a DataLoader."
        )
    return batches


def examples(batch: Any) -> list[Any]:
    """The batch as batches of one example: tensors cut along their first dimension, also inside tuples and dicts."""
    if isinstance(batch, Tensor) and batch.dim():
        return list(batch.split(1))
    if isinstance(batch, Mapping):
        parts = zip(*map(examples, batch.values()), strict=True)
        return [dict(zip(batch, part, strict=True)) for part in parts]
    if isinstance(batch, list | tuple):
        return list(zip(*map(examples, batch), strict=True))
    kind = f"{type(batch).__name__} of no dimensions" if isinstance(batch, Tensor) else type(batch).__name__
    raise InputError(f"a batch holds a {kind}; pass tensors, or tuples, lists and dicts of them.")


def placed(batch: Any, model: nn.Module) -> Any:
    """The batch with its tensors on the device of the model."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: placed(value, model) for name, value in batch.items()}
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return type(batch)(placed(value, model) for value in batch)
    return batch


def feed(model: nn.Module, batch: Any) -> Any:
    """What the model gives for a batch.

    A tensor is its input. Of a dict it gets what its `forward` takes by name. Of a tuple or list it gets the first, or
    as many as its `forward` cannot do without: labels at the end of a batch are not handed to it.
    """
    with failing("the model"):
        return _fed(model, placed(batch, model))


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Say that a batch was the occasion of an error in somebody's code."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        told = f"{error!s:.200}".partition("\n")[0]
        raise InputError(
            f"{what} fails on a batch ({type(error).__name__}: {told}); pass batches that it takes."
        ) from error


def _fed(model: nn.Module, batch: Any) -> Any:
    parameters = inspect.signature(model.forward).parameters.values()
    if isinstance(batch, Mapping):
        anything = any(p.kind == p.VAR_KEYWORD for p in parameters)
        taken = {p.name for p in parameters}
        return model(**{name: value for name, value in batch.items() if anything or name in taken})
    if isinstance(batch, list | tuple):
        needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return model(*batch[: max(1, sum(p.default is p.empty for p in needed))])
    if not isinstance(batch, Tensor):
        raise InputError(f"a batch is a {type(batch).__name__}; pass tensors, or tuples, lists and dicts of them.")
    return model(batch)


def loss_of(loss: Loss | None, model: nn.Module, batch: Any) -> Tensor:
    """`loss(model, batch)`, or the `loss` of the model's own output where that is None or returns such an output."""
    function_of(2, "a function loss(model, batch) that returns one number", loss=loss)
    if loss is None:
        value = feed(model, batch)
    else:
        with failing("the loss"):
            value = loss(model, placed(batch, model))
    if not isinstance(value, Tensor):
        value = value.get("loss") if isinstance(value, Mapping) else getattr(value, "loss", None)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = "no loss" if not isinstance(value, Tensor) else f"a tensor of shape {tuple(value.shape)}"
        raise InputError(
            f"a batch gave {given}; pass loss(model, batch) that returns one number, or batches with the labels from "
            "which the model works out its own."
        )
    return value
