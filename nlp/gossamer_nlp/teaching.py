"""What a network learns besides right from wrong: to rank as a given encoder does, and where its weights should be."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs
from gossamer.dynamic import last_move
from gossamer_nlp.config import Config
from gossamer_nlp.embeddings import Encoder
from gossamer_nlp.features import Examples, Features

TEMPERATURE = 0.05  # of the cosines, whose softmax is taught
MOVES = 20  # of the topology in a training


class Teacher:
    """The encoder of the extra `encoder`: its cosines of queries with documents are what is ranked alike.

    loss = KL(softmax_j(cos(q_i, d_j) / τ) ‖ softmax_j(logits_ij)), over a batch (compare Lin et al. 2021).
    """

    def __init__(self, own: Examples, found: Features, log: Callable[[str], None]) -> None:
        from gossamer_nlp.encoder import Encoder as Dense

        dense = Dense()

        def encoded(documents: list[tuple[str, ...]]) -> NDArray[np.float32]:
            return dense.cached(["\n".join(text for text in document if text) for document in documents], log)

        self.queries = dense.cached([pair.query for pair in own.pairs], log)
        self.documents = encoded(list(found.collection.documents))
        same = all(pair.document == found.collection.documents[pair.number] for pair in own.pairs)
        self.answers = self.documents[own.numbers] if same else encoded([pair.document for pair in own.pairs])

    def loss(self, logits: Tensor, batch: NDArray[np.int64], wrong: NDArray[np.int64], mask: Tensor) -> Tensor:
        """Of a batch's logits (B, 2B), the answers first, then the hard ones; where the mask is true nothing counts."""
        others = np.concatenate([self.answers[batch], self.documents[wrong]])
        cosines = torch.from_numpy(self.queries[batch] @ others.T).to(logits.device)
        taught = F.log_softmax((cosines / TEMPERATURE).masked_fill(mask, -1e4), 1)
        learned = F.log_softmax(logits.masked_fill(mask, -1e4), 1)
        return F.kl_div(learned, taught, reduction="batchmean", log_target=True)


def read(encoder: Encoder, own: Examples, found: Features) -> tuple[Examples, Features]:
    """Pairs and documents with what the encoder's network reads of them; as they are where it has none."""
    from dataclasses import replace

    if encoder.network is None:
        return own, found
    texts, answers = found.collection.documents, [pair.document for pair in own.pairs]
    known = found.analyzer, found.vocabulary
    return (
        replace(own, documents=encoder.network.read(answers, own.documents, *known)),
        replace(found, documents=encoder.network.read(texts, found.documents, *known)),
    )


def moving(encoder: Encoder, optimizer: torch.optim.Optimizer, config: Config, steps: int) -> gs.RigL | None:
    """The network's linear layers made sparse, and the method that moves their topology; None where all is dense."""
    from gossamer_nlp.splade import Expansion

    if not isinstance(encoder.network, Expansion) or not config.layer_sparsity:
        return None
    masking = gs.sparsify(encoder.network.body, config.layer_sparsity).attach(optimizer)
    return gs.RigL(masking, every=max(1, steps // MOVES), until=last_move(steps))
