"""Masking: the masks of a model, and everything that keeps them true while it trains."""

import io
import math
import weakref
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError
from gossamer.layers import Layer, find_layers, table
from gossamer.patterns import Pattern, Unstructured
from gossamer.processes import of_first_rank
from gossamer.scores import Score
from gossamer.scores import score as find_score
from gossamer.weights import Masked, Stored, moments, stores_sparsely


class Masking:
    """The masks of a model by parameter name, kept true by `attach`, reported by `print`.

    Made by `sparsify`. `masks` maps parameter names to boolean tensors (True is alive); `counts` is what was asked of
    each. The model stays an ordinary module: its state dict and its class do not change.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], pattern: Pattern, distribution: Distribution) -> None:
        self.model = model
        self.layers = layers
        self.pattern = pattern
        self.distribution = distribution
        self.parts: dict[str, Masked | Stored] = {}
        for layer in layers:
            if not layer.kept_dense:
                kind = Stored if stores_sparsely(model.get_submodule(layer.module)) else Masked
                self.parts[layer.parameter] = kind(model, layer.parameter)
        self.counts = {name: int(part.mask.count_nonzero()) for name, part in self.parts.items()}
        self.steps = 0
        self._forget()
        model.register_load_state_dict_post_hook(_Remask(self))

    def _forget(self) -> None:
        """Be attached to nothing."""
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []
        self._watched: dict[str, nn.Parameter] = {}
        self._moments_unknown = False

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by parameter name: boolean tensors, true where a weight is alive; `update` moves them.

        Layers of sparse storage have theirs themselves (`layer.mask`).
        """
        return {name: part.mask for name, part in self.masked.items()}

    @property
    def masked(self) -> dict[str, Masked]:
        """The dense parameters under masks, by name: those whose number of weights can change."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Masked)}

    @property
    def sparsity(self) -> float:
        """The share of the masked layers' weights that are dead, in [0, 1); a regrown weight at zero is alive."""
        masks = [part.mask for part in self.parts.values()]
        return 1 - sum(int(m.count_nonzero()) for m in masks) / sum(m.numel() for m in masks)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The masked parameters by name, as the model holds them now."""
        return {name: part.parameter for name, part in self.masked.items()}

    @property
    def attached(self) -> bool:
        """Whether an optimizer and the gradients of the model's present parameters are being watched."""
        return bool(self._handles) and all(self._watched[name] is p.parameter for name, p in self.parts.items())

    def apply(self, model: nn.Module | None = None) -> None:
        """Zero the dead weights of the model, or of a copy of it such as an averaged one (EMA, SWA).

        Raises `InputError` for a model that lacks a masked layer, such as an `AveragedModel` around the copy.
        """
        for name, part in self.parts.items():
            try:
                part.apply(model)
            except AttributeError:
                raise InputError(f"the model has no {name}; pass the copy itself (`average.module`).") from None

    def attach(self, optimizer: torch.optim.Optimizer) -> "Masking":
        """Keep gradients, weights and the optimizer's moments masked from now on; return the masking itself.

        Gradients are masked as they arrive, so that clipping sees the sparse network's norm; weights are masked again
        after every step of the optimizer. Attaching again, after a copy or with a new optimizer, replaces the first.
        Frozen parameters are watched too, in case they thaw. Raises `InputError` for an optimizer of another model.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)  # what Fabric and Accelerate wrap
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        watched = {name: part.parameter for name, part in self.parts.items()}
        if not any(id(parameter) in own for parameter in watched.values()):
            raise InputError(
                "the optimizer holds none of the masked parameters; build it on masking.model.parameters()."
            )
        missing = [name for name, p in watched.items() if p.requires_grad and id(p) not in own]
        if missing:
            raise InputError(
                f"the optimizer does not hold {missing[0]}, which is masked: give one optimizer all masked parameters, "
                "exclude the layer, or freeze it (requires_grad_(False))."
            )
        self.detach()
        self._optimizer, self._watched, self._moments_unknown = optimizer, watched, True
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_post_hook(self._after_optimizer_load),
            *(handle for part in self.parts.values() for handle in part.watch()),
        ]
        for part in self.parts.values():
            part.adopt(of_first_rank(part.mask))
            part.apply()
        return self

    def detach(self) -> None:
        """Stop watching; the masks and weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._forget()

    def to(self, model: nn.Module) -> "Masking":
        """The same masks over a copy of the model; attach it in its turn, since deepcopy drops parameter hooks."""
        twin = Masking(model, self.layers, self.pattern, self.distribution)
        twin.update({name: part.mask for name, part in self.parts.items()}, self.counts)
        twin.steps = self.steps
        return twin

    def update(self, masks: Mapping[str, Tensor], counts: Mapping[str, int] | None = None) -> None:
        """Move to new masks: what dies becomes zero, its moments too; what wakes starts at zero with fresh moments.

        In several processes all get those of rank 0. Weights that `load_state_dict` brought since the last step are
        masked by these masks alone, so that a model and its masks may be restored in either order. `counts` is what was
        asked of each parameter, where the masks hold only the nearest to it; without it they are what was asked.
        """
        masks = {name if name in self.parts else self._own(name): mask for name, mask in masks.items()}
        for name, mask in masks.items():
            if name not in self.parts or mask.shape != self.parts[name].mask.shape:
                raise InputError(
                    f"a mask named {name!r} of shape {tuple(mask.shape)} fits none of the masked parameters."
                )
        self._moments_unknown = False
        for name, mask in masks.items():
            part = self.parts[name]
            state = self._optimizer.state.get(part.parameter, {}) if self._optimizer else {}
            part.move(of_first_rank(mask.to(part.parameter.device)), state)
        self.counts |= counts or {name: int(self.parts[name].mask.count_nonzero()) for name in masks}

    def _own(self, name: str) -> str:
        """The name that a masked parameter goes by here; tied parameters have several."""
        known = dict(self.model.named_parameters(remove_duplicate=False))
        return next((own for own, part in self.masked.items() if part.parameter is known.get(name)), name)

    def prune(self, score: str | Score, sparsity: float, generator: torch.Generator | None = None) -> None:
        """Keep the best-scored of the weights that are alive, so that the whole has `sparsity`; the dead stay dead.

        Random pruning after training is `prune("random", 0.9, generator)`. Raises `InputError` for a sparsity outside
        [0, 1), below the present one, or not the pattern's own.
        """
        check_sparsity(sparsity)
        density = self.pattern.density
        if density is not None and not math.isclose(density, 1 - sparsity, abs_tol=1e-9):
            raise InputError(
                f"{self.pattern} fixes its sparsity at {1 - density:g}, but {sparsity:g} was asked; "
                f"ask for {1 - density:g} or choose another pattern."
            )
        criterion, start = find_score(score), 1 - self.sparsity
        if criterion.iterations < 1:
            raise InputError(f"iterations of the score is {criterion.iterations}; it must be at least 1.")
        rounds = criterion.iterations if density is None else 1
        for k in range(1, rounds + 1):
            now = sparsity if k == rounds else 1 - start * ((1 - sparsity) / start) ** (k / rounds)
            self._prune(criterion, now, generator)

    def _prune(self, criterion: Score, sparsity: float, generator: torch.Generator | None) -> None:
        """One round of `prune`."""
        scores = self.alive(criterion(self.model, self.weights, generator))
        counts = self.distribute(sparsity, scores)
        size, kept = sum(s.numel() for s in scores.values()), sum(counts[name] for name in scores)
        present = sum(self.counts[name] for name in scores)
        if kept == sum(int(self.masks[name].count_nonzero()) for name in scores):
            if round((1 - sparsity) * size) > present:
                raise InputError(
                    f"sparsity is {sparsity}, below the present {1 - present / size:.4g}; pruning only removes."
                )
            return
        masks = {}
        for name, score in scores.items():
            try:
                masks[name] = self.pattern.mask(score, counts[name]) & self.parts[name].mask
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        self.update(masks, counts)

    def alive(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores with −inf for dead weights."""
        return {name: torch.where(self.parts[name].mask.to(s.device), s, -torch.inf) for name, s in scores.items()}

    def distribute(self, sparsity: float, scores: Mapping[str, Tensor]) -> dict[str, int]:
        """How many weights each layer keeps for a sparsity of those scored; a pattern of one density has the say."""
        if self.pattern.density is not None:
            return self.counts | {name: round(self.pattern.density * s.numel()) for name, s in scores.items()}
        return self.counts | (self.distribution(scores, sparsity) if scores else {})

    def collect(self, wanted: bool) -> None:
        """Keep the dense gradients of the step to come, or keep none."""
        for part in self.parts.values():
            part.collect(wanted)

    def state_dict(self) -> dict[str, Any]:
        """Masks, counts and the number of optimizer steps seen; readable by `torch.load(weights_only=True)`.

        Layers of sparse storage keep their topology in the model's state dict.
        """
        return {"masks": self.masks, "counts": dict(self.counts), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the parameters must be the same."""
        if not state or state.keys() != self.state_dict().keys():
            raise InputError("the state is not that of a masking; pass what its state_dict() returned.")
        if set(state["counts"]) != set(self.counts):
            odd = sorted(set(state["counts"]) ^ set(self.counts))[0]
            raise InputError(
                f"the saved masks and this model differ in {odd!r}; sparsify the model with the same options first."
            )
        self.update(state["masks"], state["counts"])
        self.steps = state["steps"]

    def _before_step(self, *_: Any) -> None:
        """Mask moments that came from elsewhere since the last step: their masks may have been loaded after them."""
        if self._moments_unknown and self._optimizer:
            for part in self.masked.values():
                for value in moments(self._optimizer.state.get(part.parameter, {}), part.parameter):
                    part.keep(value)
        self._moments_unknown = False

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # how GradScaler has a fused optimizer skip the step itself
        if overflow is not None and bool(overflow):
            return
        self.steps += 1
        for part in self.parts.values():
            part.stepped()

    def _after_optimizer_load(self, *_: Any) -> None:
        self._moments_unknown = True

    def _after_load(self) -> None:
        for part in self.parts.values():
            part.loaded()

    def __getstate__(self) -> dict[str, Any]:
        private = ("_optimizer", "_handles", "_watched", "_moments_unknown")
        return {key: value for key, value in self.__dict__.items() if key not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()
        self.model.register_load_state_dict_post_hook(_Remask(self))

    def __str__(self) -> str:
        """The table: layer, shape, pattern, asked, measured."""
        from rich.console import Console

        shown = table(self.layers, self.pattern, self.counts, {name: part.mask for name, part in self.parts.items()})
        shown.caption = f"sparsity {self.sparsity:.2%} of the masked weights" + (
            "" if self.attached else "; not attached: training will fill the zeros (call attach(optimizer))"
        )
        text = io.StringIO()
        Console(file=text, width=140).print(shown)
        return text.getvalue()


def check_sparsity(sparsity: float) -> None:
    """Raise `InputError` for what is no sparsity."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity!r}; it must be in [0, 1): 0.9 removes nine weights of ten.")


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

    What can be sparse are the weights of Linear, convolutions, MultiheadAttention and recurrent modules.

    `sparsity` in [0, 1) is the share of the masked layers' weights that go, distributed over the layers by
    `distribution` and chosen by `score` under `pattern`. `include` and `exclude` are globs over module names; without
    `include`, the first convolution and depthwise convolutions stay dense. A score that asks for iterations is pruned
    in steps of equal ratio, as SynFlow needs. Random scores come from `generator`, a CPU generator. Layers of sparse
    storage (`gossamer.nn.SparseLinear`) keep the weights that they store, and `sparsity` concerns the others.

    Raises `InputError` for a sparsity outside [0, 1), a glob or a name that matches nothing, a pattern that cannot
    have that sparsity or does not fit a layer, and a model with nothing to mask.
    """
    pattern = Unstructured() if pattern is None else pattern
    if not isinstance(pattern, Pattern):
        raise InputError(f"pattern is {pattern!r}; pass a pattern object such as gossamer.Block(4, 1).")
    if pattern.density is not None and isinstance(distribution, Mapping):
        raise InputError(f"{pattern} has one sparsity only, not one per layer; exclude the layers that stay dense.")
    included, excluded = ((globs,) if isinstance(globs, str) else globs for globs in (include, exclude))
    layers = find_layers(model, None if included is None else tuple(included), tuple(excluded or ()), pattern)
    masked = [layer for layer in layers if not layer.kept_dense]
    if not masked:
        raise InputError("no layer of the model can be sparse; include=('*',) takes what is kept dense by default.")
    for layer in masked:
        try:
            pattern.check(layer.shape)
        except InputError as error:
            raise InputError(f"{layer.parameter}: {error}") from None
    masking = Masking(model, layers, pattern, find_distribution(distribution))
    masking.prune(score, sparsity, generator)
    return masking
