"""The dense side of an index: documents' vectors in 8 bits, whose cosine with a query's counts beside its words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer import InputError

Encoder = Callable[[Sequence[str]], NDArray[np.float32]]
MINILM = "minilm"  # the encoder of the extra `encoder`
OWN = "one of your own"
PEAK, QUERY_PEAK = 127, 2047  # the largest number of a document's vector and of a query's; a product's sum has 31 bits


@dataclass
class Dense:
    """An encoder by its name, a folder or MINILM, loaded when it is first asked; `sha256` is of its weights, if known.

    dimensions: of its vectors.
    """

    name: str
    sha256: str
    dimensions: int
    encoder: Encoder | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, encoder: Encoder | str | Path) -> "Dense":
        """A name, a sentence-transformers folder, or any function from texts to vectors (N, D)."""
        if callable(encoder):
            return cls(OWN, "", np.shape(encoder(["a text"]))[-1], encoder)
        from gossamer_nlp.encoder import Encoder as Bert

        own = str(encoder) == MINILM
        found = Bert(None if own else Path(encoder))
        return cls(MINILM if own else str(Path(encoder).resolve()), found.sha256, found.dimensions, found)

    def vectors(self, texts: Sequence[str], cached: bool = False) -> NDArray[np.int8]:
        """Texts as whole numbers (N, D), a vector of zeros where it has none; `cached` keeps what has been encoded."""
        return quantised(self._encoded(texts, cached), PEAK).astype(np.int8)

    def tokens(
        self, texts: Sequence[str], longest: int
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """A text's number, where its first tokens begin and end in it (T, 2), and their contextual vectors (T, D)."""
        return getattr(self._loaded(), "tokens")(texts, longest)  # noqa: B009

    def query(self, text: str) -> NDArray[np.int16]:
        """A query as whole numbers (D,)."""
        return quantised(self._encoded([text], False), QUERY_PEAK)[0].astype(np.int16)

    def _encoded(self, texts: Sequence[str], cached: bool) -> NDArray[np.float32]:
        encoder: Any = self._loaded()
        kept = getattr(encoder, "cached", None) if cached else None
        found = np.asarray((kept or encoder)(texts), np.float32)
        if found.shape != (len(texts), self.dimensions) or not np.isfinite(found).all():
            raise InputError(
                f"the encoder gives {found.shape} for {len(texts)} texts; the index needs finite numbers of shape "
                f"({len(texts)}, {self.dimensions})."
            )
        return found

    def _loaded(self) -> Encoder:
        if self.encoder is None:
            if self.name == OWN:
                raise InputError(
                    "this index has an encoder of your own: give it, Index.open(folder, encoder=…), or search for "
                    "words alone, with a meaning of 0."
                )
            from gossamer_nlp.encoder import Encoder as Bert

            found = Bert(None if self.name == MINILM else Path(self.name))
            if self.sha256 != found.sha256:
                raise InputError(
                    f"the encoder {self.name} is not the one that this index was made with; bring that back, or index "
                    "anew."
                )
            self.encoder = found
        return self.encoder


def quantised(vectors: NDArray[np.float32], peak: int) -> NDArray[np.float32]:
    """Vectors (N, D), each times what makes its largest number ±peak, as whole numbers; zeros stay."""
    largest = np.abs(vectors).max(1, keepdims=True, initial=0)
    return np.rint(vectors * (peak / np.maximum(largest, 1e-30)))


def worth(whole: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """1 / ‖v‖ of each row (N,), 0 for zeros: a cosine is the product of two vectors times the worths of both."""
    lengths = np.sqrt(np.square(whole, dtype=np.float64).sum(-1))
    return np.where(lengths > 0, 1 / np.maximum(lengths, 1), 0).astype(np.float32)
