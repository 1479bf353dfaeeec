"""BERT: tokens to contextual vectors (Devlin et al. 2019)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


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

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], size)
        self.positions = nn.Embedding(config["max_position_embeddings"], size)
        self.types = nn.Embedding(config["type_vocab_size"], size)
        self.norm = nn.LayerNorm(size, epsilon)
        parts = (size, config["intermediate_size"], config["num_attention_heads"], epsilon)
        self.layers = nn.ModuleList(_Layer(*parts) for _ in range(config["num_hidden_layers"]))

    @classmethod
    def of(cls, words: int, size: int, layers: int, heads: int, longest: int) -> "Bert":
        """A network of `layers` layers of `size` numbers, its inner layers four times as wide."""
        return cls(
            {
                "vocab_size": words, "hidden_size": size, "num_hidden_layers": layers, "num_attention_heads": heads,
                "intermediate_size": 4 * size, "max_position_embeddings": longest, "type_vocab_size": 1,
                "layer_norm_eps": 1e-12,
            }
        )  # fmt: skip

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens and mask (B, T) → (B, T, size)."""
        h = self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.types.weight[0]
        h = self.norm(h)
        for layer in self.layers:
            h = layer(h, mask[:, None, None])
        return h
