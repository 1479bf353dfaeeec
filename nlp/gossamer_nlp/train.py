"""Train an encoder of bags of terms on pairs of query and document, and keep it.

gossamer train nlp quick --seed 1
gossamer train nlp files --data-dir FOLDER --save model.gossamer
gossamer train nlp beir --data-dir scifact --method expanded
gossamer train nlp files --data-dir FOLDER --method splade-doc --save model.gossamer
python -m gossamer_nlp.train quick --method dense --dimensions 1024
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs
from gossamer import InputError, checkpoints
from gossamer.checkpoints import Checkpoint
from gossamer.devices import fabric
from gossamer.nn import TopK
from gossamer.results import plain
from gossamer_nlp.bags import Bags
from gossamer_nlp.config import METRIC, READING, UNTRAINED, Config
from gossamer_nlp.data import judged_pairs, pairs
from gossamer_nlp.embeddings import DenseProjection, Encoder, SparseProjection, TermWeights
from gossamer_nlp.evaluate import Codes, evaluate, largest, mean
from gossamer_nlp.features import Examples, Features, examples
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.index.state import best
from gossamer_nlp.relations import related
from gossamer_nlp.teaching import Teacher, moving, read

if TYPE_CHECKING:
    from gossamer_nlp.splade import Expansion
    from gossamer_nlp.token_weights import Reweighing

Whole = NDArray[np.int64]
ENCODED = 512  # documents at a time
HARD = 20  # of BM25's best wrong answers to a query one is drawn at each step


def build(config: Config, found: Features) -> Encoder:
    """The encoder of a configuration, untrained: tuned BM25, then the projection of the method."""
    generator = torch.Generator().manual_seed(config.seed)
    terms = len(found.vocabulary)
    mean_lengths = torch.from_numpy(found.documents.lengths.mean(0))
    weights = TermWeights(torch.from_numpy(found.idf), mean_lengths, found.start)
    if config.method in ("dense", "small-dense"):
        small = config.method == "small-dense"
        dimensions = fan_out(config, terms) if small else config.dimensions or 128
        return Encoder(weights, DenseProjection(terms, dimensions, generator))
    if config.method in ("random", "static-random"):
        dimensions = config.dimensions or terms
        projection = SparseProjection.random(terms, dimensions, fan_out(config, dimensions), generator)
    elif config.method == "related":
        others = torch.from_numpy(related(found, config.related, config.seed))
        projection = SparseProjection.related(terms, others, torch.zeros(others.shape))
    else:
        projection = SparseProjection.identity(terms)
    return Encoder(weights, projection, config.active, network(config, found))


def network(config: Config, found: Features) -> "Expansion | Reweighing | None":
    """What reads documents besides, untrained, where the method has it."""
    if config.method == "splade-doc":
        from gossamer_nlp.splade import Expansion

        return Expansion.start(config, found)
    if config.method == "token-weights":
        from gossamer_nlp.token_weights import Reweighing

        return Reweighing.start(config)
    return None


def fan_out(config: Config, dimensions: int) -> int:
    """How many of its dimensions a term keeps at the sparsity asked for, two or more."""
    return max(2, round((1 - config.sparsity) * dimensions))


def learned_from(config: Config, found: Features) -> Examples:
    """The pairs that the configuration asks for; `InputError` where there are none."""
    own = []
    if config.pairs != "judged":
        own += pairs(found.collection)
    if config.pairs != "label-free":
        own += judged_pairs(found.collection)
    held = examples(own, found, config.most, config.seed)
    if len(held.numbers) < 2:
        raise InputError(
            f"{found.collection.name} gives {len(held.numbers)} pairs to learn from ({config.pairs}); give more "
            "documents, training queries (--pairs judged), or --method bm25, which learns nothing."
        )
    return held


def train(config: Config, found: Features, log: Callable[[str], None] = lambda line: None) -> tuple[Encoder, float]:
    """The encoder of a configuration, trained to tell each query's document from others; and the seconds it took.

    loss = −log softmax_j(scale · ⟨query_i, document_j⟩) at the right j (InfoNCE; van den Oord et al. 2018), over the
    documents of the batch and one hard wrong answer for each query, without others that are relevant to it; with a
    network, what `teaching` adds. The epoch that is best on the development queries counts, the start among them.
    """
    start = time.perf_counter()
    encoder = build(config, found)
    if config.method in UNTRAINED:
        return encoder, 0.0
    own, found = read(encoder, learned_from(config, found), found)
    device = fabric(config.accelerator)
    model, optimizer = device.setup(encoder, torch.optim.Adam(groups(encoder, config), fused=True))
    hard = hard_answers(own, found)
    steps = config.epochs * len(batches(hard, config, 0))
    run = Run(config, encoder, optimizer, moving(encoder, optimizer.optimizer, config, steps))
    run.judge(found)
    run.resume()
    teacher = Teacher(own, found, log) if config.distil and encoder.network else None
    with Checkpoint(config.checkpoint, run.save) as checkpoint:
        while run.epoch < config.epochs:
            for batch, wrong in batches(hard, config, run.epoch)[run.step :]:
                queries = device.to_device(own.queries.batch(batch))
                logits, flops = [], torch.zeros((), device=device.device)
                for part in (own.documents.batch(batch), found.documents.batch(wrong)):
                    logits.append(model(queries, device.to_device(part)))
                    flops = flops + encoder.flops
                logits = torch.cat(logits, 1)
                mask = device.to_device(also_relevant(own, batch, wrong))
                target = torch.arange(len(batch), device=device.device)
                loss = F.cross_entropy(logits.masked_fill(mask, -torch.inf), target)
                if teacher:
                    loss = torch.lerp(loss, teacher.loss(logits, batch, wrong, mask), config.distil)
                optimizer.zero_grad()
                device.backward(loss + config.flops * flops / 2)
                optimizer.step()
                if run.method:
                    run.method.step()
                run.step += 1
                checkpoint.step()
            run.epoch, run.step = run.epoch + 1, 0
            log(f"epoch {run.epoch} of {config.epochs}  {METRIC} on development queries {run.judge(found):.4f}")
    run.take_best()
    return encoder.cpu(), time.perf_counter() - start


@dataclass
class Run:
    """A training under way: where it is, and the best epoch so far."""

    config: Config
    encoder: Encoder
    optimizer: Any
    method: gs.RigL | None = None
    epoch: int = 0
    step: int = 0
    best: float = -1.0
    kept: dict[str, Any] = field(default_factory=dict)

    def judge(self, found: Features) -> float:
        """What the encoder is worth on the development queries; kept where it is the best so far, or there are none."""
        value = development(self.encoder, found) if found.relevant["development"] else self.best
        if value > self.best or not found.relevant["development"]:
            self.best, self.kept = value, copy.deepcopy(self._weights())
        return value

    def _weights(self) -> dict[str, Any]:
        """The encoder's weights, and its masks where it has some."""
        masks = {"masking": self.method.masking.state_dict()} if self.method else {}
        return {"encoder": self.encoder.state_dict(), **masks}

    def _take(self, weights: dict[str, Any]) -> None:
        """Put back what `_weights` gave."""
        if self.method:
            self.method.masking.load_state_dict(weights["masking"])
        self.encoder.load_state_dict(weights["encoder"])

    def take_best(self) -> None:
        """The encoder of the best epoch, no longer to be trained."""
        self._take(self.kept)
        if self.method:
            self.method.masking.detach()

    def save(self, path: Path) -> None:
        """Write the state to a checkpoint."""
        places = {"epoch": self.epoch, "step": self.step, "best": self.best}
        states = {"weights": self._weights(), "kept": self.kept, "optimizer": self.optimizer.state_dict()}
        if self.method:
            states["method"] = self.method.state_dict()
        checkpoints.save(path, config=plain(self.config), **places, **states)

    def resume(self) -> None:
        """Go on from the configuration's checkpoint where there is one; `InputError` where it is another run's."""
        path = self.config.checkpoint
        if path is None or not path.exists():
            return
        state = checkpoints.load(path)
        checkpoints.same_run(state["config"], self.config, path)
        self.epoch, self.step, self.best, self.kept = (state[name] for name in ("epoch", "step", "best", "kept"))
        self.optimizer.load_state_dict(state["optimizer"])
        self._take(state["weights"])
        if self.method:
            self.method.load_state_dict(state["method"])


def groups(encoder: Encoder, config: Config) -> list[dict[str, Any]]:
    """The parameters with their learning rates.

    Label-free pairs are made from a document's own beginning, which says little on how much its fields and its length
    should count: those are learned from judged pairs alone.
    """
    weights, rate = encoder.weights, config.learning_rate
    shape = [weights.field, weights.log_k1, weights.logit_b]
    for parameter in shape:
        parameter.requires_grad_(config.pairs == "judged")
    if config.method in ("term-weights", "expanded", *READING):
        encoder.projection.requires_grad_(False)
    found = [
        {"params": [weights.document, weights.query, encoder.log_scale], "lr": rate},
        {"params": shape, "lr": 5 * rate},
        {"params": list(encoder.projection.parameters()), "lr": 0.3 * rate},
    ]
    if encoder.network is not None:
        found.append({"params": list(encoder.network.parameters()), "lr": 0.1 * rate})
    return [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in found]


def batches(hard: Whole, config: Config, epoch: int) -> list[tuple[Whole, Whole]]:
    """The numbers of the pairs in random order, each with a hard wrong answer; a last part of a batch is left out."""
    generator = np.random.default_rng((config.seed, epoch))
    order = generator.permutation(len(hard))
    wrong = hard[order, generator.integers(0, hard.shape[1], len(hard))]
    size = min(config.batch, len(hard))
    starts = range(0, len(hard) - size + 1, size)
    return [(order[start : start + size], wrong[start : start + size]) for start in starts]


def hard_answers(own: Examples, found: Features) -> Whole:
    """The documents that BM25 finds for each pair's query, but its own (pairs, HARD); random where it finds few."""
    segment = Segment.of(found.start.documents(found.counts))
    queries = found.lexical(own.queries)
    generator = np.random.default_rng(0)
    answers = generator.integers(0, len(found.documents), (len(own.numbers), HARD))
    for row, number in enumerate(own.numbers.tolist()):
        part = slice(queries.indptr[row], queries.indptr[row + 1])
        hits = best([segment], queries.indices[part].astype(np.uint64), queries.data[part].astype(float), HARD + 1)
        others = [document for _, document, _ in hits if document != number][:HARD]
        answers[row, : len(others)] = others
    return answers


def also_relevant(own: Examples, batch: Whole, wrong: Whole) -> Tensor:
    """Which of the batch's documents, and of the hard ones, are relevant to each query without being its answer."""
    numbers = own.numbers[batch]
    first = numbers[:, None] == numbers[None]
    np.fill_diagonal(first, False)
    return torch.from_numpy(np.concatenate([first, numbers[:, None] == wrong[None]], 1))


def development(encoder: Encoder, found: Features) -> float:
    """nDCG@10 on the development queries."""
    queries = encode(encoder, found.queries["development"], queries=True)
    return mean(evaluate(queries, encode(encoder, found.documents), found.relevant["development"]))[METRIC]


@torch.no_grad()
def encode(encoder: Encoder, bags: Bags, queries: bool = False) -> Codes:
    """The codes of all texts, a CSR array where they are sparse; a query's negative numbers count as none there."""
    if isinstance(encoder.projection, DenseProjection):
        batch = bags.batch(np.arange(len(bags)))
        weights = encoder.weights.queries(batch) if queries else encoder.weights.documents(batch)
        return encoder.projection(weights, batch.terms, batch.rows, len(bags)).numpy()
    parts = [scipy.sparse.csr_array((0, len(encoder.weights.idf)), dtype=np.float32)]
    for rows in np.array_split(np.arange(len(bags)), -(-len(bags) // ENCODED)):
        batch = bags.batch(rows)
        own = (encoder.weights.queries(batch), batch.terms, batch.rows) if queries else encoder.entries(batch)
        values, terms, places = (part.numpy() for part in own)
        shape = len(rows), len(encoder.weights.idf)
        parts.append(scipy.sparse.coo_array((values, (places, terms)), shape=shape).tocsr())
    weighted = scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
    codes = weighted @ encoder.projection.matrix(queries)
    assert isinstance(encoder.activation, TopK)
    return largest(codes, cast(tuple[int, int], codes.shape)[1] if queries else encoder.activation.k)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("nlp")
