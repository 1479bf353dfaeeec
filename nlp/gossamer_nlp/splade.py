"""A small transformer that reads a document's terms and says which others it could be asked for by: SPLADE-doc."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer_nlp.bags import Bags, Batch, Fields, Vocabulary
from gossamer_nlp.bert import Bert
from gossamer_nlp.cooccurrence import factorised, numbered, ppmi
from gossamer_nlp.text import Analyzer

if TYPE_CHECKING:
    from gossamer_nlp.config import Config
    from gossamer_nlp.features import Features

WORDS = 16_384  # the most frequent terms, which the network knows
LEAST = 3  # documents that hold a term that it knows
WINDOW = 5
MOST = 128  # terms that it gives a document
HEADS, CHUNK = 4, 64  # documents at a time
COMPILED_FROM = 512  # documents to encode from which on compiling the network pays
Entries = tuple[Tensor, Tensor, Tensor]


class Expansion(nn.Module):
    """e_v = g · log(1 + ReLU(max_i ⟨h_i, E_v⟩ / √D + b_v)), of which the MOST largest of a document stay.

    h are the contextual vectors of a document's first `longest` terms by a BERT made here, E its word embeddings again
    (SPLADE-doc; Formal et al. 2021), g a learned scale. A document's vector is its words as `TermWeights` weighs them,
    plus e; queries are looked up, so that no network runs when one is asked.

    kept: the terms (V,) that the network knows, by their number in the model's vocabulary, the first V until set.
    """

    kind = "splade-doc"

    kept: Tensor

    def __init__(self, words: int, layers: int, width: int, longest: int) -> None:
        super().__init__()
        self.longest = longest
        self.settings = {"words": words, "layers": layers, "width": width, "longest": longest}
        self.register_buffer("kept", torch.arange(words))
        self.body = Bert.of(words, width, layers, HEADS, longest)
        self.bias = nn.Parameter(torch.full((words,), -0.5))
        self.log_scale = nn.Parameter(torch.tensor(-1.0))
        self.flops = torch.zeros(())
        self.engine: Any = None
        self.encoded = 0

    @classmethod
    def start(cls, config: "Config", found: "Features") -> "Expansion":
        """The network untrained: embeddings are the collection's PPMI vectors, so that terms stand for like ones."""
        held = np.bincount(found.counts.indices, minlength=len(found.vocabulary))
        kept = np.argsort(-held, kind="stable")[:WORDS]
        kept = kept[held[kept] >= min(LEAST, held.max(initial=0))]
        network = cls(len(kept), config.layers, config.width, config.longest)
        generator = torch.Generator().manual_seed(config.seed)
        terms = np.array(list(found.vocabulary))[kept].tolist()
        texts = (
            [t for field in document for t in found.analyzer.terms(field)] for document in found.collection.documents
        )
        vectors = factorised(ppmi(numbered(texts, terms, WINDOW), len(terms), WINDOW), config.width, config.seed)
        with torch.no_grad():
            network.kept.copy_(torch.from_numpy(kept))
            for module in network.body.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, 0.02, generator=generator)
                    module.bias.zero_()
            network.body.positions.weight.normal_(0, 0.01, generator=generator)
            network.body.types.weight.zero_()
            network.body.words.weight.zero_()
            network.body.words.weight[:, : vectors.shape[1]] = torch.from_numpy(vectors)
        return network

    def read(self, texts: Sequence[Fields], counted: Bags, analyzer: Analyzer, vocabulary: Vocabulary) -> Bags:
        """The bags of texts with what the network reads: numbers of their first known terms (N, longest), then −1."""
        places = np.full(len(vocabulary), -1, np.int32)
        places[self.kept.cpu().numpy()] = np.arange(len(self.kept))
        sequences = np.full((len(texts), self.longest), -1, np.int32)
        for row, text in enumerate(texts):
            numbers = [vocabulary.get(term, -1) for field in text for term in analyzer.terms(field)]
            own = places[[number for number in numbers if number >= 0]] if numbers else places[:0]
            own = own[own >= 0][: self.longest]
            sequences[row, : len(own)] = own
        return replace(counted, sequences=sequences)

    def entries(self, weights: Tensor, batch: Batch) -> Entries:
        """The weights, terms and rows of documents' non-zeros: those of their words, and then the network's."""
        assert batch.sequences is not None
        values, places, rows = self(batch.sequences.long())
        sums = values.new_zeros(len(self.kept)).index_add(0, places, values) / max(len(batch.sequences), 1)
        self.flops = sums.square().sum()
        terms = torch.cat([batch.terms, self.kept[places]])
        return torch.cat([weights, values]), terms, torch.cat([batch.rows, rows])

    def forward(self, sequences: Tensor) -> Entries:
        """Numbers of terms (B, longest), −1 at the end, to e: values above 0, their places in `kept`, their rows."""
        tokens, mask = inputs(sequences)
        return self.head(self.body(tokens, mask), sequences)

    def head(self, hidden: Tensor, sequences: Tensor) -> Entries:
        """e from contextual vectors (B, longest, D); only what stays is computed with gradients."""
        words, scale = self.body.words.weight, hidden.shape[2] ** -0.5
        with torch.no_grad():
            lacking = sequences < 0
            lengths = (~lacking).sum(1).clamp_min(1).tolist()
            best = [(own[:length] @ words.T).amax(0) for own, length in zip(hidden, lengths, strict=True)]
            columns = (torch.stack(best) * scale + self.bias).topk(min(MOST, len(words)), 1).indices
            at = (hidden @ words[columns].mT).masked_fill_(lacking[:, :, None], -torch.inf).argmax(1)
        own = hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2]))
        logits = (own * words[columns]).sum(2) * scale + self.bias[columns]
        values = self.log_scale.exp() * torch.log1p(torch.relu(logits))
        rows, order = torch.nonzero((values > 0) & (sequences[:, :1] >= 0), as_tuple=True)
        return values[rows, order], columns[rows, order], rows

    @torch.no_grad()
    def context(self, counted: Bags, terms: int) -> scipy.sparse.csr_array:
        """e of texts that have been read (N, terms), by the engine where there are many."""
        assert counted.sequences is not None
        self.encoded += len(counted)
        if self.engine is None and self.encoded >= COMPILED_FROM:
            example = inputs(torch.from_numpy(counted.sequences[:16]).long())
            self.engine = gs.compile(self.body.eval(), example)
        run, parts = self.engine or self.body, []
        for start in range(0, len(counted), CHUNK):
            sequences = torch.from_numpy(counted.sequences[start : start + CHUNK]).long()
            values, places, rows = self.head(torch.as_tensor(run(*inputs(sequences))), sequences)
            coordinates = rows.numpy(), self.kept[places].numpy()
            parts.append(scipy.sparse.coo_array((values.numpy(), coordinates), (len(sequences), terms)).tocsr())
        none = scipy.sparse.csr_array((0, terms), dtype=np.float32)
        return scipy.sparse.csr_array(scipy.sparse.vstack([none, *parts], format="csr"))

    def applied(self, words: scipy.sparse.csr_array, context: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
        """The vectors of words with e (N, terms)."""
        return scipy.sparse.csr_array(words + context)


def inputs(sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and their mask (B, T); a text without any has one, whose answer does not count."""
    mask = sequences >= 0
    mask[:, 0] = True
    return sequences.clamp_min(0), mask
