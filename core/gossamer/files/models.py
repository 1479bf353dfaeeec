"""Model files: one safetensors file, as small as the model's non-zeros, that cannot run code or load half.

A tensor stored as it is has its own name in the file; one stored otherwise has parts (see `parts`). The header's
metadata, all strings: `sha256`, `format`, `coded` (JSON: what is in parts), `tied` (JSON: name → the name that is
stored, for tensors that are one) and, where the model was described, `about` (a JSON object).
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gossamer.errors import InputError, a_path, of_type
from gossamer.files import FORMAT, coding, container, description, parts, read
from gossamer.files.coding import DTYPES, NAMES, Values
from gossamer.files.container import Damage, Entry
from gossamer.files.parts import Parts
from gossamer.layers import plain
from gossamer.paths import write_atomically

WRITER = "gossamer.save"


def save(
    model: nn.Module,
    path: str | Path,
    *,
    masks: Mapping[str, Tensor] | None = None,
    values: Values = "float32",
    about: Mapping[str, Any] | None = None,
) -> int:
    """Write the model's `state_dict` to one safetensors file, atomically; return the number of its bytes.

    Each floating-point parameter of two or more dimensions is stored as the smallest of its dense values, its live
    values with a bitmap, and its live values with the gaps between them (see `gossamer.files.coding`). Everything else
    is stored as it is. Tensors that share storage are stored once. Equal models give equal bytes.

    masks: parameter name → bool tensor of its shape, true where a weight is alive: the topology to store, of these
    parameters alone (a live weight at zero stays alive). Without it the non-zeros are the topology.
    values: "float32" keeps every live weight bit by bit, in the parameter's own dtype; "float16" rounds wider ones;
    "int8" stores 8-bit codes with one scale per output, at most half a scale = max|w| / 254 off. Both concern
    parameters of two or more dimensions, and all come back in their own dtype. A weight outside a stored topology comes
    back as +0.0, also where it was −0.0.
    about: what a reader has to know to build the model again, such as its kind, sizes and names of classes: whatever
    JSON can say (names are strings, numbers are finite). `gossamer.files.about` reads it, without a model.

    Raises `InputError` for NaN, for masks that do not fit, for a non-zero weight outside its mask, for weights that
    `values` cannot hold (infinite, or beyond its range), for a state_dict that holds more than plain tensors, and for a
    description that JSON cannot hold.
    """
    a_path(path=path)
    content = to_bytes(model, masks=masks, values=values, about=about)
    write_atomically(Path(path), content)
    return len(content)


def load(path: str | Path, model: nn.Module, *, strict: bool = True) -> dict[str, Tensor]:
    """Fill `model` from a file of `save`; return parameter name → bool mask of each parameter stored with a topology.

    The whole file is checked before the model is touched: nothing is unpickled, and a file that is truncated, changed
    or made to harm raises `InputError`, as does one whose names, shapes or dtypes are not the model's. With `strict`
    false, names that only one side has are passed over. The masks lie on their parameters' devices; a `Masking` of the
    model keeps the masks it has until it is told: `masking.update(gossamer.load(path, model))`.
    """
    return from_bytes(read(path, WRITER), model, strict=strict, source=str(path))


def size(model: nn.Module, *, masks: Mapping[str, Tensor] | None = None, values: Values = "float32") -> int:
    """The number of bytes that `save` would write, found without writing; NaN is no error here."""
    model = plain(model)
    return container.packed_size(*_packed(model, masks, values))


def to_bytes(
    model: nn.Module,
    *,
    masks: Mapping[str, Tensor] | None = None,
    values: Values = "float32",
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The content of the file that `save` writes."""
    model = plain(model)
    for name, tensor in _state(model).items():
        if coding.has_nan(tensor):
            raise InputError(f"{name} holds NaN. Save a model whose training has not diverged.")
    entries, metadata = _packed(model, masks, values)
    if about is not None:
        metadata["about"] = _described(about)
    return container.pack(entries, metadata)


def from_bytes(content: bytes, model: nn.Module, *, strict: bool = True, source: str = "the file") -> dict[str, Tensor]:
    """Fill `model` from the content of a file, as `load` does; errors call it `source`."""
    model = plain(model)
    of_type(bool, "True or False", strict=strict)
    of_type(bytes, "the content of a file of gossamer.save", content=content)
    state = _state(model)
    with _damage_of(source):
        stored = _stored(content)
        _compare(stored, state, strict, source)
        held = [name for name in state if name in stored]
        decoded = {id(stored[name]): coding.decode(stored[name]) for name in held}  # tied names share their parts
    found = {name: decoded[id(stored[name])] for name in held}
    for name, first in _ties(state).items():
        if name in found and first in found and not _same(found[name][0], found[first][0]):
            raise InputError(
                f"{source} holds different values for {first} and {name}, which are one tensor in the model."
            )
    _fill(model, {name: tensor for name, (tensor, _) in found.items()}, source)
    parameters = dict(model.named_parameters())
    return {
        name: mask.to(parameters[name].device)
        for name, (_, mask) in found.items()
        if name in parameters and mask is not None
    }


@contextlib.contextmanager
def _damage_of(source: str) -> Iterator[None]:
    """Turn what is wrong with a file's bytes into an `InputError` that names the file."""
    try:
        yield
    except Damage as damage:
        raise InputError(damage.of(source, WRITER)) from damage


def _described(about: Mapping[str, Any]) -> str:
    """The description in JSON; raise `InputError` where it would not come back as it is."""
    try:
        text = json.dumps(dict(about), sort_keys=True, separators=(",", ":"), allow_nan=False)
        same = len(text) < container.HEADER_LIMIT and container.parse(text) == _in_json(dict(about))
    except (TypeError, ValueError, RecursionError, Damage) as error:
        raise InputError(f"about cannot be stored ({error}). Give a dict that JSON can hold.") from error
    if not same:
        raise InputError("about does not come back from JSON as it is, or is too large. Use strings as names.")
    return text


def _in_json(value: Any) -> Any:
    """The value with lists in the place of tuples."""
    if isinstance(value, dict):
        return {key: _in_json(part) for key, part in value.items()}
    return [_in_json(part) for part in value] if isinstance(value, list | tuple) else value


def _packed(
    model: nn.Module, masks: Mapping[str, Tensor] | None, values: Values
) -> tuple[dict[str, Entry], dict[str, str]]:
    """The entries and the metadata that stand for the model."""
    of_type((Mapping, type(None)), "a masking, or a mapping of parameter names to masks", masks=masks)
    if not isinstance(values, str) or values not in get_args(Values):
        raise InputError(f"values is {values!r}. Choose one of {', '.join(get_args(Values))}.")
    state = _state(model)
    tied = _ties(state)
    weights = {name for name, tensor in model.named_parameters() if tensor.is_floating_point() and tensor.itemsize > 1}
    topologies = (
        None if masks is None else _fitting(masks, {name: state[name] for name in weights & state.keys()}, tied)
    )
    entries: dict[str, Entry] = {}
    coded: dict[str, Parts] = {}
    for name, tensor in state.items():
        if name in tied:
            continue
        weight = tensor.detach().cpu().contiguous()
        matrix = name in weights and weight.dim() > 1 and weight.numel() > 0
        alive = weight != 0 if matrix and topologies is None else (topologies or {}).get(name)
        try:
            one = coding.encode(weight, alive, values if matrix else "float32", keep=topologies is not None)
        except InputError as error:
            raise InputError(f"In {name} {error}") from error
        if one.topology or one.entries["values"].dtype != one.dtype:
            coded[name] = one
            made = {f"{name}.{kind}": entry for kind, entry in one.entries.items()}
        else:
            made = {name: one.entries["values"]}
        if clash := made.keys() & (entries.keys() | state.keys() - {name}):
            raise InputError(f"The name {min(clash)} is needed for a part of {name}. Rename it in the state_dict.")
        entries |= made
    tied_text = json.dumps(tied, sort_keys=True, separators=(",", ":"))
    return entries, {"format": FORMAT, "coded": parts.describe(coded), "tied": tied_text}


def _state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state_dict; raise `InputError` where it holds more than plain tensors with values."""
    state = model.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.dtype not in NAMES:
            kind = f"{tensor.layout} {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(f"{name} is a {kind}. Only dense tensors of a dtype of safetensors can be in a file.")
        if tensor.is_meta or is_lazy(tensor):
            raise InputError(f"{name} has no values (a lazy or meta tensor). Run the model once, or fill it, first.")
        axes = zip(tensor.shape, tensor.stride(), strict=True)
        if tensor.numel() > 1 and any(size > 1 and not stride for size, stride in axes):
            raise InputError(f"{name} is an expanded tensor, whose elements share memory. Give it its own by clone().")
    return state


def _ties(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Later name → first name, wherever two names of the state are one tensor."""
    first: dict[object, str] = {}
    tied = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            tied[name] = first[place]
    return tied


def _fitting(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], tied: Mapping[str, str]) -> dict[str, Tensor]:
    """The masks on the CPU under the first names of their parameters; raise `InputError` where one does not fit."""
    found = {}
    for name, mask in masks.items():
        of_type(Tensor, "a boolean tensor", **{f"the mask of {name}": mask})
        weight = weights.get(tied.get(name, name))
        if weight is None:
            raise InputError(
                f"masks names {name}, which is no floating-point parameter. Use names of named_parameters()."
            )
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            has = f"{mask.dtype} {tuple(mask.shape)}"
            raise InputError(f"The mask of {name} is {has}. Give a torch.bool tensor of shape {tuple(weight.shape)}.")
        stray = int(((weight.detach() != 0) & ~mask.to(weight.device)).sum())
        if stray:
            raise InputError(f"{name} has {stray} non-zero weights outside its mask. Multiply it by its mask first.")
        found[tied.get(name, name)] = mask.cpu().contiguous()
    return found


def _stored(content: bytes) -> dict[str, Parts]:
    """What a file holds, by the names of the state_dict; raise `Damage` where it is not whole."""
    entries, metadata = container.unpack(content)
    description(metadata)
    stored = parts.gather(entries, metadata["coded"])
    ties = container.parse(metadata["tied"])
    for name, first in ties.items():
        if name in stored or not isinstance(first, str) or first not in stored or first in ties:
            raise Damage(f"it ties {name!a} to a tensor that it does not hold")
    return stored | {name: stored[first] for name, first in ties.items()}


def _compare(stored: Mapping[str, Parts], state: Mapping[str, Tensor], strict: bool, source: str) -> None:
    """Raise `InputError` where the file's names, shapes or dtypes are not the model's."""
    odd = (("lacks", state.keys() - stored.keys()), ("has, beyond the model,", stored.keys() - state.keys()))
    if strict and (odd[0][1] or odd[1][1]):
        both = " and ".join(f"{verb} {_listed(names)}" for verb, names in odd if names)
        raise InputError(f"{source} {both}. Build the model that was saved, or load with strict=False.")
    for name, tensor in state.items():
        if name not in stored:
            continue
        ours, theirs = (tensor.dtype, tuple(tensor.shape)), (DTYPES[stored[name].dtype], stored[name].shape)
        if ours != theirs:
            both = f"{theirs[0]} {theirs[1]} in {source} and {ours[0]} {ours[1]} in the model"
            raise InputError(f"{name} is {both}. Build the model that was saved.")


def _listed(names: Set[str]) -> str:
    """The first three names, and how many more there are."""
    listed = ", ".join(ascii(name)[1:-1] for name in sorted(names)[:3])
    return listed + (f" (and {len(names) - 3} more)" if len(names) > 3 else "")


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy checked tensors into the model; where a module of it refuses its own, put everything back."""
    state = model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    error = None
    try:
        state.update(tensors)
        model.load_state_dict(state)
    except Exception as refusal:
        state.update(before)
        error = refusal
    with torch.no_grad():  # once more: a Masking of the model has just masked its weights with the masks it had before
        for name, tensor in model.state_dict().items():
            tensor.copy_(state[name])
    if error:
        raise InputError(f"{source} is refused by the model: {error}") from error


def _same(one: Tensor, other: Tensor) -> bool:
    """Equality to the bit."""
    return one is other or torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
