"""Masking: the masks of a model, and everything that keeps them true while it trains."""

import io
import math
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError
from gossamer.layers import Layer, find_layers
from gossamer.patterns import Pattern, Unstructured
from gossamer.scores import Score
from gossamer.scores import score as find_score


class Masking:
    """The masks of a model by parameter name, kept true by `attach`, reported by `print`.

    Made by `sparsify`. `masks` maps parameter names to boolean tensors (True is alive); `counts` is what was asked of
    each. The model stays an ordinary module: its state dict and its class do not change.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: list[Layer],
        masks: dict[str, Tensor],
        pattern: Pattern,
        distribution: Distribution,
    ) -> None:
        self.model = model
        self.layers = layers
        self.masks = masks
        self.pattern = pattern
        self.distribution = distribution
        self.counts = {name: int(mask.sum()) for name, mask in masks.items()}
        self.steps = 0
        self.dense_gradients: dict[str, Tensor] | None = None
        self._forget()
        model.register_load_state_dict_post_hook(_Remask(self))

    def _forget(self) -> None:
        """Be attached to nothing."""
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []
        self._watched: dict[str, nn.Parameter] = {}
        self._moments_unknown = False
        self._loaded: dict[str, Tensor] = {}

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
        """Whether an optimizer and the gradients of the model's present parameters are being watched."""
        return bool(self._handles) and all(self._watched[name] is weight for name, weight in self.weights.items())

    @torch.no_grad()
    def apply(self, model: nn.Module | None = None) -> None:
        """Zero the dead weights of the model, or of a copy of it such as an averaged one (EMA, SWA)."""
        for name in self.masks:
            weight = (self.model if model is None else model).get_parameter(name)
            weight.masked_fill_(~self._mask(name, weight.device), 0)

    def attach(self, optimizer: torch.optim.Optimizer) -> "Masking":
        """Keep gradients, weights and the optimizer's moments masked from now on; return the masking itself.

        Gradients are masked as they arrive, so that clipping sees the sparse network's norm; weights are masked again
        after every step of the optimizer. Attaching again, after a copy or with a new optimizer, replaces the first.
        Frozen parameters are watched too, in case they thaw. Raises `InputError` for an optimizer of another model.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)  # what Fabric and Accelerate wrap
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        weights = self.weights
        if not any(id(weight) in own for weight in weights.values()):
            raise InputError(
                "the optimizer holds none of the masked parameters; build it on masking.model.parameters()."
            )
        loaded = self._loaded
        self.detach()
        self._optimizer, self._watched, self._moments_unknown, self._loaded = optimizer, weights, True, loaded
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_post_hook(self._after_optimizer_load),
            *(self._watch(name, weight) for name, weight in weights.items()),
        ]
        self.broadcast()
        self.apply()
        return self

    def detach(self) -> None:
        """Stop watching; the masks and weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._forget()

    def to(self, model: nn.Module) -> "Masking":
        """The same masks over a copy of the model; attach it in its turn, since deepcopy drops parameter hooks."""
        masks = {name: mask.clone() for name, mask in self.masks.items()}
        twin = Masking(model, self.layers, masks, self.pattern, self.distribution)
        twin.counts, twin.steps = dict(self.counts), self.steps
        twin.apply()
        return twin

    @torch.no_grad()
    def update(self, masks: Mapping[str, Tensor]) -> None:
        """Move to new masks: what dies becomes zero, its moments too; what wakes starts at zero with fresh moments.

        Weights that `load_state_dict` brought since the last step are masked by these masks alone, so that a model and
        its masks may be restored in either order.
        """
        for name, mask in masks.items():
            if name not in self.masks or mask.shape != self.masks[name].shape:
                raise InputError(
                    f"a mask named {name!r} of shape {tuple(mask.shape)} fits none of the masked parameters."
                )
        for name, mask in masks.items():
            self.masks[name] = mask.to(self.masks[name].device, torch.bool)
        self.broadcast()
        for name, values in self._loaded.items():
            self.model.get_parameter(name).copy_(values)
        self._loaded = {}
        self.apply()
        self._mask_moments()

    def prune(self, score: str | Score, sparsity: float, generator: torch.Generator | None = None) -> None:
        """Keep the best-scored of the weights that are alive, so that the whole has `sparsity`; the dead stay dead.

        Random pruning after training is `prune("random", 0.9, generator)`. Raises `InputError` for a sparsity outside
        [0, 1), below the present one, or not the pattern's own.
        """
        if not 0 <= sparsity < 1:
            raise InputError(f"sparsity is {sparsity}; it must be in [0, 1): 0.9 removes nine weights of ten.")
        density = self.pattern.density
        if density is not None and not math.isclose(density, 1 - sparsity, abs_tol=1e-9):
            raise InputError(
                f"{self.pattern} fixes its sparsity at {1 - density:g}, but {sparsity:g} was asked; "
                f"ask for {1 - density:g} or choose another pattern."
            )
        asked, size = sum(self.counts.values()), sum(mask.numel() for mask in self.masks.values())
        if density is None and round((1 - sparsity) * size) > asked:
            raise InputError(f"sparsity is {sparsity}, below the present {1 - asked / size:.4g}; pruning only removes.")
        scores = self.alive(find_score(score)(self.model, self.weights, generator))
        self.counts = self.distribute(sparsity, scores)
        self.update({name: self.pattern.mask(scores[name], self.counts[name]) for name in self.masks})

    def alive(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores with −inf for dead weights."""
        return {name: s.masked_fill(~self._mask(name, s.device), -torch.inf) for name, s in scores.items()}

    def distribute(self, sparsity: float, scores: Mapping[str, Tensor]) -> dict[str, int]:
        """How many weights each layer keeps at an overall sparsity; a pattern with a density of its own has the say."""
        if self.pattern.density is not None:
            return {name: round(self.pattern.density * s.numel()) for name, s in scores.items()}
        return self.distribution(scores, sparsity)

    def broadcast(self) -> None:
        """Give every process the masks of rank 0; nothing where there is one process."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for name, weight in self.weights.items():
                torch.distributed.broadcast(self._mask(name, weight.device), src=0)

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

    def _mask(self, name: str, device: torch.device) -> Tensor:
        """A mask, moved for good to the device where it is wanted."""
        if self.masks[name].device != device:
            self.masks[name] = self.masks[name].to(device)
        return self.masks[name]

    def _watch(self, name: str, weight: nn.Parameter) -> Any:
        """Mask the weight's gradient as it arrives; where `dense_gradients` is a dict, keep the dense one there."""

        def mask_gradient(weight: Tensor) -> None:
            gradient = weight.grad
            if gradient is None:
                return
            mask = self._mask(name, gradient.device)
            if self.dense_gradients is None:
                gradient.mul_(mask.view(torch.uint8))  # several times as fast as by booleans
                return
            outside = gradient.detach().masked_fill(mask, 0)
            if name in self.dense_gradients:  # a further micro-batch of the same step
                outside += self.dense_gradients[name].masked_fill(mask, 0)
            gradient.mul_(mask.view(torch.uint8))
            self.dense_gradients[name] = outside + gradient

        frozen = not weight.requires_grad
        weight.requires_grad_(True)  # a hook needs it, and stays when it is taken back
        handle = weight.register_post_accumulate_grad_hook(mask_gradient)
        weight.requires_grad_(not frozen)
        return handle

    def _before_step(self, *_: Any) -> None:
        if self._moments_unknown:
            self._mask_moments()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # how GradScaler has a fused optimizer skip the step itself
        if overflow is not None and bool(overflow):
            return
        self.steps += 1
        self._loaded = {}
        for name, weight in self._watched.items():
            weight.mul_(self._mask(name, weight.device).view(torch.uint8))

    def _after_optimizer_load(self, *_: Any) -> None:
        self._moments_unknown = True

    @torch.no_grad()
    def _after_load(self) -> None:
        """Mask the weights loaded, but keep them until the next step: the masks they belong to may be loaded later."""
        dead = {name: weight.masked_fill(self._mask(name, weight.device), 0) for name, weight in self.weights.items()}
        self._loaded = {name: self.model.get_parameter(name).clone() for name, values in dead.items() if values.any()}
        self.apply()

    @torch.no_grad()
    def _mask_moments(self) -> None:
        """Zero the optimizer's state of dead weights, whatever the optimizer calls it."""
        self._moments_unknown = False
        if self._optimizer is None:
            return
        for name, weight in self.weights.items():
            for value in self._optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.masked_fill_(~self.masks[name].to(value.device), 0)

    def __getstate__(self) -> dict[str, Any]:
        private = ("_optimizer", "_handles", "_watched", "_moments_unknown", "_loaded", "dense_gradients")
        return {key: value for key, value in self.__dict__.items() if key not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, dense_gradients=None)
        self._forget()
        self.model.register_load_state_dict_post_hook(_Remask(self))

    def __str__(self) -> str:
        """The table: layer, shape, pattern, asked, measured."""
        from rich.console import Console
        from rich.table import Table

        table = Table("layer", "shape", "pattern", "asked", "measured")
        for layer in self.layers:
            shape = " × ".join(map(str, layer.shape))
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
            masking._after_load()

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
    in steps of equal ratio, as SynFlow needs. Random scores come from `generator`, a CPU generator.

    Raises `InputError` for a sparsity outside [0, 1), a glob or a name that matches nothing, a pattern that cannot
    have that sparsity or does not fit a layer, and a model with nothing to mask.
    """
    pattern = Unstructured() if pattern is None else pattern
    if not isinstance(pattern, Pattern):
        raise InputError(f"pattern is {pattern!r}; pass a pattern object such as gossamer.Block(4, 1).")
    if pattern.density is not None and isinstance(distribution, Mapping):
        raise InputError(f"{pattern} has one sparsity only, not one per layer; exclude the layers that stay dense.")
    layers = find_layers(model, None if include is None else tuple(include), tuple(exclude), pattern)
    masked = [layer for layer in layers if not layer.kept_dense]
    if not masked:
        raise InputError("no layer of the model can be sparse; include=('*',) takes what is kept dense by default.")
    for layer in masked:
        try:
            pattern.check(layer.shape)
        except InputError as error:
            raise InputError(f"{layer.parameter}: {error}") from None
    masks = {
        layer.parameter: torch.ones_like(model.get_parameter(layer.parameter), dtype=torch.bool) for layer in masked
    }
    masking = Masking(model, layers, masks, pattern, find_distribution(distribution))
    criterion = find_score(score)
    rounds = criterion.iterations if pattern.density is None else 1
    for k in range(1, rounds + 1):
        masking.prune(criterion, sparsity if k == rounds else 1 - (1 - sparsity) ** (k / rounds), generator)
    return masking
