"""Scores: what a weight is worth. The higher the score, the longer the weight lives.

A score takes the weights by name and gives a tensor of the same shape for each. Those that need data are objects that
carry it; they run `model` in evaluation mode, leave its parameters and buffers as they were, and average over batches.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gossamer.errors import InputError

Weights = Mapping[str, Tensor]
Loss = Callable[[nn.Module, Any], Tensor]


class Score:
    """What every score offers; `iterations` is how many times pruning re-scores on the way to its sparsity."""

    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The scores of `weights`, which are parameters of `model`, by name."""
        raise NotImplementedError


class Random(Score):
    """U(0, 1): random pruning, and static random sparsity when it comes before training (Liu et al. 2022)."""

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Random numbers drawn on the CPU in the order of the weights, so that a seed means the same everywhere."""
        return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}


class Magnitude(Score):
    """|w| (Han et al. 2015)."""

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The weights' absolute values."""
        return {name: w.detach().abs() for name, w in weights.items()}


@contextmanager
def evaluating(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Evaluation mode with gradients on, also for frozen `weights`; modes and frozen weights restored at the end."""
    modes = {module: module.training for module in model.modules()}
    frozen = [w for w in weights.values() if not w.requires_grad]
    try:
        model.eval()
        for w in frozen:
            w.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for w in frozen:
            w.requires_grad_(False)
        for module, mode in modes.items():
            module.training = mode


def gradients(loss: Tensor, weights: Weights, create_graph: bool = False) -> dict[str, Tensor]:
    """The gradients of `loss`, by name; raise `InputError` naming a weight that the loss does not depend on."""
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
    for name, gradient in zip(weights, found, strict=True):
        if gradient is None:
            raise InputError(f"the loss does not depend on {name}; exclude its layer or use it in the loss.")
    return dict(zip(weights, found, strict=True))


def examples(batch: Any) -> list[Any]:
    """The batch as batches of one example: tensors cut along their first dimension, also inside tuples and dicts."""
    if isinstance(batch, Tensor):
        return list(batch.split(1))
    if isinstance(batch, Mapping):
        parts = zip(*map(examples, batch.values()), strict=True)
        return [dict(zip(batch, part, strict=True)) for part in parts]
    if isinstance(batch, list | tuple):
        return list(zip(*map(examples, batch), strict=True))
    raise InputError(f"a batch holds a {type(batch).__name__}; pass tensors, or tuples, lists and dicts of them.")


def finite(scores: dict[str, Tensor], score: str) -> dict[str, Tensor]:
    """The scores, or an `InputError` that names the first layer that has NaN or infinity among them."""
    for name, values in scores.items():
        if not values.isfinite().all():
            raise InputError(
                f"{score} gives scores of {name} that are not finite; look for NaN in the batches or weights."
            )
    return scores


@dataclass(frozen=True)
class FromGradients(Score):
    """A score made of a weight w and the gradients g of `loss(model, batch)` over `batches`; iterated where asked.

    Raises `InputError` where there are no batches, a loss that does not depend on a weight, or a score not finite.
    """

    batches: Iterable[Any]
    loss: Loss
    iterations: int = 1

    def pieces(self) -> Iterable[Any]:
        """What one gradient is taken of: a batch."""
        return self.batches

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """One piece's share of the score; shapes as the weight."""
        raise NotImplementedError

    def finish(self, mean: Tensor) -> Tensor:
        """The score of the mean over the pieces."""
        return mean

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The mean of `worth` over the batches."""
        sums = {name: torch.zeros_like(w) for name, w in weights.items()}
        count = 0
        with evaluating(model, weights):
            for batch in self.pieces():
                for name, g in gradients(self.loss(model, batch), weights).items():
                    sums[name] += self.worth(weights[name].detach(), g)
                count += 1
        if not count:
            raise InputError(
                f"{type(self).__name__} got no batches; pass a list of them (a used-up iterator is empty)."
            )
        return finite({name: self.finish(s / count) for name, s in sums.items()}, type(self).__name__)


class SNIP(FromGradients):
    """|w · g|, g the mean gradient: connection sensitivity (Lee et al. 2019)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """w · g."""
        return w * g

    def finish(self, mean: Tensor) -> Tensor:
        """Its absolute value."""
        return mean.abs()


class Taylor(FromGradients):
    """Mean of (w · g)² over batches, g a batch's gradient: first-order Taylor importance (Molchanov et al. 2019)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """(w · g)²."""
        return (w * g).square()


class Fisher(FromGradients):
    """½ w² · mean of g² over examples: the empirical Fisher's estimate of the loss added (Theis et al. 2018).

    The gradient g is one example's, so every batch is cut into its examples: tensors along their first dimension, also
    those inside tuples, lists and dicts.
    """

    def pieces(self) -> Iterable[Any]:
        """The single examples."""
        return (example for batch in self.batches for example in examples(batch))

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """½ w² g²."""
        return (w * g).square() / 2


class Movement(FromGradients):
    """Mean of −w · g: weights that move away from zero are kept (Sanh et al. 2020)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """−w · g."""
        return -w * g


@dataclass(frozen=True)
class GraSP(Score):
    """w · (H g), what the weight's removal would take from the gradient's norm (Wang et al. 2020).

    The paper removes the highest of −w · Hg; the score, whose highest are kept, is the negative of that.
    """

    batches: Iterable[Any]
    loss: Loss
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """w · Hg, where g is the gradient of the loss over all batches and H its Hessian."""
        batches = list(self.batches)
        if not batches:
            raise InputError("GraSP got no batches; pass a list of them (a used-up iterator is empty).")
        with evaluating(model, weights), sdpa_kernel(SDPBackend.MATH):  # the fast kernels have no second derivative
            mean = {name: torch.zeros_like(w) for name, w in weights.items()}
            products = {name: torch.zeros_like(w) for name, w in weights.items()}
            for batch in batches:
                for name, g in gradients(self.loss(model, batch), weights).items():
                    mean[name] += g / len(batches)
            for batch in batches:
                g = gradients(self.loss(model, batch), weights, create_graph=True)
                inner = torch.stack([(g[name] * mean[name]).sum() for name in weights]).sum()
                for name, hg in gradients(inner, weights).items():
                    products[name] += hg / len(batches)
        scores = {name: w.detach() * products[name] for name, w in weights.items()}
        return finite(scores, "GraSP")


@dataclass(frozen=True)
class SynFlow(Score):
    """w · ∂R/∂w, R the sum of the outputs of the network of |weights| on an input of ones (Tanaka et al. 2020).

    `example`, a batch of floats of which one is used, gives the input's shape. No data; iterated, or else whole layers
    die. The paper compares over all layers: distribution="global".
    """

    example: Tensor
    iterations: int = 100

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Synaptic flow of each weight, in float64 so that deep networks do not overflow."""
        state = {  # with duplicates: a tied weight has several names, and may be known here by any
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        asked = {id(w) for w in weights.values()}
        twins = {
            id(t): t.detach().abs().double().requires_grad_(id(t) in asked) if t.is_floating_point() else t
            for t in state.values()
        }
        linear = {name: twins[id(t)] for name, t in state.items()}
        ones = torch.ones_like(self.example[:1], dtype=torch.float64)
        with evaluating(model, weights):
            flow = torch.func.functional_call(model, linear, (ones,)).sum()
            slopes = gradients(flow, {name: linear[name] for name in weights})
        scores = {name: linear[name].detach() * slopes[name] for name in weights}
        return finite(scores, "SynFlow")


@dataclass(frozen=True)
class Wanda(Score):
    """|w| · ‖x‖₂, x what the weight's input channel sees over the batches (Sun et al. 2024).

    Each batch is what `model` takes. For layers called as modules (Linear and convolutions); the paper compares within
    a row, at the same sparsity in every layer: pattern=FanIn(), distribution="uniform".
    """

    batches: Iterable[Any]
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """|w| times the root of its input channel's summed squares."""
        energy: dict[str, Tensor] = {}
        owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in weights}
        for name, owner in owners.items():
            if not isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                raise InputError(f"Wanda knows no inputs of {name} in a {type(owner).__name__}: exclude it.")

        def watch(name: str, axis: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                squares = inputs[0].detach().float().square().movedim(axis, 0).flatten(1).sum(1)
                energy[name] = energy.get(name, 0) + squares

            return hook

        axes = {name: 1 - w.dim() for name, w in weights.items()}  # the channels: last for Linear, before the kernel
        handles = [owner.register_forward_pre_hook(watch(name, axes[name])) for name, owner in owners.items()]
        try:
            with evaluating(model, {}), torch.no_grad():
                for batch in self.batches:
                    model(batch)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in weights if name not in energy]
        if missing:
            raise InputError(f"Wanda saw no input of {missing[0]}: pass batches that reach the layer, or exclude it.")
        scores = {name: w.detach().abs() * self._norm(owners[name], w, energy[name]) for name, w in weights.items()}
        return finite(scores, "Wanda")

    @staticmethod
    def _norm(owner: nn.Module, w: Tensor, energy: Tensor) -> Tensor:
        """The input norms in the weight's shape; a grouped convolution's rows see their own group's channels."""
        groups = getattr(owner, "groups", 1)
        norms = energy.sqrt().reshape(groups, 1, -1).expand(groups, len(w) // groups, -1)
        return norms.reshape(len(w), -1, *[1] * (w.dim() - 2))


SCORES: dict[str, Score] = {"magnitude": Magnitude(), "random": Random()}


def score(name: str | Score) -> Score:
    """The score of that name, or the object itself."""
    if not isinstance(name, str):
        if isinstance(name, type) or not hasattr(name, "iterations"):
            raise InputError(f"score is {name!r}; pass a name, or a score object such as gossamer.SNIP(batches, loss).")
        return name
    if name not in SCORES:
        raise InputError(
            f"score is {name!r}; choose 'magnitude' or 'random', or pass one that carries data: SNIP(batches, loss)."
        )
    return SCORES[name]
