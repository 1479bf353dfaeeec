"""Masking: the masks of a model, and everything that keeps them true while it trains."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.attachment import Attachment, Remask, unwrapped
from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError, check_sparsity, of_type, whole
from gossamer.layers import Layer, refuse_undefined
from gossamer.patterns import Pattern, check_pattern
from gossamer.processes import of_first_rank
from gossamer.scores import Score, check_generator
from gossamer.scores import score as find_score
from gossamer.scores.score import fitting
from gossamer.summary import left_dense, shown, table
from gossamer.weights import Masked, Stored, stores_sparsely


class Masking(Mapping[str, Tensor]):
    """The masks of a model by parameter name, kept true by `attach`, reported by `print`.

    Made by `sparsify`. It is a mapping as `masks` is, so that it serves wherever masks are asked for. `masks` maps
    parameter names to boolean tensors (True is alive); `counts` is what was asked of each. The model stays an ordinary
    module: its state dict and its class do not change.
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
        self._layers = {layer.parameter: layer for layer in layers}
        self.counts = {name: int(part.mask.count_nonzero()) for name, part in self.parts.items()}
        self.steps = 0
        self._attachment: Attachment | None = None
        model.register_load_state_dict_post_hook(Remask(self))

    def __getitem__(self, name: str) -> Tensor:
        return self.masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.masked)

    def __len__(self) -> int:
        return len(self.masked)

    def __bool__(self) -> bool:
        return True

    __eq__ = object.__eq__
    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

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
    def model_sparsity(self) -> float:
        """The share of all the model's weights, biases and the rest that the masks take away, in [0, 1)."""
        stored = {id(part.parameter) for part in self.parts.values() if isinstance(part, Stored)}
        dense = sum(p.numel() for p in self.model.parameters() if id(p) not in stored)
        whole = dense + sum(part.mask.numel() for part in self.parts.values() if isinstance(part, Stored))
        return sum(part.mask.numel() - int(part.mask.count_nonzero()) for part in self.parts.values()) / whole

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The masked parameters by name, as the model holds them now."""
        return {name: part.parameter for name, part in self.masked.items()}

    @property
    def attached(self) -> bool:
        """Whether an optimizer and the gradients of the model's present parameters are being watched."""
        return self._attachment is not None and self._attachment.holds

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer that the masking is attached to."""
        return self._attachment and self._attachment.optimizer

    def apply(self, model: nn.Module | None = None) -> None:
        """Zero the dead weights of the model, or of a copy of it such as an averaged one (EMA, SWA).

        Raises `InputError` for a model that lacks a masked layer, such as an `AveragedModel` around the copy.
        """
        of_type((nn.Module, type(None)), "a copy of the masked model", model=model)
        for name, part in self.parts.items():
            try:
                part.apply(model)
            except AttributeError:
                raise InputError(f"the model has no {name}; pass the copy itself (`average.module`).") from None

    def attach(self, optimizer: torch.optim.Optimizer) -> "Masking":
        """Keep gradients, weights and the optimizer's moments masked from now on; return the masking itself.

        Gradients are masked as they arrive, so that clipping sees the sparse network's norm; weights are masked again
        after every step of the optimizer. Attaching again, after a copy or with a new optimizer, replaces the first.
        Frozen parameters are watched too, in case they thaw; the optimizer need not hold them. Raises `InputError` for
        an optimizer of another model.
        """
        optimizer = unwrapped(optimizer, self.model, self.parts)
        self.detach()
        self._attachment = Attachment(self.parts, optimizer, self._stepped)
        return self

    def _stepped(self) -> None:
        self.steps += 1

    def detach(self) -> None:
        """Stop watching; the masks and weights stay as they are."""
        if self._attachment:
            self._attachment.remove()
        self._attachment = None

    def to(self, model: nn.Module) -> "Masking":
        """The same masks over a copy of the model; attach it in its turn, since deepcopy drops parameter hooks."""
        of_type(nn.Module, "a copy of the masked model", model=model)
        try:
            twin = Masking(model, self.layers, self.pattern, self.distribution)
        except AttributeError as error:
            raise InputError(f"the model is no copy of the masked one: {error}") from error
        twin.update({name: part.mask for name, part in self.parts.items()}, self.counts)
        twin.steps = self.steps
        return twin

    def update(self, masks: Mapping[str, Tensor], counts: Mapping[str, int] | None = None) -> None:
        """Move to new masks: what dies becomes zero, its moments too; what wakes starts at zero with fresh moments.

        In several processes all get those of rank 0. Weights that `load_state_dict` brought since the last step are
        masked by these masks alone, so that a model and its masks may be restored in either order. `counts` is what was
        asked of each parameter, where the masks hold only the nearest to it; without it they are what was asked.
        """
        of_type(Mapping, "a mapping of parameter names to masks", masks=masks)
        of_type((Mapping, type(None)), "a mapping of parameter names to numbers", counts=counts)
        masks = {name if name in self.parts else self._own(name): mask for name, mask in masks.items()}
        for name, mask in masks.items():
            of_type(Tensor, "a boolean tensor", **{f"the mask of {name}": mask})
            if name not in self.parts or mask.shape != self.parts[name].mask.shape:
                raise InputError(
                    f"a mask named {name!r} of shape {tuple(mask.shape)} fits none of the masked parameters."
                )
            refuse_undefined(self.model, self._layers[name], mask)
        if self._attachment:
            self._attachment.moments_unknown = False
        for name, mask in masks.items():
            part = self.parts[name]
            state = self._attachment.state_of(part.parameter) if self._attachment else {}
            part.move(of_first_rank(mask.to(part.parameter.device)), state)
        self.counts |= counts or {name: int(self.parts[name].mask.count_nonzero()) for name in masks}

    def _own(self, name: str) -> str:
        """The name that a masked parameter goes by here; tied parameters have several."""
        known = dict(self.model.named_parameters(remove_duplicate=False))
        return next((own for own, part in self.masked.items() if part.parameter is known.get(name)), name)

    def prune(
        self,
        score: str | Score,
        sparsity: float,
        generator: torch.Generator | None = None,
        distribution: str | Mapping[str, float] | Distribution | None = None,
    ) -> None:
        """Keep the best-scored of the weights that are alive, so that the whole has `sparsity`; the dead stay dead.

        Random pruning after training is `prune("random", 0.9, generator)`. `distribution` is the masking's own where it
        is None. Raises `InputError` for a sparsity outside [0, 1), below the present one, or not the pattern's own.
        """
        check_sparsity(sparsity)
        check_pattern(self.pattern, sparsity)
        check_generator(generator)
        density = self.pattern.density
        criterion, start = find_score(score), 1 - self.sparsity
        whole(1, **{"iterations of the score": criterion.iterations})
        rounds = criterion.iterations if density is None else 1
        for k in range(1, rounds + 1):
            now = sparsity if k == rounds else 1 - start * ((1 - sparsity) / start) ** (k / rounds)
            found = criterion(self.model, self.weights, generator)
            scores = self.alive(fitting(found, self.weights, type(criterion).__name__))
            self._prune(scores, now, self.distribute(now, scores, distribution))

    def _prune(self, scores: Mapping[str, Tensor], sparsity: float, counts: dict[str, int]) -> None:
        """One round of `prune`."""
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
                masks[name] = self.fitted(name, score, counts[name]) & self.parts[name].mask
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        self.update(masks, counts)

    def layer(self, name: str) -> Layer:
        """What is known of a masked parameter."""
        return self._layers[name]

    def fitted(self, name: str, scores: Tensor, count: int) -> Tensor:
        """The pattern's mask of the `count` best-scored weights of a layer; both of the weight's shape."""
        turned = self._layers[name].turned
        return turned(self.pattern.mask(turned(scores), count))

    def survivors(self, name: str, scores: Tensor, count: int) -> Tensor:
        """The mask of the `count` weights of a layer that outlive a drop, by the pattern."""
        turned = self._layers[name].turned
        return turned(self.pattern.survivors(turned(scores), count))

    def alive(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores with −inf for dead weights."""
        return {name: torch.where(self.parts[name].mask.to(s.device), s, -torch.inf) for name, s in scores.items()}

    def distribute(
        self,
        sparsity: float,
        scores: Mapping[str, Tensor],
        distribution: str | Mapping[str, float] | Distribution | None = None,
    ) -> dict[str, int]:
        """How many weights each layer keeps for a sparsity of those scored; a pattern of one density has the say.

        `distribution` is the masking's own where it is None.
        """
        if self.pattern.density is not None:
            return self.counts | {name: round(self.pattern.density * s.numel()) for name, s in scores.items()}
        shares_out = self.distribution if distribution is None else find_distribution(distribution)
        seen = {name: self._layers[name].turned(score) for name, score in scores.items()}
        return self.counts | (shares_out(seen, sparsity) if seen else {})

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
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise InputError("the state is not that of a masking; pass what its state_dict() returned.")
        if set(state["counts"]) != set(self.counts):
            odd = sorted(set(state["counts"]) ^ set(self.counts))[0]
            raise InputError(
                f"the saved masks and this model differ in {odd!r}; sparsify the model with the same options first."
            )
        self.update(state["masks"], state["counts"])
        self.steps = state["steps"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_attachment": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.model.register_load_state_dict_post_hook(Remask(self))

    def __str__(self) -> str:
        """The table: layer, shape, pattern, asked, measured; below it, what is zero of all and what stays dense."""
        rows = table(self.layers, self.pattern, self.counts, {name: part.mask for name, part in self.parts.items()})
        attached = "" if self.attached else "; not attached: training will fill the zeros (call attach(optimizer))"
        foot = [
            f"sparsity {self.sparsity:.2%} of the masked weights{attached}",
            f"{self.model_sparsity:.2%} of the whole model is zero by the masks",
            *left_dense(self.model, self.layers),
        ]
        rows.caption = "\n".join(foot)
        return shown(rows)
