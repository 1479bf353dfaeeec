"""SynFlow: how much of a flow of ones goes through a weight."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gossamer.errors import InputError
from gossamer.scores.batches import examples, feed
from gossamer.scores.score import Score, Weights, evaluating, finite, gradients

NORMS = ("LayerNorm", "RMSNorm", "GroupNorm")


@dataclass(frozen=True)
class SynFlow(Score):
    """|w · ∂R/∂w|, R the sum of the outputs of the network of |weights| on an input of ones (Tanaka et al. 2020).

    `example`, a batch of which one is used, gives the input's shape: floats, or token ids, also in a dict, for which an
    embedding gives what ones over its whole vocabulary would, Σ |rows|. No data; iterated, or else whole layers die.
    The paper compares over all layers: distribution="global". The normalisations of transformers and the softmax of
    attention, whose derivatives cancel the flow through all that comes before them, pass it on as it is.
    """

    example: Any
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
        single = examples(self.example)
        if not single:
            raise InputError("the example of SynFlow holds nothing; pass a batch of at least one.")
        batch = ones(single[0])
        with evaluating(model, weights), flowing(model):
            flow = outflow(torch.func.functional_call(_Fed(model), _prefixed(linear), (batch,)))
            slopes = gradients(flow, {name: linear[name] for name in weights})
        scores = {name: (linear[name].detach() * slopes[name]).abs() for name in weights}
        return finite(scores, "SynFlow")


class _Fed(nn.Module):
    """The model, given a batch as `feed` gives it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Any:
        return feed(self.model, batch)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in state.items()}


def ones(example: Any) -> Any:
    """The example with ones in the place of its floats."""
    if isinstance(example, Tensor):
        return torch.ones_like(example, dtype=torch.float64) if example.is_floating_point() else example
    if isinstance(example, dict):
        return {name: ones(value) for name, value in example.items() if name != "labels"}
    return tuple(ones(value) for value in example)


def outflow(output: Any) -> Tensor:
    """The sum of the outputs: a tensor, or the first of those that a tuple or a ModelOutput holds."""
    if isinstance(output, Tensor):
        return output.sum()
    values = output.values() if hasattr(output, "values") else output if isinstance(output, tuple | list) else ()
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.sum()
    raise InputError(f"the model gives a {type(output).__name__}, in which SynFlow finds no tensor of floats.")


@contextmanager
def flowing(model: nn.Module) -> Iterator[None]:
    """Embeddings that give the sum of their rows, normalisations that only scale, and a softmax that passes flow on."""
    handles: list[Any] = []
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            handles.append(module.register_forward_hook(_all_rows))
        elif type(module).__name__.endswith(NORMS):
            handles.append(module.register_forward_hook(_scaled))
    try:
        with _Softmax():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _all_rows(module: nn.Embedding, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return module.weight.sum(0).expand(output.shape)


def _scaled(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    x, weight, bias = inputs[0], getattr(module, "weight", None), getattr(module, "bias", None)
    shape = (-1, *[1] * (x.dim() - 2)) if type(module).__name__.endswith("GroupNorm") else (-1,)
    x = x if weight is None else x * (weight.reshape(shape) if weight.dim() == 1 else weight)
    return x if bias is None else x + (bias.reshape(shape) if bias.dim() == 1 else bias)


class _Softmax(TorchFunctionMode):
    """The softmax by its value, and as the identity in the backward pass, also inside attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.softmax, torch.softmax, Tensor.softmax):
            value = func(*args, **kwargs)
            x = args[0].masked_fill(args[0] < -1e30, 0)  # what a mask excludes
            return value.detach() + x - x.detach()
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return _multi_head(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, enable_gqa: bool = False, **__: Any) -> Tensor:
    """Attention of equal weights, through whose scores the flow goes as through a sum; masks would only thin it."""
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // key.shape[-3], -3) for t in (key, value))
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores - scores.detach() + 1 / key.shape[-2]) @ value


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: int,
    heads: int,
    weight: Tensor | None,
    bias: Tensor | None,
    *rest: Any,
    use_separate_proj_weight: bool = False,
    **given: Any,
) -> tuple[Tensor, None]:
    """`F.multi_head_attention_forward`, (tokens, batch, size) or without batch, with `_attention` inside."""
    parts = [given[f"{n}_proj_weight"] for n in "qkv"] if use_separate_proj_weight else weight.chunk(3)  # pyright: ignore
    biases = bias.chunk(3) if bias is not None else [None] * 3
    inputs = (query, key, value)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip(inputs, parts, biases, strict=True))
    q, k, v = (t.unflatten(-1, (heads, -1)).movedim(0, -2) for t in (q, k, v))
    mixed = _attention(q, k, v).movedim(-2, 0).flatten(-2)
    return F.linear(mixed, rest[4], rest[5]), None
