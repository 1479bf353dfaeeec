"""A dense sentence encoder, by torch and `tokenizers` alone: BERT from a sentence-transformers folder."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gossamer import InputError
from gossamer.paths import cache
from gossamer_nlp import arrays
from gossamer_nlp.bert import Bert
from gossamer_nlp.config import ENCODER

TOKENS = 64 * 256  # in a batch
KEPT = 256  # texts whose vectors are in one file of the cache


def packaged() -> Path:
    """The folder of the encoder that installs with the extra `encoder`; `InputError` where it is not installed."""
    spec = find_spec(ENCODER)
    if spec is None or spec.origin is None:
        raise InputError('there is no encoder; type: pip install "gossamer[encoder]"')
    return Path(spec.origin).parent / "model"


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
        for part, hidden, mask in self._run(ids):
            hidden = hidden * mask[:, :, None]
            found[part] = F.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=1).numpy()
        return found

    @torch.no_grad()
    def tokens(
        self, texts: Sequence[str], longest: int
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """A text's number, where its first tokens begin and end in it (T, 2), and their contextual vectors (T, D)."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=True)
        for part, hidden, _ in self._run([encoding.ids[:longest] for encoding in encodings]):
            for row, i in enumerate(part):
                places = np.array(encodings[i].offsets[:longest], np.int64)
                yield i, places, hidden[row, : len(places)].numpy()

    def _run(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Some texts' numbers, hidden states (B, T, D) and mask (B, T), those of like length together."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        start = 0
        while start < len(order):
            longest = len(ids[order[min(start + 64, len(order)) - 1]])
            part = order[start : start + max(1, min(64, TOKENS // max(longest, 1)))]
            tokens = torch.zeros(len(part), len(ids[part[-1]]), dtype=torch.long)
            mask = torch.zeros(tokens.shape, dtype=torch.bool)
            for row, i in enumerate(part):
                tokens[row, : len(ids[i])] = torch.tensor(ids[i])
                mask[row, : len(ids[i])] = True
            yield part, self.model(tokens, mask), mask
            start += len(part)

    def cached(self, texts: Sequence[str], log: Callable[[str], None] = lambda line: None) -> NDArray[np.float32]:
        """The vectors of texts (N, dimensions), kept in the cache as they are made, so that they are made once."""
        parts = [np.zeros((0, self.dimensions), np.float32)]
        for start in range(0, len(texts), KEPT):
            own = texts[start : start + KEPT]
            content = "\x1e".join([self.sha256, str(self.longest), *own]).encode("utf-8", "surrogatepass")

            def make(own: Sequence[str] = own, start: int = start) -> NDArray[np.float32]:
                log(f"encoding text {start + 1:,} of {len(texts):,}")
                return self(own)

            parts.append(remembered(content, make).reshape(len(own), self.dimensions))
        return np.concatenate(parts)


def remembered(content: bytes, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array that the cache has for this content, or what `make` gives, kept there."""
    path = cache("nlp") / f"vectors-{hashlib.sha256(content).hexdigest()[:24]}.safetensors"
    try:
        return np.array(arrays.open_mapped(path)[0]["vectors"])
    except (OSError, InputError, KeyError, ValueError):
        found = make()
        with contextlib.suppress(OSError):  # a folder that cannot be written costs the next run some minutes
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays.write(path, {"vectors": found}, {})
        return found
