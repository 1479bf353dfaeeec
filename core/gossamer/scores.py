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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients on, every module's mode restored at the end."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


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
    """A score made of a weight w and the gradients g of `loss(model, batch)` over `batches`; iterated where asked."""

    batches: Iterable[Any]
    loss: Loss
    iterations: int = 1

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """One batch's share of the score; shapes as the weight."""
        raise NotImplementedError

    def finish(self, mean: Tensor) -> Tensor:
        """The score of the mean over the batches."""
        return mean

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The mean of `worth` over the batches."""
        sums = {name: torch.zeros_like(w) for name, w in weights.items()}
        count = 0
        with evaluating(model):
            for batch in self.batches:
                gradients = torch.autograd.grad(self.loss(model, batch), list(weights.values()))
                for (name, w), g in zip(weights.items(), gradients, strict=True):
                    sums[name] += self.worth(w.detach(), g)
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
    """Mean of (w · g)² over batches: first-order Taylor importance (Molchanov et al. 2019)."""

    def worth(self, w: Tensor, g: Tensor) -> Tensor:
        """(w · g)²."""
        return (w * g).square()


class Fisher(FromGradients):
    """½ w² · mean of g²: the empirical Fisher's estimate of the loss that pruning adds (Theis et al. 2018)."""

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
    """−w · (H g): keeps the weights whose removal would most reduce the gradient's norm (Wang et al. 2020).

    The paper removes the highest of −w · Hg; so the score, which keeps the highest, is its negative, w · Hg.
    """

    batches: Iterable[Any]
    loss: Loss
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """w · Hg, where g is the gradient of the loss over all batches and H its Hessian."""
        batches = list(self.batches)
        if not batches:
            raise InputError("GraSP got no batches; pass a list of them (a used-up iterator is empty).")
        parameters = list(weights.values())
        with evaluating(model):
            mean = [torch.zeros_like(w) for w in parameters]
            for batch in batches:
                gradients = torch.autograd.grad(self.loss(model, batch), parameters)
                mean = [m + g / len(batches) for m, g in zip(mean, gradients, strict=True)]
            products = [torch.zeros_like(w) for w in parameters]
            for batch in batches:
                gradients = torch.autograd.grad(self.loss(model, batch), parameters, create_graph=True)
                inner = torch.stack([(g * m).sum() for g, m in zip(gradients, mean, strict=True)]).sum()
                hessian = torch.autograd.grad(inner, parameters)
                products = [p + h / len(batches) for p, h in zip(products, hessian, strict=True)]
        scores = {name: w.detach() * p for (name, w), p in zip(weights.items(), products, strict=True)}
        return finite(scores, "GraSP")


@dataclass(frozen=True)
class SynFlow(Score):
    """w · ∂R/∂w, R the sum of the outputs of the network of |weights| on an input of ones (Tanaka et al. 2020).

    `example` gives the input's shape. No data; iterated, or else whole layers die.
    """

    example: Tensor
    iterations: int = 100

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Synaptic flow of each weight, in float64 so that deep networks do not overflow."""
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        linear = {
            name: t.detach().abs().double().requires_grad_(name in weights) if t.is_floating_point() else t
            for name, t in state.items()
        }
        ones = torch.ones_like(self.example[:1], dtype=torch.float64)
        with evaluating(model):
            flow = torch.func.functional_call(model, linear, (ones,)).sum()
            gradients = torch.autograd.grad(flow, [linear[name] for name in weights])
        scores = {name: linear[name].detach() * g for name, g in zip(weights, gradients, strict=True)}
        return finite(scores, "SynFlow")


@dataclass(frozen=True)
class Wanda(Score):
    """|w| · ‖x‖₂, x what the weight's input channel sees over the batches (Sun et al. 2024).

    Each batch is what `model` takes. For layers called as modules (Linear and convolutions); compare within a row by `FanIn`, as the paper does.
    """

    batches: Iterable[Any]
    iterations: int = 1

    def __call__(self, model: nn.Module, weights: Weights, generator: torch.Generator | None) -> dict[str, Tensor]:
        """|w| times the root of its input channel's summed squares."""
        energy: dict[str, Tensor] = {}
        owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in weights}

        def watch(name: str, module: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                x = inputs[0].detach()
                axis = -1 if isinstance(module, nn.Linear) else 1
                squares = x.float().square().movedim(axis, 0).flatten(1).sum(1)
                energy[name] = energy.get(name, torch.zeros_like(squares)) + squares

            return hook

        handles = [owner.register_forward_pre_hook(watch(name, owner)) for name, owner in owners.items()]
        try:
            with evaluating(model), torch.no_grad():
                for batch in self.batches:
                    model(batch)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in weights if name not in energy]
        if missing:
            raise InputError(f"Wanda saw no input of {missing[0]}: pass batches that reach the layer, or exclude it.")
        return {name: w.detach().abs() * self._norm(owners[name], w, energy[name]) for name, w in weights.items()}

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
        return name
    if name not in SCORES:
        raise InputError(
            f"score is {name!r}; choose 'magnitude' or 'random', or pass one that carries data: SNIP(batches, loss)."
        )
    return SCORES[name]
