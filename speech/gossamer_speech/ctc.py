"""Sentences read letter by letter: a sparse convolutional network over codes, trained by CTC (Graves et al. 2006)."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.dynamic import last_move
from gossamer_speech import noise
from gossamer_speech.config import Config
from gossamer_speech.data import Words
from gossamer_speech.letters import symbols
from gossamer_speech.patches import Features, Shape
from gossamer_speech.recogniser import Transcriber, untrained
from gossamer_speech.sentences import LONGEST, Sentence, joined

BATCH = 16  # sentences in a gradient
ALIKE = 8  # batches that are sorted by length together
Log = Callable[[str], None]


def batched(frames: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Frames (T, mels) of several utterances to (n, longest T, mels), zeros behind, and how many times each gives."""
    padded = nn.utils.rnn.pad_sequence([torch.from_numpy(f) for f in frames], batch_first=True)
    return padded, torch.tensor([-(-len(f) // 2) for f in frames])


def masked(frames: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Frames (T, mels) less two stretches of time and two of frequency (SpecAugment, Park et al. 2019)."""
    frames = frames.copy()
    for view, most in ((frames, 12), (frames, 12), (frames.T, 8), (frames.T, 8)):
        start = int(draw.integers(len(view)))
        view[start : start + int(draw.integers(most))] = 0
    return frames


def heard(
    sentence: Sentence, others: Sequence[Sentence], shape: Shape, config: Config, draw: np.random.Generator
) -> np.ndarray:
    """The frames (T, mels) that training hears: another vocal tract, in the configuration's noise; with `augment`, half
    of the times in any."""
    front, kind, level = shape.front, config.noise, config.snr
    if kind == "none" and config.augment and draw.random() < 0.5:
        kind, level = ("white", "babble")[int(draw.integers(2))], float(draw.uniform(0, 20))
    samples = noise.degraded(sentence.samples, kind, level, shape.rate, [other.samples for other in others], draw)
    warp = float(draw.choice(shape.lengths))
    return masked(front.normalised(front.bands(front.power(samples), warp)), draw)


def endless(
    words: Words, which: np.ndarray, more: Sequence[Sentence], draw: np.random.Generator, shape: Shape
) -> Iterator[Sentence]:
    """The marked words, each whole or as a trim cuts it, in sentences joined anew in each round, `more` among them."""
    while True:
        sentences = [*joined(words, which, draw, shape.parts), *more]
        for i in draw.permutation(len(sentences)):
            yield sentences[i]


def batches(source: Iterator[Sentence], draw: np.random.Generator) -> Iterator[list[Sentence]]:
    """Sentences BATCH at a time: of ALIKE batches those of like length go together, for little is padded so."""
    while True:
        some = sorted(islice(source, ALIKE * BATCH), key=lambda sentence: len(sentence.samples))
        for i in draw.permutation(ALIKE):
            yield some[i * BATCH : (i + 1) * BATCH]


def train(
    config: Config, body: Features, words: Words, which: np.ndarray, more: Sequence[Sentence], log: Log
) -> tuple[Transcriber, gs.Masking | None, float]:
    """Train on the marked words and on `more` sentences, 10 · `config.epochs` rounds; the codes stay as they are.

    The learning rate rises and falls to zero (Smith & Topin 2019). Weights are sparse from the start and move by RigL.
    """
    start, draw = time.perf_counter(), np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    source = batches(endless(words, which, more, draw, body.shape), draw)
    letters = symbols(words.names)
    rounds = 2 * int(which.sum()) / (1 + LONGEST) + len(more)
    steps = max(1, round(10 * config.epochs * rounds / BATCH))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        reader = untrained(body, words.names)
        model = Transcriber(body, reader, body.shape, words.names).train()
        optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.01, fused=True)
        masking = gs.sparsify(reader, config.sparsity, generator=generator) if config.sparsity else None
        method = None
        if masking:
            method = gs.RigL(masking.attach(optimizer), every=max(1, steps // 20), until=max(2, last_move(steps)))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * config.learning_rate, steps, pct_start=0.15)
        total = 0.0
        for step in range(1, steps + 1):
            batch = next(source)
            frames, times = batched([heard(s, batch, body.shape, config, draw) for s in batch])
            aims = [torch.tensor([letters.index(letter) for letter in sentence.text]) for sentence in batch]
            lengths = torch.tensor([len(aim) for aim in aims])
            scores = model(frames).transpose(0, 1)
            loss = nn.functional.ctc_loss(scores.log_softmax(2), torch.cat(aims), times, lengths, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 5.0)
            optimizer.step()
            if method:
                method.step()
            schedule.step()
            total += float(loss.detach())
            if step % 100 == 0:
                log(f"step {step} of {steps}: CTC {total / 100:.3f}")
                total = 0.0
    model.eval().requires_grad_(False)
    return model, masking, time.perf_counter() - start
