"""Masking: the masks of a model, and everything that keeps them true while it trains."""

import io
import math
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError
from gossamer.patterns import Channel, Pattern, Unstructured
from gossamer.scores import Score
from gossamer.scores import score as find_score

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Layer:
    """One weight that can be sparse: the module it belongs to and, where it stays dense, the reason."""

    module: str
    parameter: str
    kept_dense: str = ""


def weights_of(module: nn.Module) -> list[str]:
    """The names, within the module, of its own weights that can be masked (matrices and convolution kernels)."""
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        return [name for name in names if getattr(module, name) is not None]
    if isinstance(module, nn.RNNBase):
        return [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_")]
    return []


def matching(name: str, globs: Iterable[str]) -> bool:
    """Whether the module name matches one of the globs."""
    return any(fnmatchcase(name, glob) for glob in globs)


def find_layers(
    model: nn.Module, include: Iterable[str] | None, exclude: Iterable[str], pattern: Pattern
) -> list[Layer]:
    """Every weight that can be masked, once even where tied; with the reason where it stays dense."""
    found: list[Layer] = []
    seen: set[int] = set()
    first_convolution = True
    for name, module in model.named_modules():
        for own in weights_of(module):
            weight = getattr(module, own)
            if id(weight) in seen:
                continue
            seen.add(id(weight))
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
            first_convolution &= not isinstance(module, CONVOLUTIONS)
            found.append(Layer(name, f"{name}.{own}" if name else own, reason))
    if isinstance(pattern, Channel) and found and not found[-1].kept_dense:
        found[-1] = Layer(found[-1].module, found[-1].parameter, "last layer: its channels are classes")
    for glob in (*(include or ()), *exclude):
        if not any(fnmatchcase(layer.module, glob) for layer in found):
            names = ", ".join(layer.module or "(the model itself)" for layer in found) or "none"
            raise InputError(f"the glob {glob!r} matches no layer that can be sparse; the layers are: {names}.")
    return found


class Masking:
    """The masks of a model by parameter name, kept true by `attach`, reported by `print`.

    Made by `sparsify`. `masks` maps parameter names to boolean tensors (True is alive); `counts` is what was asked of
    each. The model stays an ordinary module: its state dict and its class do not change.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], masks: dict[str, Tensor], pattern: Pattern) -> None:
        self.model = model
        self.layers = layers
        self.masks = masks
        self.pattern = pattern
        self.counts = {name: int(mask.sum()) for name, mask in masks.items()}
        self.distribution: Distribution = find_distribution("uniform")
        self.steps = 0
        self.dense_gradients: dict[str, Tensor] | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []
        model.register_load_state_dict_post_hook(_Remask(self))

    @property
    def sparsity(self) -> float:
        """The share of the masked layers' weights that are dead, in [0, 1); a regrown weight at zero is alive."""
        return 1 - sum(int(m.sum()) for m in self.masks.values()) / sum(m.numel() for m in self.masks.values())

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The masked parameters by name, as the model holds them now."""
        return {name: self.model.get_parameter(name) for name in self.masks}

    @property
    def attached(self) -> bool:
        """Whether an optimizer and the gradients are being watched."""
        return bool(self._handles)

    @torch.no_grad()
    def apply(self, model: nn.Module | None = None) -> None:
        """Zero the dead weights of the model, or of a copy of it such as an averaged one (EMA, SWA)."""
        model = self.model if model is None else model
        for name, mask in self._on_device():
            model.get_parameter(name).mul_(mask)

    def attach(self, optimizer: torch.optim.Optimizer) -> "Masking":
        """Keep gradients, weights and the optimizer's moments masked from now on; return the masking itself.

        Gradients are masked as they arrive, so that clipping sees the sparse network's norm; weights are masked again
        after every step of the optimizer. Attaching again, after a copy or with a new optimizer, replaces the first.
        """
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = [name for name, weight in self.weights.items() if id(weight) not in own]
        if len(missing) == len(self.masks):
            raise InputError(
                "the optimizer holds none of the masked parameters; build it on masking.model.parameters()."
            )
        self.detach()
        self._optimizer = optimizer
        self._handles = [optimizer.register_step_post_hook(self._after_step)]
        for name, weight in self.weights.items():
            if weight.requires_grad:
                self._handles.append(weight.register_post_accumulate_grad_hook(self._gradient_hook(name)))
        self.broadcast()
        self.apply()
        self._mask_moments()
        return self

    def detach(self) -> None:
        """Stop watching; the masks and weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._optimizer, self.dense_gradients = [], None, None

    def to(self, model: nn.Module) -> "Masking":
        """The same masks over a copy of the model; attach it in its turn, since deepcopy drops the parameters' hooks."""
        twin = Masking(model, self.layers, {name: mask.clone() for name, mask in self.masks.items()}, self.pattern)
        twin.counts, twin.distribution, twin.steps = dict(self.counts), self.distribution, self.steps
        twin.apply()
        return twin

    @torch.no_grad()
    def update(self, masks: Mapping[str, Tensor]) -> None:
        """Move to new masks: what dies becomes zero, its moments too; what wakes starts at zero with fresh moments."""
        for name, mask in masks.items():
            if name not in self.masks or mask.shape != self.masks[name].shape:
                raise InputError(
                    f"a mask named {name!r} of shape {tuple(mask.shape)} fits none of the masked parameters."
                )
            self.masks[name] = mask.to(self.masks[name].device, torch.bool)
        self.broadcast()
        self.apply()
        self._mask_moments()

    def prune(self, score: str | Score, sparsity: float, generator: torch.Generator | None = None) -> None:
        """Keep the best-scored of the weights that are alive, so that the whole has `sparsity`; the dead stay dead."""
        scores = find_score(score)(self.model, self.weights, generator)
        alive = {
            name: s.masked_fill(~mask.to(s.device), -torch.inf)
            for (name, mask), s in zip(self.masks.items(), scores.values(), strict=True)
        }
        self.counts = self.distribute(sparsity, scores)
        self.update({name: self.pattern.mask(alive[name], self.counts[name]) for name in self.masks})

    def distribute(self, sparsity: float, scores: Mapping[str, Tensor] | None = None) -> dict[str, int]:
        """How many weights each layer keeps at an overall sparsity; a pattern with a density of its own has the say."""
        by_magnitude = {name: w.detach().abs() for name, w in self.weights.items()}
        if self.pattern.density is not None:
            return {name: round(self.pattern.density * w.numel()) for name, w in by_magnitude.items()}
        return self.distribution(scores or by_magnitude, sparsity)

    def broadcast(self) -> None:
        """Give every process the masks of rank 0; nothing where there is one process."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for mask in self.masks.values():
                torch.distributed.broadcast(mask, src=0)

    def state_dict(self) -> dict[str, Any]:
        """Masks, counts and the number of optimizer steps seen; readable by `torch.load(weights_only=True)`."""
        return {"masks": dict(self.masks), "counts": dict(self.counts), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the parameters must be the same."""
        if set(state["masks"]) != set(self.masks):
            odd = sorted(set(state["masks"]) ^ set(self.masks))[0]
            raise InputError(
                f"the saved masks and this model differ in {odd!r}; sparsify the model with the same options first."
            )
        self.update(state["masks"])
        self.counts, self.steps = dict(state["counts"]), state["steps"]

    def _on_device(self) -> list[tuple[str, Tensor]]:
        """The masks, each moved once to where its weight is."""
        for name, weight in self.weights.items():
            if self.masks[name].device != weight.device:
                self.masks[name] = self.masks[name].to(weight.device)
        return list(self.masks.items())

    def _gradient_hook(self, name: str) -> Any:
        def mask_gradient(weight: Tensor) -> None:
            gradient, mask = weight.grad, self.masks[name]
            if gradient is None:
                return
            if self.dense_gradients is None:
                gradient.mul_(mask)
                return
            outside = gradient.detach().masked_fill(mask, 0)
            if name in self.dense_gradients:  # a further micro-batch of the same step
                outside += self.dense_gradients[name].masked_fill(mask, 0)
            gradient.mul_(mask)
            self.dense_gradients[name] = outside + gradient

        return mask_gradient

    def _after_step(self, *_: Any) -> None:
        self.steps += 1
        self.apply()

    @torch.no_grad()
    def _mask_moments(self) -> None:
        """Zero the optimizer's state of dead weights, whatever the optimizer calls it."""
        if self._optimizer is None:
            return
        for name, weight in self.weights.items():
            for value in self._optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.mul_(self.masks[name].to(value.device))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_optimizer": None, "_handles": [], "dense_gradients": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.model.register_load_state_dict_post_hook(_Remask(self))

    def __str__(self) -> str:
        """The table: layer, shape, pattern, asked, measured."""
        from rich.console import Console
        from rich.table import Table

        table = Table("layer", "shape", "pattern", "asked", "measured")
        for layer in self.layers:
            shape = " × ".join(map(str, self.model.get_parameter(layer.parameter).shape))
            if layer.parameter not in self.masks:
                table.add_row(layer.parameter, shape, f"dense: {layer.kept_dense}", "", "")
                continue
            mask = self.masks[layer.parameter]
            asked, measured = (1 - n / mask.numel() for n in (self.counts[layer.parameter], int(mask.sum())))
            table.add_row(layer.parameter, shape, str(self.pattern), f"{asked:.2%}", f"{measured:.2%}")
        table.caption = f"sparsity {self.sparsity:.2%} of the masked weights" + (
            "" if self.attached else "; not attached: training will fill the zeros (call attach(optimizer))"
        )
        text = io.StringIO()
        Console(file=text, width=140).print(table)
        return text.getvalue()


class _Remask:
    """Masks a model again after `load_state_dict`; a copy or pickle of the model carries it, but inert."""

    def __init__(self, masking: Masking | None = None) -> None:
        self.masking = weakref.ref(masking) if masking else None

    def __call__(self, module: nn.Module, incompatible_keys: Any) -> None:
        masking = self.masking and self.masking()
        if masking:
            masking.apply()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Remask, ()


def sparsify(
    model: nn.Module,
    sparsity: float,
    *,
    pattern: Pattern | None = None,
    distribution: str | Mapping[str, float] | Distribution = "erk",
    score: str | Score = "magnitude",
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> Masking:
    """Make `model` sparse in place and return its masking.

    `sparsity` in [0, 1) is the share of the masked layers' weights that go, distributed over the layers by
    `distribution` and chosen by `score` under `pattern`. `include` and `exclude` are globs over module names; without
    `include`, the first convolution and depthwise convolutions stay dense. A score that asks for iterations is pruned
    in steps of equal ratio, as SynFlow needs. Random scores come from `generator`.

    Raises `InputError` for a sparsity outside [0, 1), a glob or a name that matches nothing, a pattern that cannot
    have that sparsity or does not fit a layer, and a model with nothing to mask.
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity}; it must be in [0, 1): 0.9 removes nine weights of ten.")
    pattern = Unstructured() if pattern is None else pattern
    if not isinstance(pattern, Pattern):
        raise InputError(f"pattern is {pattern!r}; pass a pattern object such as gossamer.Block(4, 1).")
    if pattern.density is not None and not math.isclose(pattern.density, 1 - sparsity, abs_tol=1e-9):
        raise InputError(
            f"{pattern} fixes its sparsity at {1 - pattern.density:g}, but {sparsity:g} was asked; "
            f"ask for {1 - pattern.density:g} or choose another pattern."
        )
    layers = find_layers(model, None if include is None else tuple(include), tuple(exclude), pattern)
    masked = [layer.parameter for layer in layers if not layer.kept_dense]
    if not masked:
        raise InputError("no layer of the model can be sparse; include=('*',) takes what is kept dense by default.")
    for name in masked:
        try:
            pattern.check(model.get_parameter(name).shape)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    masks = {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in masked}
    masking = Masking(model, layers, masks, pattern)
    masking.distribution = find_distribution(distribution)
    criterion = find_score(score)
    for k in range(1, criterion.iterations + 1):
        masking.prune(criterion, 1 - (1 - sparsity) ** (k / criterion.iterations), generator)
    return masking
