"""SET and RigL by what a weight's input does beyond the bias: for inputs many of which are always 0 or always 1."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.masking import Masking
from gossamer_rl.onehot import OneHotLinear


class CentredSET(gs.SET):
    """SET (Mocanu et al. 2018) that drops the weights of least |w| σ in place of |w|, σ the deviation of the input.

    A view's one-hot inputs are 1 in almost every observation, or in none; what a weight on them does, the bias does as
    well, or nothing does. By |w| these weights live on, for nothing moves them. It is the score of Sun et al. 2024 for
    inputs less their mean. `network` has the masked layers; their inputs are looked at in the step before an update. σ²
    falls by a tenth an update at most, so that what is seen seldom is not forgotten at once.
    """

    def __init__(self, masking: Masking, network: nn.Module, **options: Any) -> None:
        self.layers = {name: network.get_submodule(name.rpartition(".")[0]) for name in masking.parts}
        self.moments: dict[str, list[Tensor]] = {}
        self.variances: dict[str, Tensor] = {}
        self.handles: list[Any] = []
        super().__init__(masking, **options)

    def _collect(self) -> None:
        """Look at the inputs, too, in the step before an update, and only there."""
        super()._collect()
        while self.handles:
            self.handles.pop().remove()
        if self.due(self.seen + 1):
            self.look()

    def look(self) -> None:
        """Look at the inputs of the step that begins."""
        self.moments = {name: [] for name in self.layers}
        for name, layer in self.layers.items():
            self.handles.append(layer.register_forward_pre_hook(functools.partial(self._take, name)))

    def _take(self, name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Keep the means of a layer's inputs and of their squares, of each call in the step."""
        if torch.is_grad_enabled():
            x = layer.one_hot(inputs[0]) if isinstance(layer, OneHotLinear) else inputs[0].detach()
            x = x.flatten(0, -2)
            self.moments[name].append(torch.stack([x.mean(0), x.square().mean(0)]))

    def drop_scores(self, name: str) -> Tensor:
        """|w| σ."""
        mean, square = torch.stack(self.moments[name]).mean(0)
        now = (square - mean.square()).clamp(min=0)
        self.variances[name] = torch.maximum(now, 0.9 * self.variances.get(name, now))
        return super().drop_scores(name) * self.variances[name].sqrt()

    def state_dict(self) -> dict[str, Any]:
        """With the variances."""
        return {**super().state_dict(), "variances": dict(self.variances)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """With the variances."""
        super().load_state_dict(state)
        self.variances = dict(state["variances"])


class CentredRigL(CentredSET, gs.RigL):
    """That, and RigL (Evci et al. 2020) by |Σ δ (x − x̄)ᵀ| in place of |Σ δ xᵀ|, δ the gradients of a layer's outputs.

    By the gradient itself all of the inputs that are almost always 1 and that a unit lacks grow at once, for the one
    reason that its bias would move; they are the bias many times over. The difference is x̄ times the bias's gradient:
    each masked layer has a bias.
    """

    def __init__(self, masking: Masking, network: nn.Module, **options: Any) -> None:
        self.biases: dict[str, Tensor] = {}
        super().__init__(masking, network, **options)

    def look(self) -> None:
        """At the biases' gradients too."""
        super().look()
        for name, layer in self.layers.items():
            self.handles.append(layer.get_parameter("bias").register_hook(functools.partial(self._note, name)))

    def _note(self, name: str, gradient: Tensor) -> None:
        """Keep the bias's gradient, before it is clipped."""
        self.biases[name] = gradient.clone()

    def grow_scores(self, name: str) -> Tensor:
        """|g − g_bias x̄ᵀ|."""
        mean = torch.stack(self.moments[name]).mean(0)[0]
        return (self.gradient(name) - torch.outer(self.biases[name], mean)).abs()
