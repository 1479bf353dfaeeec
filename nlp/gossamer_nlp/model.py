"""A lexical model: text in, sparse vectors out, one dimension a term; learned or plain BM25, without torch."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer import InputError
from gossamer_nlp import arrays
from gossamer_nlp.bags import Bags, Vocabulary, bags
from gossamer_nlp.bm25 import BM25, idf, scaled
from gossamer_nlp.evaluate import largest
from gossamer_nlp.keys import hashed
from gossamer_nlp.networks import Network, packed, unpacked
from gossamer_nlp.phrases import BUCKETS, KEYS, buckets
from gossamer_nlp.text import Analyzer

FORMAT = 3  # 2 where there is no network
FIELDS = ("title", "text")
Document = Mapping[str, Any] | Sequence[str] | str


@dataclass
class Lexical:
    """score(q, d) = Σ_t [tf_q · idf_t · exp(v_t)] · [exp(u_t) · f / (f + k₁ (1 − b + b · l / l̄))], f = Σ_field w · tf.

    Without learned weights (u = v = 0, w = 1) it is BM25. A term that training has not seen has u = v = 0, so words
    that are new in new documents are found as BM25 finds them. `relations` (terms, terms) gives a document, for each
    of its terms, terms related to it besides: d · relations, of which the `active` largest stay. An index gives it
    terms of its `neighbours` nearest documents too, that count `borrowed` together (see `index.neighbours`). A
    `network` that reads documents may change the second bracket by what stands around a term (see `networks`).

    The first bracket is a query's vector, the second a document's. idf is of the documents given to `fit`, or of the
    index that is searched; l̄, the mean length of each field, likewise.
    """

    analyzer: Analyzer = field(default_factory=Analyzer)
    bm25: BM25 = field(default_factory=BM25)
    fields: tuple[str, ...] = FIELDS
    field_weights: NDArray[np.float32] = field(default_factory=lambda: np.ones(2, np.float32))
    terms: tuple[str, ...] = ()
    document_weights: NDArray[np.float32] = field(default_factory=lambda: np.ones(0, np.float32))
    query_weights: NDArray[np.float32] = field(default_factory=lambda: np.ones(0, np.float32))
    relations: scipy.sparse.csr_array | None = None
    active: int = 512
    phrases: float = 0.2
    neighbours: int = 0
    borrowed: float = 0.4
    about: dict[str, Any] = field(default_factory=dict)
    network: Network | None = None

    def __post_init__(self) -> None:
        self.vocabulary = Vocabulary((term, i) for i, term in enumerate(self.terms))
        self._rarity: tuple[NDArray[np.float32], NDArray[np.float32] | None] | None = None
        self.mean_lengths: NDArray[np.float64] | None = None

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The key of each column that `weigh` gives."""
        return np.concatenate([self.vocabulary.hashes, KEYS]) if self.phrases else self.vocabulary.hashes

    def texts(self, document: Document) -> tuple[str, ...]:
        """A document's text, field by field: a mapping's by name, other text of it with the last; a plain text last."""
        if isinstance(document, str):
            return (*("" for _ in self.fields[1:]), document)
        if isinstance(document, Mapping):
            return tuple(str(document.get(name) or "") for name in self.fields)
        if len(document) != len(self.fields):
            raise InputError(f"a document has {len(document)} fields; the model has {', '.join(self.fields)}.")
        return tuple(document)

    def count(self, documents: Sequence[Document], grow: bool = True, read: bool = True) -> Bags:
        """Documents as bags of terms, `read` by the network where there is one; new terms get the next columns."""
        texts = [self.texts(document) for document in documents]
        counted = bags(texts, self.analyzer, self.vocabulary, len(self.fields), grow, self.phrases > 0)
        if self.network is None or not read:
            return counted
        inputs = self.network.read(texts, counted, self.analyzer, self.vocabulary)
        return replace(counted, context=self.network.context(inputs, len(self.vocabulary)))

    def weigh(self, counted: Bags, mean_lengths: NDArray[np.float64] | None = None) -> scipy.sparse.csr_array:
        """The vectors of bags of terms, by the mean length of each field, or theirs.

        Their columns are the terms known so far, then, with phrases, their dimensions (documents, terms [+ 2¹⁸]).
        """
        words = self._related(self._saturated(counted, len(self.vocabulary), mean_lengths))
        if self.network is not None:
            if counted.context is None:
                raise InputError("the model has a network that has not read these bags; make them by its `count`.")
            context = counted.context
            context = scipy.sparse.csr_array((context.data, context.indices, context.indptr), words.shape)
            words = self.network.applied(words, context)
        if not self.phrases:
            return words
        if counted.phrases is None:
            raise InputError("the model weighs phrases, and these bags hold none; make them by its `count`.")
        phrases = self._saturated(counted.phrases, BUCKETS, mean_lengths)
        return scipy.sparse.csr_array(scipy.sparse.hstack([words, phrases], format="csr"))

    def _saturated(self, counted: Bags, width: int, mean_lengths: NDArray[np.float64] | None) -> scipy.sparse.csr_array:
        """f / (f + k₁ (1 − b + b · l / l̄)) of each term of each text (N, width)."""
        weights = self.field_weights
        lengths = counted.lengths @ weights
        mean = np.mean(counted.lengths, 0) if mean_lengths is None else mean_lengths
        norm = self.bm25.k1 * (1 - self.bm25.b + self.bm25.b * lengths / max(float(mean @ weights), 1e-6))
        weighted = counted.frequencies * weights[counted.fields]
        f = np.add.reduceat(weighted, counted.entry_pointers[:-1]) if len(counted.terms) else weighted
        data = f / (f + np.repeat(norm, np.diff(counted.pointers)))
        return scipy.sparse.csr_array((data.astype(np.float32), counted.terms, counted.pointers), (len(counted), width))

    def _related(self, vectors: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
        """Vectors of words with the learned weights, and with related terms."""
        known = vectors.indices < len(self.terms)
        vectors.data[known] *= self.document_weights[vectors.indices[known]]
        if self.relations is None:
            return vectors
        learned = len(self.terms)
        parts = [scipy.sparse.csr_array(vectors[:, :learned] @ self.relations), vectors[:, learned:]]
        return largest(scipy.sparse.csr_array(scipy.sparse.hstack(parts, format="csr")), self.active)

    def query(self, text: str) -> tuple[list[str], NDArray[np.uint64], NDArray[np.float64]]:
        """The distinct terms of a query, their keys, and their weights but for the idf: tf · exp(v), tf · λ of phrases.

        A phrase is named by its words with a space between them.
        """
        names, keys, counts, learned = self.looked_up(text)
        return names, keys, counts * learned

    def looked_up(self, text: str) -> tuple[list[str], NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
        """The distinct terms of a query, their keys, how often each stands there, and what one counts but for idf."""
        words = self.analyzer.terms(text)
        terms = Counter(words)
        columns = [self.vocabulary.get(term, len(self.terms)) for term in terms]
        learned = [float(self.query_weights[i]) if i < len(self.terms) else 1.0 for i in columns]
        keys = hashed(list(terms))
        if not self.phrases or len(words) < 2:
            return list(terms), keys, np.array(list(terms.values()), float), np.array(learned)
        phrases = Counter(itertools.pairwise(words))
        first, second = (hashed([pair[side] for pair in phrases]) for side in (0, 1))
        return (
            [*terms, *map(" ".join, phrases)],
            np.concatenate([keys, KEYS[buckets(first, second)]]),
            np.array([*terms.values(), *phrases.values()], float),
            np.array([*learned, *[self.phrases] * len(phrases)]),
        )

    def named(self, document: Document) -> set[str]:
        """The terms that a document itself holds, and its phrases, as `query` names them."""
        texts = [self.analyzer.terms(text) for text in self.texts(document)]
        return {term for own in texts for term in (*own, *map(" ".join, itertools.pairwise(own)))}

    def fit(self, documents: Sequence[Document], y: object = None) -> "Lexical":
        """Take idf and mean lengths from documents, as `transform` and `encode_query` use them."""
        return self.take(self.count(documents, read=False))

    def take(self, counted: Bags) -> "Lexical":
        """`fit`, from documents that are counted already."""
        parts = [counted.counts(len(self.vocabulary))]
        if self.phrases and counted.phrases is not None:
            parts.append(counted.phrases.counts(BUCKETS))
        rare = [idf(part) for part in parts]
        self._rarity = (rare[0], rare[1] * np.float32(self.phrases) if len(rare) > 1 else None)
        self.mean_lengths = counted.lengths.mean(0).astype(np.float64)
        return self

    def transform(self, documents: Sequence[Document]) -> scipy.sparse.csr_array:
        """The vectors of documents (N, terms at `fit`), CSR."""
        return self.encode_document(documents)

    def fit_transform(self, documents: Sequence[Document], y: object = None) -> scipy.sparse.csr_array:
        """`fit`, then `transform`."""
        return self.fit(documents).transform(documents)

    def encode_document(self, documents: Sequence[Document]) -> scipy.sparse.csr_array:
        """The vectors of documents (N, terms at `fit`); `InputError` before `fit`."""
        self._fitted()
        return self.weigh(self.count(documents, grow=False), self.mean_lengths)

    def encode_query(self, queries: Sequence[str]) -> scipy.sparse.csr_array:
        """The vectors of queries (N, terms at `fit`); `InputError` before `fit`."""
        texts = [(text,) for text in queries]
        return self.weigh_queries(bags(texts, self.analyzer, self.vocabulary, 1, phrases=self.phrases > 0))

    def weigh_queries(self, counted: Bags) -> scipy.sparse.csr_array:
        """The vectors of queries that are counted already (N, terms at `fit`)."""
        rare, rare_phrases = self._fitted()
        learned = rare.copy()
        learned[: len(self.terms)] *= self.query_weights
        words = scaled(counted.counts(len(self.vocabulary)), learned)
        if rare_phrases is None or counted.phrases is None:
            return words
        phrases = scaled(counted.phrases.counts(BUCKETS), rare_phrases)
        return scipy.sparse.csr_array(scipy.sparse.hstack([words, phrases], format="csr"))

    def _fitted(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        if self._rarity is None or len(self._rarity[0]) < len(self.vocabulary):
            raise InputError("the model has no statistics of these documents yet; call fit(documents) first.")
        return self._rarity

    def save(self, path: Path) -> None:
        """Write the model to one safetensors file, atomically; `load` reads it."""
        found: dict[str, NDArray[Any]] = {
            "field_weights": self.field_weights,
            "document_weights": self.document_weights,
            "query_weights": self.query_weights,
            "terms": np.frombuffer("\n".join(self.terms).encode("utf-8", "surrogatepass"), np.uint8),
        }
        if self.relations is not None:
            found |= {
                "relation_values": self.relations.data.astype(np.float32),
                "relation_columns": self.relations.indices.astype(np.uint32),
                "relation_pointers": self.relations.indptr.astype(np.int64),
            }
        settings = self._settings()
        if self.network is not None:
            found["network"], settings["network"] = packed(self.network)
        arrays.write(path, found, {**self.about, **settings})

    def _settings(self) -> dict[str, Any]:
        return {
            "format": FORMAT if self.network is not None else 2,
            "kind": "lexical",
            "language": self.analyzer.language,
            "k1": self.bm25.k1,
            "b": self.bm25.b,
            "fields": list(self.fields),
            "active": self.active,
            "phrases": self.phrases,
            "neighbours": self.neighbours,
            "borrowed": self.borrowed,
        }


def load(path: str | Path) -> Lexical:
    """The model in a file that `train … --save` or `Lexical.save` wrote; nothing in the file is executed.

    Raises `InputError` where the file is damaged, newer than this program, or no model.
    """
    try:
        found, about = arrays.open_mapped(Path(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file of train … --save.") from error
    try:
        if about["kind"] != "lexical" or about["format"] > FORMAT:
            raise InputError(f"{path} holds a {about['kind']} of format {about['format']}; upgrade this Gossamer.")
        text = found["terms"].tobytes().decode("utf-8", "surrogatepass")
        terms = tuple(text.split("\n")) if text else ()
        relations = None
        if "relation_values" in found:
            parts = (found["relation_values"], found["relation_columns"].astype(np.int64), found["relation_pointers"])
            relations = scipy.sparse.csr_array(parts, (len(terms), len(terms)))
            relations.check_format()
        weights = [np.array(found[name]) for name in ("field_weights", "document_weights", "query_weights")]
        if not all(np.isfinite(own).all() and (own >= 0).all() for own in weights):
            raise ValueError("weights that are not finite")
        if (len(weights[0]), len(weights[1]), len(weights[2])) != (len(about["fields"]), len(terms), len(terms)):
            raise ValueError("sizes disagree")
        network = unpacked(found["network"].tobytes(), about["network"], len(terms)) if "network" in found else None
        return Lexical(
            Analyzer(about["language"]), BM25(about["k1"], about["b"]), tuple(about["fields"]), weights[0], terms,
            weights[1], weights[2], relations, about["active"], about.get("phrases", 0.0),
            about.get("neighbours", 0), about.get("borrowed", 0.4), about, network,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error!r}); train again, or restore it from a copy.") from error
