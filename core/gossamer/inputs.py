"""Inputs: what the weights of a model are multiplied with, for scores and solvers that look at it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.layers import CONVOLUTIONS, EMBEDDINGS, TRANSPOSED, Turn, owner_of, weights_of
from gossamer.patterns import Pattern
from gossamer.recurrence import Recurrent

See = Callable[[str, slice, Tensor], None]


@contextmanager
def watching(model: nn.Module, names: Iterable[str], see: See) -> Iterator[None]:
    """Call `see(name, rows, x)` at every forward pass of a weight among the parameters `names`.

    x is what these rows of the weight, outputs first, are multiplied with, channels second: (samples, in) for linear
    layers, recurrent ones and the projections of MultiheadAttention, (batch, in / groups, …) for convolutions. Raises
    `InputError`, naming the weight, for those whose inputs cannot be seen: embeddings, the projections of an LSTM's
    output (`weight_hr`) and unknown ones.
    """
    handles: list[Any] = []
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it passes hooks by
        for name in names:
            handles.append(_watch(model, name, see))
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


def columns_of(model: nn.Module, name: str, x: Tensor, pattern: Pattern) -> Tensor:
    """What `watching` sees of a weight as a matrix (samples, columns of the weight as the pattern orders them).

    A convolution's input is unfolded, in the order in which the kernel meets it; that of a transposed one, which is a
    convolution of the input with `stride` − 1 zeros between its values, the kernel turned round.
    """
    module = owner_of(model, name)[0]
    if not isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        return x
    owner: Any = module
    if isinstance(module, CONVOLUTIONS):
        return pattern.matrix(_windows(_padded(owner, x), owner.kernel_size, owner.stride, owner.dilation))
    for axis, step in enumerate(owner.stride, 2):
        between = x.new_zeros(*x.shape[: axis + 1], step - 1, *x.shape[axis + 1 :])
        x = torch.cat([x.unsqueeze(axis + 1), between], axis + 1).flatten(axis, axis + 1)
        x = x.narrow(axis, 0, x.shape[axis] - step + 1)
    sizes = zip(owner.kernel_size, owner.dilation, owner.padding, owner.output_padding, strict=True)
    sides = [((k - 1) * d - p, (k - 1) * d - p + beyond) for k, d, p, beyond in sizes]
    x = F.pad(x, [p for side in reversed(sides) for p in side])
    windows = _windows(x, owner.kernel_size, (1,) * len(sides), owner.dilation)
    return pattern.matrix(windows.flip(*range(2, windows.dim())))


def _padded(conv: Any, x: Tensor) -> Tensor:
    """What the kernel of a convolution passes over."""
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    sides = [(0, 0)] * len(reach) if conv.padding == "valid" else [(r // 2, r - r // 2) for r in reach]
    if not isinstance(conv.padding, str):
        sides = [(p, p) for p in conv.padding]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return F.pad(x, [p for side in reversed(sides) for p in side], mode)


def _windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Each place of a kernel on x (batch, channels, …) as (batch · places, channels, *kernel)."""
    axes = range(2, x.dim())
    for axis, k, step, d in zip(axes, kernel, stride, dilation, strict=True):
        x = x.unfold(axis, (k - 1) * d + 1, step)[..., ::d]
    return x.movedim(1, len(axes) + 1).flatten(0, len(axes))


def _watch(model: nn.Module, name: str, see: See) -> Any:
    owner, weight = owner_of(model, name)
    path = name.rpartition(".")[0]
    parent = model.get_submodule(path.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention) and owner is parent.out_proj:
        return parent.register_forward_pre_hook(_Joined(name, see), with_kwargs=True)
    if isinstance(owner, nn.MultiheadAttention):
        return owner.register_forward_pre_hook(_Projected(name, weight, see), with_kwargs=True)
    if isinstance(owner, nn.RNNBase | nn.RNNCellBase) and not weight.startswith("weight_hr"):
        return owner.register_forward_pre_hook(Recurrent(name, weight, see), with_kwargs=True)
    turn = weights_of(owner).get(weight)
    if turn and turn.experts and weight in ("gate_up_proj", "up_proj", "down_proj") and hasattr(owner, "_apply_gate"):
        return owner.register_forward_pre_hook(_Routed(name, weight, turn, see))
    if turn is None or turn.experts or isinstance(owner, (nn.RNNBase, *EMBEDDINGS)):
        raise InputError(f"the inputs of {name} in a {type(owner).__name__} cannot be seen: exclude it.")
    if isinstance(owner, (*CONVOLUTIONS, *TRANSPOSED)):
        return owner.register_forward_pre_hook(lambda module, inputs: _convolved(name, module, inputs[0].detach(), see))

    def linear(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(name, slice(None), inputs[0].detach().reshape(-1, inputs[0].shape[-1]))

    return owner.register_forward_pre_hook(linear)


def _convolved(name: str, module: Any, x: Tensor, see: See) -> None:
    batched = x if x.dim() == len(module.kernel_size) + 2 else x[None]
    rows = module.out_channels // module.groups
    for group, part in enumerate(batched.chunk(module.groups, dim=1)):
        see(name, slice(group * rows, (group + 1) * rows), part)


def _queries(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The query, key and value of a call of MultiheadAttention."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    return [given[name].detach() for name in ("query", "key", "value")]


class _Projected:
    """Sees what the projections to queries, keys and values are of."""

    def __init__(self, name: str, weight: str, see: See) -> None:
        self.name, self.weight, self.see = name, weight, see

    def __call__(self, module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size, inputs = module.embed_dim, _queries(args, kwargs)
        for k, x in enumerate(inputs):
            if self.weight == "in_proj_weight":
                self.see(self.name, slice(k * size, (k + 1) * size), x.reshape(-1, x.shape[-1]))
            elif self.weight == ("q_proj_weight", "k_proj_weight", "v_proj_weight")[k]:
                self.see(self.name, slice(None), x.reshape(-1, x.shape[-1]))


class _Routed:
    """Sees what each of transformers' experts is of: the tokens that it is routed, or what its gate lets through."""

    def __init__(self, name: str, weight: str, turn: Turn, see: See) -> None:
        self.name, self.weight, self.turn, self.see = name, weight, turn, see

    @torch.no_grad()
    def __call__(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        x, chosen = inputs[0].reshape(-1, inputs[0].shape[-1]), inputs[1].reshape(-1, inputs[1].shape[-1])
        rows = len(self.turn(module.get_parameter(self.weight))) // self.turn.experts
        for expert in range(self.turn.experts):
            own = x[(chosen == expert).any(1)]
            if self.weight == "down_proj":
                own = self._gated(module, own, expert)
            if len(own):
                self.see(self.name, slice(expert * rows, (expert + 1) * rows), own)

    def _gated(self, module: Any, x: Tensor, expert: int) -> Tensor:
        first = "gate_up_proj" if module.has_gate else "up_proj"
        weight = module.get_parameter(first)[expert]
        bias = module.get_parameter(f"{first}_bias")[expert] if module.has_bias else None
        x = F.linear(x, weight.mT if module.is_transposed else weight, bias)
        return module._apply_gate(x) if module.has_gate else module.act_fn(x)


class _Unhooked(nn.Module):
    """A module whose own hooks keep still."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.forward(*args, **kwargs)


class _Joined:
    """Sees what the output projection is of: the attention's output, had from a call without that projection."""

    def __init__(self, name: str, see: See) -> None:
        self.name, self.see = name, see

    @torch.no_grad()
    def __call__(self, module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        weight, bias = module.out_proj.weight, module.out_proj.bias
        plain = {"module.out_proj.weight": torch.eye(len(weight), dtype=weight.dtype, device=weight.device)}
        if bias is not None:
            plain["module.out_proj.bias"] = torch.zeros_like(bias)
        x = torch.func.functional_call(_Unhooked(module), plain, args, kwargs)[0]
        self.see(self.name, slice(None), x.reshape(-1, x.shape[-1]))
