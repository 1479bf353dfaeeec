"""What a model may have besides term weights: a network that reads documents, in the model's file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bags import Bags, Fields, Vocabulary
from gossamer_nlp.text import Analyzer

if TYPE_CHECKING:
    from torch import nn


class Network(Protocol):
    """What makes the vectors of documents' words others by what stands around them."""

    def read(self, texts: Sequence[Fields], counted: Bags, analyzer: Analyzer, vocabulary: Vocabulary) -> Bags:
        """The bags of texts with what the network reads."""
        ...

    def context(self, counted: Bags, terms: int) -> scipy.sparse.csr_array:
        """What it makes of texts that have been read (N, terms)."""
        ...

    def applied(self, words: scipy.sparse.csr_array, context: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
        """The vectors of words with it (N, terms)."""
        ...


def kinds() -> dict[str, type["nn.Module"]]:
    """The networks by the method that trains them."""
    from gossamer_nlp.splade import Expansion
    from gossamer_nlp.token_weights import Reweighing

    return {Expansion.kind: Expansion, Reweighing.kind: Reweighing}


def packed(network: Any) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """A network as the bytes of a model file of the core, as small as its non-zeros, and what builds it again."""
    from gossamer.files import to_bytes

    return np.frombuffer(to_bytes(network), np.uint8), {"kind": network.kind, **network.settings}


def unpacked(content: bytes, about: dict[str, Any], terms: int) -> Network:
    """The network of `packed`, for a vocabulary of so many terms; an error where it is damaged."""
    from gossamer.files import from_bytes

    network: Any = kinds()[about["kind"]](**{name: value for name, value in about.items() if name != "kind"})
    from_bytes(content, network, source="the model's network")
    kept = getattr(network, "kept", None)
    if kept is not None and (int(kept.min()) < 0 or int(kept.max()) >= terms or len(kept.unique()) < len(kept)):
        raise ValueError("its network knows other terms")
    return network.eval()
