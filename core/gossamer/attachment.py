"""What keeps masks true: watching an optimizer, the gradients and what is loaded into the model."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError, of_type
from gossamer.processes import of_first_rank
from gossamer.weights import Masked, Stored, moments

Parts = Mapping[str, Masked | Stored]


def unwrapped(optimizer: Any, model: nn.Module, parts: Parts) -> torch.optim.Optimizer:
    """The optimizer without what Fabric and Accelerate wrap it in.

    Raises `InputError` where it is none, or does not hold the masked parameters of the model that train.
    """
    optimizer = getattr(optimizer, "optimizer", optimizer)
    of_type(torch.optim.Optimizer, "a torch.optim.Optimizer on masking.model.parameters()", optimizer=optimizer)
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    masked = {name: part.parameter for name, part in parts.items()}
    trains = any(parameter.requires_grad for parameter in masked.values())
    if not any(id(p) in own for p in (masked.values() if trains else model.parameters())):
        raise InputError("the optimizer holds none of the masked parameters; build it on masking.model.parameters().")
    missing = [name for name, p in masked.items() if p.requires_grad and id(p) not in own]
    if missing:
        raise InputError(
            f"the optimizer does not hold {missing[0]}, which is masked: give one optimizer all masked parameters, "
            "exclude the layer, or freeze it (requires_grad_(False))."
        )
    return optimizer


class Attachment:
    """The hooks on an optimizer and on the masked parameters as they are now; `stepped` is called after each step."""

    def __init__(self, parts: Parts, optimizer: torch.optim.Optimizer, stepped: Callable[[], None]) -> None:
        self.parts, self.optimizer, self.stepped = parts, optimizer, stepped
        self.watched = {name: part.parameter for name, part in parts.items()}
        self.moments_unknown = True
        self.handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_post_hook(self._after_load),
            *(handle for part in parts.values() for handle in part.watch()),
        ]
        for part in parts.values():
            part.adopt(of_first_rank(part.mask))
            part.apply()

    @property
    def holds(self) -> bool:
        """Whether the model still has the parameters that are watched."""
        return all(self.watched[name] is part.parameter for name, part in self.parts.items())

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What the optimizer keeps of a parameter."""
        return self.optimizer.state.get(parameter, {})

    def _before_step(self, *_: Any) -> None:
        """Mask moments that came from elsewhere since the last step: their masks may have been loaded after them."""
        if self.moments_unknown:
            for part in self.parts.values():
                if isinstance(part, Masked):
                    for value in moments(self.state_of(part.parameter), part.parameter):
                        part.keep(value)
        self.moments_unknown = False

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # how GradScaler has a fused optimizer skip the step itself
        if overflow is not None and bool(overflow):
            return
        self.stepped()
        for part in self.parts.values():
            part.stepped()

    def _after_load(self, *_: Any) -> None:
        self.moments_unknown = True


class Remask:
    """Masks a model again after `load_state_dict`; a copy or pickle of the model carries it, but inert."""

    def __init__(self, masking: Any = None) -> None:
        self.masking = weakref.ref(masking) if masking is not None else None

    def __call__(self, module: nn.Module, incompatible_keys: Any) -> None:
        """Zero the dead weights of what was loaded."""
        masking = self.masking and self.masking()
        if masking is not None:
            for part in masking.parts.values():
                part.loaded()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Remask, ()
