"""How the weights of an agent move: Adam, clipped gradients, and the masks of a sparse agent."""

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import gossamer as gs
from gossamer.dynamic import Method, last_move
from gossamer.masking import Masking
from gossamer_rl.centred import CentredRigL, CentredSET
from gossamer_rl.config import Config

SPARSE = ("static-random", "set", "rigl", "gmp")


class Descent:
    """The optimizer of a network and, where the configuration's method is a sparse one, its masks and what moves them.

    The run will take `gradients` gradients in all, which says until when the topology moves. A masked layer of density
    d begins with weights 1/√d as large and learns 1/d as fast, so that its outputs begin and move as a dense layer's
    do (SμPar, Dey et al. 2024); the rate follows a density that falls.
    """

    def __init__(
        self, network: nn.Module, config: Config, gradients: int, fabric: Fabric, generator: torch.Generator
    ) -> None:
        self.fabric = fabric
        self.masking: Masking | None = None
        self.method: Method | None = None
        if config.method in SPARSE:
            start = 0.0 if config.method == "gmp" else config.sparsity
            include = None if config.sparse_critic else ("actor.*",)
            self.masking = gs.sparsify(network, start, score="random", include=include, generator=generator)
            for part in self.masking.parts.values():
                part.parameter.data /= float(part.mask.float().mean()) ** 0.5
        self.learning_rate, masked = config.learning_rate, self.masking.weights if self.masking else {}
        others = [p for name, p in network.named_parameters() if name not in masked]
        groups = [{"params": [p]} for p in masked.values()] + [{"params": others}]
        optimizer = torch.optim.Adam(groups, lr=config.learning_rate, eps=1e-5, fused=True)
        self._set_rates(optimizer)
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.network.mark_forward_method("unroll")
        if self.masking:
            self.masking.attach(optimizer)
            self.method = movement(self.masking, network, config, gradients, generator)

    def __call__(self, loss: Tensor) -> None:
        """One step down the loss."""
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()
        if self.method and self.method.step() and self.method.changes_counts:
            self._set_rates(self.optimizer.optimizer)

    def _set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Let each masked weight learn at the learning rate over its density."""
        masks = self.masking.masks.values() if self.masking else ()
        for group, mask in zip(optimizer.param_groups, masks, strict=False):
            group["lr"] = self.learning_rate / float(mask.float().mean())

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, masks."""
        return {
            "network": self.network.module.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "masking": self.masking and self.masking.state_dict(),
            "method": self.method and self.method.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.masking:  # before the weights, which are masked as they are loaded
            self.masking.load_state_dict(state["masking"])
        self.network.module.load_state_dict(state["network"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.method:
            self.method.load_state_dict(state["method"])


def movement(
    masking: Masking, network: nn.Module, config: Config, gradients: int, generator: torch.Generator
) -> Method | None:
    """What moves the topology, None where it stays."""
    options: dict[str, Any] = {
        "every": max(1, gradients // (100 if config.method == "set" else 40)),
        "until": last_move(gradients),
        "generator": generator,
    }
    if config.method == "gmp":
        return gs.GMP(masking, config.sparsity, **options)
    if config.method == "set":
        return CentredSET(masking, network, **options)
    return CentredRigL(masking, network, **options) if config.method == "rigl" else None
