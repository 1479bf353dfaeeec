"""Model files: one safetensors file, as small as the model's non-zeros, that cannot run code or load half.

A tensor stored as it is has its own name in the file; one stored otherwise has parts, named NAME.values and, as needed,
NAME.bitmap or NAME.gaps and NAME.scales (`coding` says what they mean). The header's metadata, all strings: `sha256`,
`format`, `coded` (JSON: name → dtype, shape, and whether a topology is kept, for tensors in parts), `tied` (JSON: name
→ the name that is stored, for tensors that are one).
"""

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gossamer.errors import InputError
from gossamer.files import coding, container
from gossamer.files.coding import Stored, Values
from gossamer.files.container import DTYPES, NAMES, Damage
from gossamer.results import write_atomically

FORMAT = "gossamer 1"


def save(
    model: nn.Module, path: str | Path, *, masks: Mapping[str, Tensor] | None = None, values: Values = "float32"
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

    Raises `InputError` for NaN, for masks that do not fit, for a non-zero weight outside its mask, for weights that
    `values` cannot hold (infinite, or beyond its range), and for a state_dict that holds more than plain tensors.
    """
    content = to_bytes(model, masks=masks, values=values)
    write_atomically(Path(path), content)
    return len(content)


def load(path: str | Path, model: nn.Module, *, strict: bool = True) -> dict[str, Tensor]:
    """Fill `model` from a file of `save`; return parameter name → bool mask of each parameter stored with a topology.

    The whole file is checked before the model is touched: nothing is unpickled, and a file that is truncated, changed
    or made to harm raises `InputError`, as does one whose names, shapes or dtypes are not the model's. With `strict`
    false, names that only one side has are passed over. The masks lie on their parameters' devices; a `Masking` of the
    model keeps the masks it has until it is told: `masking.update(gossamer.load(path, model))`.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}). Give the path of a file of gossamer.save."
        ) from error
    return from_bytes(content, model, strict=strict, source=str(path))


def size(model: nn.Module, *, masks: Mapping[str, Tensor] | None = None, values: Values = "float32") -> int:
    """The number of bytes that `save` would write, found without writing; NaN is no error here."""
    return container.packed_size(*_packed(model, masks, values))


def to_bytes(model: nn.Module, *, masks: Mapping[str, Tensor] | None = None, values: Values = "float32") -> bytes:
    """The content of the file that `save` writes."""
    for name, tensor in _state(model).items():
        if coding.has_nan(tensor):
            raise InputError(f"{name} holds NaN. Save a model whose training has not diverged.")
    return container.pack(*_packed(model, masks, values))


def from_bytes(content: bytes, model: nn.Module, *, strict: bool = True, source: str = "the file") -> dict[str, Tensor]:
    """Fill `model` from the content of a file, as `load` does; errors call it `source`."""
    state = _state(model)
    try:
        stored = _stored(content)
        _compare(stored, state, strict, source)
        held = [name for name in state if name in stored]
        decoded = {id(stored[name]): coding.decode(stored[name]) for name in held}  # tied names share one Stored
    except Damage as damage:
        raise InputError(
            f"{source} is damaged, or no file of gossamer.save: {damage}. Save or fetch it again."
        ) from damage
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


def _packed(
    model: nn.Module, masks: Mapping[str, Tensor] | None, values: Values
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The safetensors tensors and the metadata that stand for the model."""
    if values not in get_args(Values):
        raise InputError(f"values is {values!r}. Choose one of {', '.join(get_args(Values))}.")
    state = _state(model)
    tied = _ties(state)
    weights = {name for name, tensor in model.named_parameters() if tensor.is_floating_point() and tensor.itemsize > 1}
    topologies = (
        None if masks is None else _fitting(masks, {name: state[name] for name in weights & state.keys()}, tied)
    )
    tensors: dict[str, Tensor] = {}
    coded: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        if name in tied:
            continue
        weight = tensor.detach().cpu().contiguous()
        matrix = name in weights and weight.dim() > 1 and weight.numel() > 0
        alive = weight != 0 if matrix and topologies is None else (topologies or {}).get(name)
        try:
            kept, parts = coding.encode(weight, alive, values if matrix else "float32", keep=topologies is not None)
        except InputError as error:
            raise InputError(f"In {name} {error}") from error
        if kept or parts["values"].dtype != weight.dtype:
            coded[name] = {"dtype": NAMES[weight.dtype], "shape": list(weight.shape), "topology": kept}
            parts = {f"{name}.{kind}": part for kind, part in parts.items()}
        else:
            parts = {name: weight}
        if clash := parts.keys() & (tensors.keys() | state.keys() - {name}):
            raise InputError(f"The name {min(clash)} is needed for a part of {name}. Rename it in the state_dict.")
        tensors |= parts
    return tensors, {
        "format": FORMAT,
        "coded": json.dumps(coded, sort_keys=True, separators=(",", ":")),
        "tied": json.dumps(tied, sort_keys=True, separators=(",", ":")),
    }


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


def _stored(content: bytes) -> dict[str, Stored]:
    """What a file holds, by the names of the state_dict; raise `Damage` where it is not whole."""
    entries, metadata = container.unpack(content)
    if metadata.keys() != {"sha256", "format", "coded", "tied"} or metadata["format"] != FORMAT:
        raise Damage(f"its format is {str(metadata.get('format'))[:40]!a}, not {FORMAT!r}")
    stored = {}
    for name, record in container.parse(metadata["coded"]).items():
        if not isinstance(record, dict) or record.keys() != {"dtype", "shape", "topology"}:
            raise Damage(f"it does not describe {name!a} by dtype, shape and topology")
        dtype, shape, topology = record["dtype"], record["shape"], record["topology"]
        if (
            not isinstance(dtype, str)
            or dtype not in DTYPES
            or not container.is_shape(shape)
            or type(topology) is not bool
        ):
            raise Damage(f"it does not describe {name!a} by a known dtype, a shape and true or false")
        kinds = ["values", *(["bitmap", "gaps"] if topology else []), "scales"]
        parts = {kind: entries.pop(f"{name}.{kind}") for kind in kinds if f"{name}.{kind}" in entries}
        if "values" not in parts or parts.keys() >= {"bitmap", "gaps"}:
            raise Damage(f"{name!a} has no values, or two indices")
        stored[name] = Stored(DTYPES[dtype], tuple(shape), topology, parts)
    for name, entry in entries.items():
        if name in stored:
            raise Damage(f"it holds {name!a} twice")
        stored[name] = Stored(DTYPES[entry.dtype], entry.shape, False, {"values": entry})
    ties = container.parse(metadata["tied"])
    for name, first in ties.items():
        if name in stored or not isinstance(first, str) or first not in stored or first in ties:
            raise Damage(f"it ties {name!a} to a tensor that it does not hold")
    return stored | {name: stored[first] for name, first in ties.items()}


def _compare(stored: Mapping[str, Stored], state: Mapping[str, Tensor], strict: bool, source: str) -> None:
    """Raise `InputError` where the file's names, shapes or dtypes are not the model's."""
    odd = (("lacks", state.keys() - stored.keys()), ("has, beyond the model,", stored.keys() - state.keys()))
    if strict and (odd[0][1] or odd[1][1]):
        both = " and ".join(f"{verb} {_listed(names)}" for verb, names in odd if names)
        raise InputError(f"{source} {both}. Build the model that was saved, or load with strict=False.")
    for name, tensor in state.items():
        if name not in stored:
            continue
        ours, theirs = (tensor.dtype, tuple(tensor.shape)), (stored[name].dtype, stored[name].shape)
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
