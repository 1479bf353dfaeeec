"""A dense sentence encoder, by torch and `tokenizers` alone: BERT from a sentence-transformers folder."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import InputError
from gossamer.paths import cache
from gossamer_nlp import arrays
from gossamer_nlp.config import ENCODER

TOKENS = 64 * 256  # in a batch
KEPT = 256  # texts whose vectors are in one file of the cache


def packaged() -> Path:
    """The folder of the encoder that installs with the extra `encoder`; `InputError` where it is not installed."""
    spec = find_spec(ENCODER)
    if spec is None or spec.origin is None:
        raise InputError('there is no encoder; type: pip install "gossamer[encoder]"')
    return Path(spec.origin).parent / "model"


class _Layer(nn.Module):
    """h ← LN(h + W_o attention(h)), h ← LN(h + W_2 gelu(W_1 h)) (Devlin et al. 2019)."""

    def __init__(self, size: int, inner: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.joined, self.first, self.second = nn.Linear(size, size), nn.Linear(size, inner), nn.Linear(inner, size)
        self.norm1, self.norm2 = nn.LayerNorm(size, epsilon), nn.LayerNorm(size, epsilon)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """(B, T, size), with mask (B, 1, 1, T) true at tokens."""
        q, k, v = (
            part(h).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        h = self.norm1(h + self.joined(attended))
        return self.norm2(h + self.second(F.gelu(self.first(h))))


class Bert(nn.Module):
    """Tokens to contextual vectors (B, T, size)."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        size, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], size)
        self.positions = nn.Embedding(config["max_position_embeddings"], size)
        self.types = nn.Embedding(config["type_vocab_size"], size)
        self.norm = nn.LayerNorm(size, epsilon)
        parts = (size, config["intermediate_size"], config["num_attention_heads"], epsilon)
        self.layers = nn.ModuleList(_Layer(*parts) for _ in range(config["num_hidden_layers"]))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens and mask (B, T) → (B, T, size)."""
        h = self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.types.weight[0]
        h = self.norm(h)
        for layer in self.layers:
            h = layer(h, mask[:, None, None])
        return h


RENAMED = (
    ("embeddings.word_embeddings", "words"), ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "types"), ("embeddings.LayerNorm", "norm"), ("encoder.layer.", "layers."),
    ("attention.self.", ""), ("attention.output.dense", "joined"), ("attention.output.LayerNorm", "norm1"),
    ("intermediate.dense", "first"), ("output.dense", "second"), ("output.LayerNorm", "norm2"),
)  # fmt: skip


class Encoder:
    """Texts to vectors of unit length: the mean of their tokens' contextual vectors, as sentence-transformers has it.

    folder: a sentence-transformers folder with a BERT (config.json, tokenizer.json, model.safetensors); None is the
    encoder of the extra `encoder`. longest: tokens of a text that count, at most.
    """

    def __init__(self, folder: Path | None = None, longest: int = 256) -> None:
        folder = folder or packaged()
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise InputError(f'the encoder needs {error.name}; type: pip install "gossamer[encoder]"') from error
        try:
            config = json.loads((folder / "config.json").read_bytes())
            if config.get("model_type") != "bert":
                raise InputError(f"{folder} holds a {config.get('model_type')}; give a sentence encoder built on BERT.")
            self.model = Bert(config).eval()
            state = load_file(folder / "model.safetensors")
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except OSError as error:
            raise InputError(
                f"{folder} is no sentence encoder ({error}); give a sentence-transformers folder."
            ) from error
        for old, new in RENAMED:
            state = {name.replace(old, new): value for name, value in state.items()}
        own = self.model.state_dict()
        missing = own.keys() - state.keys()
        if missing:
            raise InputError(f"{folder} lacks weights of a BERT, such as {min(missing)}; get it again.")
        self.model.load_state_dict({name: state[name] for name in own})
        self.tokenizer.enable_truncation(min(longest, config["max_position_embeddings"]))
        self.tokenizer.no_padding()
        self.dimensions = int(config["hidden_size"])
        self.longest = longest
        self.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts (N, dimensions), texts of like length together."""
        found = np.zeros((len(texts), self.dimensions), np.float32)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        start = 0
        while start < len(order):
            longest = len(ids[order[min(start + 64, len(order)) - 1]])
            part = order[start : start + max(1, min(64, TOKENS // max(longest, 1)))]
            tokens = torch.zeros(len(part), len(ids[part[-1]]), dtype=torch.long)
            mask = torch.zeros(tokens.shape, dtype=torch.bool)
            for row, i in enumerate(part):
                tokens[row, : len(ids[i])] = torch.tensor(ids[i])
                mask[row, : len(ids[i])] = True
            hidden = self.model(tokens, mask) * mask[:, :, None]
            found[part] = F.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=1).numpy()
            start += len(part)
        return found

    def cached(self, texts: Sequence[str], log: Callable[[str], None] = lambda line: None) -> NDArray[np.float32]:
        """The vectors of texts (N, dimensions), kept in the cache as they are made, so that they are made once."""
        parts = [np.zeros((0, self.dimensions), np.float32)]
        for start in range(0, len(texts), KEPT):
            own = texts[start : start + KEPT]
            content = "\x1e".join([self.sha256, str(self.longest), *own]).encode("utf-8", "surrogatepass")
            path = cache("nlp") / f"vectors-{hashlib.sha256(content).hexdigest()[:24]}.safetensors"
            try:
                found, _ = arrays.open_mapped(path)
                parts.append(np.array(found["vectors"]).reshape(len(own), self.dimensions))
            except (OSError, InputError, KeyError, ValueError):
                log(f"encoding text {start + 1:,} of {len(texts):,}")
                parts.append(self(own))
                with contextlib.suppress(OSError):  # a folder that cannot be written costs the next run some minutes
                    path.parent.mkdir(parents=True, exist_ok=True)
                    arrays.write(path, {"vectors": parts[-1]}, {})
        return np.concatenate(parts)
