"""Layers: which weights of a model can be sparse, and which of them stay dense and why."""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from gossamer.errors import InputError, of_type
from gossamer.patterns import Channel, Pattern
from gossamer.weights import stores_sparsely

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
SIZES = (("out_features", "in_features"), ("out_channels", "in_channels"), ("nf", "nx"))  # the last: of Conv1D
ADAPTER = re.compile(r"(^|\.)(lora|vera|hada|lokr|loha|oft|boft)_")  # how PEFT names what it adds to a layer


@dataclass(frozen=True)
class Turn:
    """How a weight lies: inputs first in so many `groups`, outputs first where that is 0; or a stack of `experts`."""

    groups: int = 0
    experts: int = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        """A tensor of the weight's shape with outputs first, (out, in / groups, …), as patterns see it; or back.

        The outputs of experts, (experts, out, in) or with inputs first (experts, in, out), follow each other.
        """
        if self.experts:
            stack = tensor if tensor.dim() == 3 else tensor.unflatten(0, (self.experts, -1))
            stack = stack.mT if self.groups else stack
            return stack.flatten(0, 1) if tensor.dim() == 3 else stack
        return tensor.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1) if self.groups else tensor


@dataclass(frozen=True)
class Layer:
    """One weight that can be sparse.

    `module` and `parameter` are its names in the model; `names` all that a glob may call it, also where it is tied;
    `turned` lays its outputs first.
    """

    module: str
    parameter: str
    shape: torch.Size
    kept_dense: str = ""
    """the reason where it stays dense"""
    turned: Turn = Turn()
    names: tuple[str, ...] = ()

    def called(self, globs: Iterable[str]) -> bool:
        """Whether one of the globs matches a name of it."""
        return any(fnmatchcase(name, glob) for glob in globs for name in self.names)


def plain(model: nn.Module) -> nn.Module:
    """The module itself where `torch.compile` has wrapped it; `InputError` for what is no module."""
    of_type(nn.Module, "a torch.nn.Module", model=model)
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def globs(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """One glob or several as a tuple; `InputError` for what are no names."""
    given = (given,) if isinstance(given, str) else () if given is None else given
    iterable = isinstance(given, Iterable) and not isinstance(given, nn.Module | Tensor)
    for glob in tuple(given) if iterable else (given,):
        of_type(str, 'a glob over names of layers, such as "encoder.*"', include_or_exclude=glob)
    return tuple(given)


def weights_of(module: nn.Module) -> dict[str, Turn]:
    """The module's own weights that can be masked, by their names within it, and how they lie.

    A module of another library that has its sizes and a matrix of them as its weight counts as a linear layer; one that
    has `num_experts` and stacks of as many matrices, as transformers' mixtures do, as experts.
    """
    if isinstance(module, (nn.Linear, *CONVOLUTIONS, *EMBEDDINGS)) or stores_sparsely(module):
        return {"weight": Turn()}
    if isinstance(module, TRANSPOSED):
        return {"weight": Turn(module.groups)}
    if isinstance(module, nn.MultiheadAttention):
        names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        return {name: Turn() for name in names if getattr(module, name) is not None}
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        names = [*module._parameters, *getattr(module, "parametrizations", ())]
        plain = (name.removesuffix("_v") for name in names if not name.endswith("_g"))  # of a weight_norm by hooks
        return {name: Turn() for name in dict.fromkeys(plain) if name.startswith("weight_")}
    weight = module._parameters.get("weight")
    if weight is not None and is_lazy(weight):
        return {"weight": Turn()}
    for sizes in SIZES if weight is not None and weight.dim() == 2 else ():
        shape = tuple(getattr(module, size, None) for size in sizes)
        if weight is not None and tuple(weight.shape) in (shape, shape[::-1]):
            turned = tuple(weight.shape) != shape or sizes[0] == "nf"
            return {"weight": Turn(int(turned))}
    own = {name: p for name, p in module._parameters.items() if p is not None and not is_lazy(p) and p.dim() == 3}
    experts = getattr(module, "num_experts", None) if own else None
    if not isinstance(experts, int):
        return {}
    turn = Turn(int(getattr(module, "is_transposed", False)), experts)
    return {name: turn for name, stack in own.items() if len(stack) == experts}


def parameter_of(module: nn.Module, weight: str) -> tuple[str, str]:
    """The parameter within the module whose zeros are those of a weight, and why it cannot be masked where it cannot.

    That is the weight itself or, where it is parametrized, what lies under it: weight_norm's direction, spectral_norm's
    original. A parametrization that does not keep zeros where they are, such as an orthogonal one, cannot be masked.
    """
    for name in (weight, f"{weight}_orig"):  # the latter by a hook, as torch.nn.utils.prune leaves it
        if (own := module._parameters.get(name)) is not None:
            return name, "" if own.is_floating_point() else f"its numbers are {own.dtype}"
    if stores_sparsely(module):
        return weight, ""
    if f"{weight}_v" in module._parameters:
        return weight, "weight_norm by hooks: use torch.nn.utils.parametrizations.weight_norm"
    if not parametrize.is_parametrized(module, weight):
        return weight, "not a parameter of its own"
    trial = _trial(module, weight)
    shape = trial().shape
    for name, original in reversed(list(trial.named_parameters(recurse=False))):
        if original.shape == shape:
            with torch.no_grad():
                scattered = torch.arange(original.numel(), device=original.device) * 0.6180339887 % 1
                dead = (scattered < 0.5).reshape(shape)
                original.masked_fill_(dead, 0)
                if not trial()[dead].any():
                    return f"parametrizations.{weight}.{name}", ""
    return weight, f"parametrized by {', '.join(type(part).__name__ for part in trial)}, which keeps no zeros"


def _trial(module: nn.Module, weight: str) -> parametrize.ParametrizationList:
    """A copy of what makes a parametrized weight."""
    lists = module.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    trial = copy.deepcopy(lists[weight])
    assert isinstance(trial, parametrize.ParametrizationList)
    return trial


@torch.no_grad()
def refuse_undefined(model: nn.Module, layer: Layer, mask: Tensor) -> None:
    """Raise `InputError` where a mask leaves a parametrized weight undefined: weight_norm of a row of zeros is 0/0."""
    path, _, original = layer.parameter.rpartition(".")
    owner, parametrized, weight = path.rpartition("parametrizations.")
    if not parametrized:
        return
    trial = _trial(model.get_submodule(owner.removesuffix(".")), weight)
    trial.get_parameter(original).mul_(mask.to(trial.get_parameter(original).device))
    if not trial().isfinite().all():
        raise InputError(
            f"{layer.parameter} would have a row without weights, whose norm its parametrization divides by: "
            "ask less sparsity, use pattern=FanIn(), which leaves every row some, or exclude it."
        )


def default_reason(name: str, module: nn.Module, first_convolution: bool) -> str:
    """Why a layer stays dense unless it is included, as the literature has it; "" where nothing speaks for it."""
    if ADAPTER.search(name):
        return "adapter"
    if isinstance(module, EMBEDDINGS):
        return "embedding"
    if isinstance(module, CONVOLUTIONS) and first_convolution:
        return "first convolution"
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) and module.groups == module.in_channels > 1:
        return "depthwise convolution"
    return ""


def find_layers(
    model: nn.Module, include: Iterable[str] | None, exclude: Iterable[str], pattern: Pattern
) -> list[Layer]:
    """Every weight that can be masked, once even where tied; with the reason where it stays dense.

    The weight of the last layer, in the order of registration, is what `Channel` keeps dense. Raises `InputError` for a
    glob that matches none, for a lazy module that has no weights yet, and for an included weight that cannot be masked.
    """
    candidates = _candidates(model)
    others = _others(model, candidates)
    found = []
    for layer, unfit in candidates:
        reason = layer.kept_dense if include is None else "" if layer.called(include) else "not included"
        reason = "excluded" if layer.called(exclude) else reason
        if unfit and include is not None and not reason:
            raise InputError(f"{layer.parameter} is included, but it cannot be masked: {unfit}. Exclude it.")
        found.append(replace(layer, kept_dense=reason or unfit))
    if isinstance(pattern, Channel) and found and not found[-1].kept_dense:
        found[-1] = replace(found[-1], kept_dense="last layer: its channels are classes")
    for layer in others:  # only by a name of their own: a glob that also takes the whole module does not mean them
        if any(layer.called([glob]) and not fnmatchcase(layer.module, glob) for glob in include or ()):
            found.append(replace(layer, kept_dense="excluded" if layer.called(exclude) else ""))
    for glob in (*(include or ()), *exclude):
        if not any(layer.called([glob]) for layer in (*found, *others)):
            names = ", ".join(layer.module or "(the model itself)" for layer in found) or "none"
            raise InputError(f"the glob {glob!r} matches no layer that can be sparse; the layers are: {names}.")
    return found


def _candidates(model: nn.Module) -> list[tuple[Layer, str]]:
    """The weights of layers of known kinds, each once, and why one cannot be masked where it cannot."""
    found: dict[object, tuple[Layer, str]] = {}
    embeddings: dict[object, str] = {}
    first_convolution = True
    for name, module in model.named_modules():
        for weight, turn in weights_of(module).items():
            inner, unfit = parameter_of(module, weight)
            tensor = getattr(module, weight)
            prefix = f"{name}." if name else ""
            parameter, names = prefix + inner, (name, prefix + weight, prefix + inner)
            if is_lazy(tensor):
                raise InputError(f"{parameter} has no shape yet; run one batch through the model first.")
            identity = (id(module), weight) if unfit or stores_sparsely(module) else id(module.get_parameter(inner))
            if isinstance(module, EMBEDDINGS):
                embeddings[identity] = name
            reason = default_reason(name, module, first_convolution)
            layer, unfit = found.get(identity, (Layer(name, parameter, tensor.shape, reason, turn), unfit))
            if layer.kept_dense == "embedding" and not isinstance(module, EMBEDDINGS):  # tied: the layer gives the name
                layer = replace(layer, module=name, parameter=parameter)
                del found[identity]  # and its place
            found[identity] = replace(layer, names=(*layer.names, *names)), unfit
        first_convolution &= not isinstance(module, CONVOLUTIONS)
    for identity, name in embeddings.items():
        layer, unfit = found[identity]
        if layer.module != name:
            found[identity] = replace(layer, kept_dense=f"tied to the embedding {name}"), unfit
    return list(found.values())


def _others(model: nn.Module, candidates: list[tuple[Layer, str]]) -> list[Layer]:
    """Further parameters of two or more dimensions, which only a glob of their own name takes."""
    taken = {name for layer, _ in candidates for name in layer.names}
    return [
        Layer(name.rpartition(".")[0], name, parameter.shape, names=(name,))
        for name, parameter in model.named_parameters()
        if name not in taken and not is_lazy(parameter) and parameter.dim() > 1 and parameter.is_floating_point()
    ]


def owner_of(model: nn.Module, parameter: str) -> tuple[nn.Module, str]:
    """The module whose weight a parameter is, or lies under, and the weight's name in it."""
    path, _, own = parameter.rpartition(".")
    before, parametrized, weight = path.rpartition("parametrizations.")
    if parametrized:
        return model.get_submodule(before.removesuffix(".")), weight
    return model.get_submodule(path), own.removesuffix("_orig")


def turned(model: nn.Module, parameter: str, tensor: Tensor) -> Tensor:
    """A tensor of a parameter's shape with outputs first, or back (see `Turn`)."""
    owner, weight = owner_of(model, parameter)
    return weights_of(owner).get(weight, Turn())(tensor)
