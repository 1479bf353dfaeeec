"""What the weights of recurrent layers are multiplied with: a layer's inputs, and its states before each step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence


class Recurrent:
    """A forward pre-hook of an RNN, LSTM, GRU or one of their cells, which sees what one weight of it is of.

    All gates of a layer see the same: `weight_ih` its inputs, the outputs of the layer before it; `weight_hh` its state
    before each step. The layers below are run once more for it. Of packed sequences only what is in them is seen.
    """

    def __init__(self, name: str, weight: str, see: Callable[[str, slice, Tensor], None]) -> None:
        self.name, self.weight, self.see = name, weight, see

    @torch.no_grad()
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at one call of the module."""
        given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
        x, states = given["input"], given.get("hx")
        states = states if isinstance(states, tuple) or states is None else (states,)
        if not isinstance(module, nn.RNNBase):
            before = x.new_zeros(*x.shape[:-1], module.hidden_size) if states is None else states[0]
            self._see(before if "_hh" in self.weight else x)
            return
        depth, backward = int(self.weight.split("_l")[1].split("_")[0]), self.weight.endswith("_reverse")
        for layer in range(depth):
            x = _layer(module, layer, x, states)[0]
        if "_ih" in self.weight:
            self._see(x.data if isinstance(x, PackedSequence) else x)
            return
        outputs, first = _layer(module, depth, x, states)
        size = module.proj_size or module.hidden_size
        self._see(_before(outputs, first, slice(size * backward, size * (backward + 1)), module.batch_first))

    def _see(self, x: Tensor) -> None:
        self.see(self.name, slice(None), x.detach().reshape(-1, x.shape[-1]))


def _layer(module: nn.RNNBase, layer: int, x: Any, states: tuple[Tensor, ...] | None) -> tuple[Any, Tensor | None]:
    """What one layer of the module gives, both directions joined; and the states (directions, …) that it began at."""
    options: dict[str, Any] = {"bias": module.bias, "batch_first": module.batch_first}
    options |= {"bidirectional": module.bidirectional}
    if isinstance(module, nn.LSTM):
        options["proj_size"] = module.proj_size
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    data = x.data if isinstance(x, PackedSequence) else x
    kind: Any = type(module)
    one = kind(data.shape[-1], module.hidden_size, **options).to(data)
    for name, parameter in one.named_parameters():
        parameter.copy_(getattr(module, name.replace("_l0", f"_l{layer}")))
    if states is None:
        return one(x)[0], None
    directions = 2 if module.bidirectional else 1
    own = tuple(state[layer * directions : (layer + 1) * directions] for state in states)
    return one(x, own if isinstance(module, nn.LSTM) else own[0])[0], own[0]


def _before(outputs: Any, first: Tensor | None, own: slice, batch_first: bool) -> Tensor:
    """The states before each step of one direction, whose columns of the outputs are `own`, as (samples, size)."""
    lengths = None
    if isinstance(outputs, PackedSequence):
        outputs, lengths = pad_packed_sequence(outputs)
    elif batch_first and outputs.dim() == 3:
        outputs = outputs.movedim(1, 0)
    states, backward = outputs[..., own], own.start > 0
    start = states.new_zeros(states.shape[1:]) if first is None else first[int(backward)]
    before = torch.cat([states[1:], start[None]] if backward else [start[None], states[:-1]])
    if lengths is None:
        return before
    if backward:
        before[lengths - 1, torch.arange(len(lengths))] = start
    return before[torch.arange(len(before))[:, None] < lengths]
