"""Train an encoder of bags of terms on pairs of query and document, its embeddings dense or sparse.

gossamer train nlp quick --seed 1
gossamer train nlp anonymous --method rigl
gossamer train nlp beir --data-dir scifact --method rigl
python -m gossamer_nlp.train quick --method dense --dimensions 1024
"""

import difflib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from gossamer import InputError
from gossamer_nlp.data import KINDS, QUERIES, Collection, load
from gossamer_nlp.embeddings import DenseProjection, Encoder, SparseProjection, TermWeights
from gossamer_nlp.features import Features, features

METHODS = ("dense", "small-dense", "random", "static-random", "term-weights", "rigl", "bm25", "hybrid")
SPARSE = ("random", "static-random", "term-weights", "rigl", "hybrid")
UNTRAINED = ("random", "bm25")


@dataclass(frozen=True)
class Config:
    """One run: which embeddings, of which collection, trained for how long."""

    method: str = "dense"
    """dense, small-dense (as many parameters as the sparse ones), random (untrained sparse random projection),
    static-random (the same, trained), term-weights (one dimension a term), rigl (one dimension a term, and further
    places that move), bm25, hybrid (the sum of static-random and bm25)"""
    seed: int = 1
    """of the initial embeddings and the order of the pairs"""
    sparsity: float = 0.9999
    """share of the matrix terms × dimensions that is zero, in [0, 1), for sparse methods; a term keeps one or more"""
    data: str = "docstrings"
    """docstrings (of numpy, scipy, sklearn, networkx), docstrings-all (torch, sympy, numba, joblib too), beir"""
    data_dir: Path | None = None
    """folder of a BEIR data set: corpus.jsonl, queries.jsonl, qrels/train.tsv, qrels/test.tsv"""
    queries: str = "summary"
    """summary (a docstring's first paragraph) or anonymous (the same without the words of the item's own name)"""
    active: int = 128
    """non-zero dimensions of a sparse code, at most"""
    dimensions: int = 0
    """of the embeddings; 0: 128 if dense, one a term if sparse (rigl and term-weights always have one a term)"""
    epochs: int = 2
    """passes over the training pairs"""
    batch: int = 128
    """pairs in a gradient; each query's wrong answers are the documents of the others"""
    learning_rate: float = 0.01
    """Adam's for the term weights; 5 times that for the weights of fields, 0.3 times for the vectors"""
    every: int = 4
    """rigl: steps between two moves of the topology, over the first three quarters of the steps; 0 never"""
    fraction: float = 0.2
    """rigl: share of the terms just seen that move one place at a time"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("data", KINDS), ("queries", QUERIES)):
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(value, choices, n=1, cutoff=0)[0]
                raise InputError(f"{name} is {value!r}; did you mean {near!r}? There are {', '.join(choices)}.")
        for name in ("sparsity", "fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        for name, least in (("active", 1), ("batch", 2), ("epochs", 0), ("dimensions", 0), ("every", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.data_dir is not None and self.data != "beir":
            raise InputError(
                f"--data-dir {self.data_dir} is of no use to the data set {self.data!r}, which comes with the install; "
                "--data-dir belongs to the data set 'beir' (the preset beir)."
            )


@functools.lru_cache(maxsize=1)
def prepared(data: str, queries: str, folder: Path | None) -> tuple[Collection, Features]:
    """The collection and its features, kept in memory: a worker process runs many configurations of one collection."""
    collection = load(data, queries, folder)
    return collection, features(collection)


def build(config: Config, found: Features) -> Encoder:
    """The encoder of a configuration, untrained; that of a method that is not sparse has dense codes."""
    generator = torch.Generator().manual_seed(config.seed)
    terms = len(found.vocabulary)
    weights = TermWeights(found.idf, torch.from_numpy(found.documents.lengths.mean(0)))
    if config.method not in SPARSE:
        dimensions = fan_out(config, terms) if config.method == "small-dense" else config.dimensions or 128
        return Encoder(weights, DenseProjection(terms, dimensions, generator))
    if config.method in ("random", "static-random", "hybrid"):
        dimensions = config.dimensions or terms
        projection = SparseProjection.random(terms, dimensions, fan_out(config, dimensions), generator)
    else:
        count = 1 if config.method == "term-weights" else fan_out(config, terms)
        projection = SparseProjection.identity(terms, count, generator)
    return Encoder(weights, projection, config.active)


def fan_out(config: Config, dimensions: int) -> int:
    """How many of its dimensions a term keeps at the sparsity asked for."""
    return max(1, round((1 - config.sparsity) * dimensions))


def train(config: Config, found: Features, log: Callable[[str], None] = lambda line: None) -> tuple[Encoder, float]:
    """The encoder of a configuration, trained to tell each query's document from the others of its batch; seconds.

    loss = −log softmax_j(scale · ⟨query_i, document_j⟩) at j = i (InfoNCE; van den Oord et al. 2018), without the other
    documents that are relevant to query i.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=1)
    encoder = build(config, found)
    start = time.perf_counter()
    if config.method in UNTRAINED:
        return encoder, 0.0
    weights, rate = encoder.weights, config.learning_rate
    groups = [
        {"params": [weights.document, weights.query, encoder.log_scale], "lr": rate},
        {"params": [weights.field, weights.log_k1, weights.logit_b], "lr": 5 * rate},
        {"params": list(encoder.projection.parameters()), "lr": 0.3 * rate},
    ]
    model, optimizer = fabric.setup(encoder, torch.optim.Adam(groups, fused=True))
    generator = torch.Generator().manual_seed(config.seed)
    pairs = np.array([(q, d) for q, own in enumerate(found.relevant["train"]) for d in own])
    steps = config.epochs * max(1, len(pairs) // config.batch)
    for step, batch in enumerate(batches(pairs, config, generator), 1):
        queries = fabric.to_device(found.queries["train"].batch(batch[:, 0]))
        documents = fabric.to_device(found.documents.batch(batch[:, 1]))
        logits = model(queries, documents).masked_fill(also_relevant(batch, found).to(fabric.device), -torch.inf)
        loss = F.cross_entropy(logits, torch.arange(len(batch), device=fabric.device))
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        if moves(config, step, steps) and isinstance(encoder.projection, SparseProjection):
            rows, columns = encoder.projection.move(config.fraction)
            for moment in ("exp_avg", "exp_avg_sq"):
                optimizer.state[encoder.projection.values][moment][rows, columns] = 0
        if step % max(1, steps // 10) == 0:
            log(f"step {step:>5} of {steps}  loss {float(loss.detach()):.3f}  {time.perf_counter() - start:.1f} s")
    return encoder.cpu(), time.perf_counter() - start


def moves(config: Config, step: int, steps: int) -> bool:
    """Whether the topology moves after this step."""
    return config.method == "rigl" and config.every > 0 and step % config.every == 0 and step < 0.75 * steps


def batches(
    pairs: np.ndarray[tuple[int, int], np.dtype[np.int64]], config: Config, generator: torch.Generator
) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """The pairs (query, document) in random order, epoch by epoch; a last batch that is not full is left out."""
    size = min(config.batch, len(pairs))
    for _ in range(config.epochs):
        order = torch.randperm(len(pairs), generator=generator).numpy()
        for start in range(0, len(pairs) - size + 1, size):
            yield pairs[order[start : start + size]]


def also_relevant(batch: np.ndarray[tuple[int, int], np.dtype[np.int64]], found: Features) -> Tensor:
    """Which documents of the batch other than its own are relevant to each query (B, B)."""
    documents = batch[:, 1]
    mask = np.stack([np.isin(documents, list(found.relevant["train"][query])) for query in batch[:, 0]])
    np.fill_diagonal(mask, False)
    return torch.from_numpy(mask)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("nlp")
