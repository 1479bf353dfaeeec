"""RigL that grows a weight for what its input does beyond the bias."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.masking import Masking
from gossamer_rl.onehot import OneHotLinear


class CentredRigL(gs.RigL):
    """RigL (Evci et al. 2020) by |Σ δ (x − x̄)ᵀ| in place of |Σ δ xᵀ|, δ the gradients of a layer's outputs.

    Of a view's one-hot inputs some are 1 in almost every observation. By the gradient itself all of those that a unit
    lacks grow at once, for the one reason that its bias would move; they are the bias many times over. The difference
    is x̄ times the bias's gradient. `network` has the masked layers, each with a bias.
    """

    def __init__(self, masking: Masking, network: nn.Module, **options: Any) -> None:
        self.layers = {name: network.get_submodule(name.rpartition(".")[0]) for name in masking.parts}
        self.means: dict[str, list[Tensor]] = {}
        self.biases: dict[str, Tensor] = {}
        self.handles: list[Any] = []
        super().__init__(masking, **options)

    def _collect(self) -> None:
        """Look at inputs and biases too in the step before an update, and only there."""
        super()._collect()
        while self.handles:
            self.handles.pop().remove()
        if not self.collects(self.seen + 1):
            return
        self.means, self.biases = {name: [] for name in self.layers}, {}
        for name, layer in self.layers.items():
            self.handles.append(layer.register_forward_pre_hook(functools.partial(self._look, name)))
            self.handles.append(layer.get_parameter("bias").register_hook(functools.partial(self._note, name)))

    def _look(self, name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Keep the mean of a layer's inputs, of each call in the step."""
        if torch.is_grad_enabled():
            x = layer.one_hot(inputs[0]) if isinstance(layer, OneHotLinear) else inputs[0].detach()
            self.means[name].append(x.flatten(0, -2).mean(0))

    def _note(self, name: str, gradient: Tensor) -> None:
        """Keep the bias's gradient, before it is clipped."""
        self.biases[name] = gradient.clone()

    def grow_scores(self, name: str) -> Tensor:
        """|g − g_bias x̄ᵀ|."""
        return (self.gradient(name) - torch.outer(self.biases[name], torch.stack(self.means[name]).mean(0))).abs()
