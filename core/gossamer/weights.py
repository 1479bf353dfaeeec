"""Weights with a topology: a dense parameter under a mask, and a layer that stores its non-zeros alone.

Both offer the same operations, so that masking and the methods that move masks need not know which they hold.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError


class Masked:
    """A dense parameter, by its name in `model`, and its mask (true where it is alive)."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model, self.name = model, name
        self._mask = torch.ones_like(self.parameter, dtype=torch.bool)
        self._factor: Tensor | None = None
        self.collecting = False
        self.gradient: Tensor | None = None
        self._summed: Tensor | None = None
        self._loaded: Tensor | None = None

    @property
    def parameter(self) -> nn.Parameter:
        """What the optimizer holds, as the model has it now."""
        return self.model.get_parameter(self.name)

    @property
    def weight(self) -> Tensor:
        """The dense weight, without gradient."""
        return self.parameter.detach()

    @property
    def mask(self) -> Tensor:
        """True where a weight is alive; it follows the parameter to its device."""
        device = self.parameter.device
        if self._mask.device != device:
            self._mask = self._mask.to(device)
        return self._mask

    @torch.no_grad()
    def apply(self, model: nn.Module | None = None) -> None:
        """Zero what is dead, in the model or an average of it; a −0 stays, so that a resumed run is the same."""
        parameter = self.parameter if model is None else model.get_parameter(self.name)
        parameter.masked_fill_(~self.mask.to(parameter.device) & (parameter != 0), 0)

    def keep(self, tensor: Tensor) -> None:
        """Zero what is dead, the fast way: for finite numbers, at every step."""
        if tensor.device.type != "cpu":
            tensor.mul_(self.mask)
            return
        if self._factor is None or self._factor.dtype != tensor.dtype:
            self._factor = torch.empty_like(tensor).copy_(self.mask)  # the CPU multiplies booleans several times slower
        tensor.mul_(self._factor)

    def adopt(self, mask: Tensor) -> None:
        """Take another mask; the weights follow when it is applied."""
        self._mask, self._factor = torch.empty_like(self.parameter, dtype=torch.bool).copy_(mask), None

    @torch.no_grad()
    def move(self, mask: Tensor, state: dict[str, Any]) -> None:
        """Take another mask: what dies becomes zero, its moments in the optimizer's `state` too; what wakes is zero.

        Weights that `loaded` has set aside since the last step are masked by the new mask alone.
        """
        if self._loaded is not None:
            self.parameter.copy_(torch.where(self.mask, self.parameter, self._loaded))
        self.adopt(mask)
        self._loaded = None
        for value in (self.parameter, *moments(state, self.parameter)):
            self.keep(value)

    @torch.no_grad()
    def loaded(self) -> None:
        """Mask what `load_state_dict` brought; set it aside until a step, for its own mask may be loaded after it."""
        outside = self.parameter.masked_fill(self.mask, 0)
        self._loaded = self.parameter.detach().clone() if outside.any() else None
        self.apply()

    def fits(self, mask: Tensor) -> bool:
        """Whether the weights, as `load_state_dict` brought them, are zero outside a mask."""
        weights = self.weight if self._loaded is None else self._loaded
        return not weights[~mask.to(weights.device)].any()

    def stepped(self) -> None:
        """Keep the mask after an optimizer's step."""
        self._loaded = None
        self.keep(self.parameter)

    def collect(self, wanted: bool) -> None:
        """Keep the dense gradient of the step to come in `gradient`, or keep none."""
        self.collecting, self.gradient, self._summed = wanted, None, None

    def watch(self) -> list[Any]:
        """Mask the gradient as it arrives, also once a frozen parameter thaws; return the hooks' handles."""
        parameter = self.parameter
        frozen = not parameter.requires_grad
        parameter.requires_grad_(True)  # a hook needs it, and stays when it is taken back
        handle = parameter.register_post_accumulate_grad_hook(self._mask_gradient)
        parameter.requires_grad_(not frozen)
        return [handle]

    def _mask_gradient(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        if not self.collecting:
            self.keep(gradient)
            return
        mask = self.mask
        outside = gradient.detach().masked_fill(mask, 0)
        if self.gradient is not None and gradient is self._summed:  # a further micro-batch of the same step
            outside += self.gradient.masked_fill(mask, 0)
        self.keep(gradient)
        self.gradient, self._summed = outside + gradient, gradient


class Stored:
    """A layer of sparse storage, such as `gossamer.nn.SparseLinear`; it keeps the number of weights that it stores.

    The topology is the layer's own, in the model's state dict; `move` moves it, and the optimizer's moments along.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self.name = name.rpartition(".")[0]
        self.layer: Any = model.get_submodule(self.name)

    @property
    def parameter(self) -> nn.Parameter:
        """What the optimizer holds: the stored values."""
        return self.layer.values

    @property
    def weight(self) -> Tensor:
        """The weight as a dense tensor."""
        return self.layer.weight

    @property
    def mask(self) -> Tensor:
        """Where the weight is stored."""
        return self.layer.mask

    @property
    def gradient(self) -> Tensor | None:
        """The dense gradient, where `collect` asked for it."""
        return self.layer.dense_grad

    def apply(self, model: nn.Module | None = None) -> None:
        """Nothing: what is dead is not there. An average of other positions than now is refused: it means nothing."""
        other: Any = self.layer if model is None else model.get_submodule(self.name)
        if not torch.equal(other.positions, self.layer.positions):
            raise InputError(
                f"{self.name} is stored sparsely, and its average over steps between which its topology moved mixes "
                "weights of different places; average after the last update, or train under masks."
            )

    def adopt(self, mask: Tensor) -> None:
        """Take another mask of as many weights."""
        self.move(mask, {})

    def move(self, mask: Tensor, state: dict[str, Any]) -> None:
        """Take another mask of as many weights; what wakes is zero, in the optimizer's `state` too."""
        before, now = self.layer.mask, mask.to(self.parameter.device, torch.bool)
        if torch.equal(before, now):
            return
        source = self.layer.move(before & ~now, now & ~before)
        for value in moments(state, self.parameter):
            value.copy_(torch.where(source < 0, 0, value[source.clamp_min(0)]))

    def loaded(self) -> None:
        """Nothing: values come with their positions."""

    def stepped(self) -> None:
        """Nothing: what is stored has no dead weights to zero."""

    def collect(self, wanted: bool) -> None:
        """Have the layer add up its dense gradient in the step to come, or not."""
        self.layer.wants_dense_grad, self.layer.dense_grad = wanted, None

    def watch(self) -> list[Any]:
        """Nothing: gradients have the shape of the values."""
        return []


def stores_sparsely(module: nn.Module) -> bool:
    """Whether the module stores its non-zeros alone and can move them (see `gossamer.nn.storage`)."""
    return hasattr(type(module), "move") and hasattr(module, "wants_dense_grad")


def moments(state: dict[str, Any], parameter: Tensor) -> Iterable[Tensor]:
    """What an optimizer keeps for each weight of a parameter, whatever it calls it."""
    return [value for value in state.values() if isinstance(value, Tensor) and value.shape == parameter.shape]
