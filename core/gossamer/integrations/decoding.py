"""Decoding with transformers' causal language models: one compiled step that keeps the keys and values of its past.

A model's attention is one operator, which writes the new tokens' keys and values to a cache and attends to all that lie
there; what is between is the engine's. The models are those that take their attention from transformers' registry, as
GPT-2, Llama and most of its descendants do.
"""

import warnings
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gossamer import engine
from gossamer.errors import InputError, of_type, whole
from gossamer.kernels import available

CHUNK = 16
"""Tokens of a prompt that go through the model together."""
NAME = "gossamer"


class Cache:
    """The keys and values (batch, groups, length, size) of each layer; `seen` tokens of them are there."""

    def __init__(self, length: int) -> None:
        self.length, self.seen = length, 0
        self.layers: dict[int, _Kept] = {}

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: int, scale: float) -> Tensor:
        """Write k and v behind what is there, and return the attention of q (batch, heads, tokens, size) to all."""
        if layer not in self.layers or len(self.layers[layer].keys) != len(k):
            self.layers[layer] = _Kept(q, k, v, self.length, scale)
        return self.layers[layer].attend(q, k, v, self.seen)


class _Kept:
    """One layer's keys and values."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, length: int, scale: float) -> None:
        self.keys, self.values = (x.new_zeros(*x.shape[:2], length, x.shape[3]) for x in (k, v))
        self.scale, self.grouped = scale, q.shape[1] != k.shape[1]
        self.program: Any = None
        if available() and all(x.dtype == torch.float32 for x in (q, k, v)):
            from gossamer.kernels.attention import attention_of_one
            from gossamer.kernels.attention_loops import Attention
            from gossamer.kernels.tasks import Program

            self.one, self.out = (q.new_zeros(*q.shape[:2], 1, size) for size in (q.shape[3], v.shape[3]))
            one, keys, values, out = (x.numpy() for x in (self.one, self.keys, self.values, self.out))
            task = attention_of_one(one, keys, values, out, scale)
            self.program, self.many = Program([task]), task.table[Attention.KEYS : Attention.KEYS + 1]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, seen: int) -> Tensor:
        """Write k and v behind the `seen` ones, and return the attention of q to all."""
        tokens = q.shape[2]
        end = seen + tokens
        self.keys[:, :, seen:end], self.values[:, :, seen:end] = k, v
        if tokens == 1 and self.program is not None:
            self.one.copy_(q)
            self.many[...] = end
            self.program()
            return self.out.clone()
        mask = None if tokens == 1 else torch.ones(tokens, end, dtype=torch.bool).tril(seen)
        kept = self.keys[:, :, :end], self.values[:, :, :end]
        return scaled_dot_product_attention(q, *kept, mask, scale=self.scale, enable_gqa=self.grouped)


_CACHES: "weakref.WeakValueDictionary[int, Cache]" = weakref.WeakValueDictionary()
_LIBRARY = torch.library.Library("gossamer", "FRAGMENT")
_LIBRARY.define("attend_cached(Tensor q, Tensor k, Tensor v, int cache, int layer, float scale) -> Tensor")


def _attend(q: Tensor, k: Tensor, v: Tensor, cache: int, layer: int, scale: float) -> Tensor:
    return _CACHES[cache].attend(q, k, v, layer, scale)


_LIBRARY.impl("attend_cached", _attend, "CPU")
_LIBRARY.impl("attend_cached", lambda q, k, v, *_: q.new_empty(*q.shape[:3], v.shape[3]), "Meta")


def _attention(module: Any, q: Tensor, k: Tensor, v: Tensor, *_: Any, scaling: float, **__: Any) -> tuple[Tensor, None]:
    """Attention as transformers calls it, within a `_Step`."""
    y = torch.ops.gossamer.attend_cached(q, k, v, _Step.traced, module.layer_idx, scaling)
    return y.transpose(1, 2), None


class _Step(nn.Module):
    """The model's scores for the word after the last of some tokens."""

    traced = 0
    """the cache of the step that is being called"""

    def __init__(self, model: nn.Module, cache: Cache) -> None:
        super().__init__()
        self.model, self.cache = model, id(cache)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Scores (batch, words) of ids (batch, tokens) at these positions (batch, tokens)."""
        _Step.traced = self.cache
        given: Any = {"input_ids": ids, "position_ids": positions, "use_cache": False, "logits_to_keep": 1}
        return self.model(**given).logits[:, -1]


class Decoder:
    """A causal language model that goes on from what it has seen::

        decoder = Decoder(model.eval(), length=256)
        scores = decoder(ids)  # (batch, words), after these ids (batch, tokens), which it remembers
        words = decoder.generate(ids, 20)  # (batch, 20), each the likeliest after those before it

    `length` tokens fit; `reset` forgets them. Batches are of the first call's size until then. The engine's linear
    layers are chosen at a chunk of a prompt, and the step of one token shares their packed weights. Raises InputError
    for a model that is not transformers' or does not take its attention from their registry, for a length beyond its
    positions, and where more tokens come than fit.
    """

    def __init__(self, model: Any, *, length: int) -> None:
        from transformers import AttentionInterface, PreTrainedModel
        from transformers.masking_utils import AttentionMaskInterface

        of_type(PreTrainedModel, "a causal language model of transformers", model=model)
        whole(2, length=length)
        if length > (most := getattr(model.config, "max_position_embeddings", length)):
            raise InputError(f"length is {length}, but the model has {most} positions")
        self.cache = Cache(length)
        _CACHES[id(self.cache)] = self.cache
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, lambda *_, **__: None)
        step, before = _Step(model, self.cache).train(model.training), model.config._attn_implementation
        tokens = torch.export.Dim("tokens", min=1, max=length)
        ids = torch.zeros(1, min(CHUNK, length), dtype=torch.long)
        example = ids, torch.arange(ids.shape[1])[None]
        model.set_attn_implementation(NAME)
        try:
            with warnings.catch_warnings():  # which is meant
                warnings.filterwarnings("ignore", r"(\S+ \(attend_cached\)(, | and \d+ more)?)+: stays")
                self.engine = engine.compile(step, example, dynamic={"ids": {1: tokens}, "positions": {1: tokens}})
        finally:
            model.set_attn_implementation(before)
        if not self.cache.layers:
            raise InputError(f"{type(model).__name__} does not take its attention from transformers' registry")
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.cache.seen, self.cache.layers = 0, {}

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the scores (batch, words) for what comes after these ids (batch, tokens), and remember them."""
        seen, (batch, tokens) = self.cache.seen, ids.shape
        if seen + tokens > self.cache.length:
            raise InputError(
                f"{tokens} tokens after {seen} do not fit a length of {self.cache.length}: reset the decoder"
            )
        if seen and self.cache.layers and len(next(iter(self.cache.layers.values())).keys) != batch:
            raise InputError(f"ids have a batch of {batch}, unlike the tokens before them: reset the decoder")
        scores = torch.empty(0)
        whole_chunks = tokens // CHUNK * CHUNK
        for part in (*ids[:, :whole_chunks].split(CHUNK, 1), *ids[:, whole_chunks:].split(1, 1)):
            if part.shape[1]:
                positions = torch.arange(self.cache.seen, self.cache.seen + part.shape[1]).expand(batch, -1)
                scores = self.engine(part, positions)
                self.cache.seen += part.shape[1]
        return scores

    def generate(self, ids: Tensor, count: int) -> Tensor:
        """Return `count` words (batch, count) after these ids and all before them, each the likeliest."""
        whole(1, count=count)
        words = [self(ids).argmax(1, keepdim=True)]
        while len(words) < count:
            words.append(self(words[-1]).argmax(1, keepdim=True))
        return torch.cat(words, 1)
