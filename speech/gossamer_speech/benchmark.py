"""What is compared: the presets, their methods and seeds, and the result of one run."""

from collections.abc import Callable
from dataclasses import replace

import torch

from gossamer import Result
from gossamer.measure import measure
from gossamer.results import plain
from gossamer_speech import data
from gossamer_speech.encoders import Recogniser
from gossamer_speech.evaluate import Examples, active_codes, dictionary, pooled, recognise
from gossamer_speech.features import stack
from gossamer_speech.train import METHODS, SPARSE_CODES, Config, Trained, train

METRIC = "word accuracy (%)"
HIGHER_IS_BETTER = True
FLOOR = 5.0
SEEDS = (1, 2, 3)

PRESETS = {
    "quick": Config(),
    "fsdd": Config(data="fsdd", snr=None, epochs=2),
    "folder": Config(data="folder", snr=None, epochs=2),
}


def grid(config: Config) -> list[Config]:
    """Every method with every seed, the dense one first."""
    return [replace(config, method=method, seed=seed) for seed in SEEDS for method in METHODS]


def sparse_parts(config: Config, trained: Trained) -> str:
    """What is sparse, the weights, the codes or both; `sparsity` is that of the weights."""
    weights = f"weights {trained.masking.pattern}" if trained.masking else ""
    codes = f"codes TopK({config.active}) of {config.codes}" if config.method in SPARSE_CODES else ""
    return ", ".join(part for part in (weights, codes) if part) or "dense"


def run(config: Config, log: Callable[[str], None] = lambda line: None) -> Result:
    """Learn features and read words from them, on one thread; `value` is the percentage of test words recognised.

    Costs are those of what is shipped, encoder and classifier; the latency is that of a word of median length.
    """
    torch.set_num_threads(1)
    words = data.load(config.data, config.data_dir, config.snr)
    scale = float(words.frames[words.test.repeat(words.lengths) == 0].std())
    train_words, test_words = ([word / scale for word in words.part(test)] for test in (False, True))
    train_frames, test_frames = (torch.cat([stack(word) for word in part]) for part in (train_words, test_words))
    log(f"{len(train_words)} words to learn from, {len(test_words)} to recognise, {len(words.names)} different ones")
    trained = train(config, train_frames, len(words.names), log)

    train_examples, test_examples = (
        Examples(
            pooled(trained.encoder, part, config.segments),
            words.labels[words.test == test],
            words.speakers[words.test == test],
        )
        for part, test in ((train_words, False), (test_words, True))
    )
    found = recognise(train_examples, test_examples, config.seed)
    log(f"{found.accuracy:.2f} % recognised")
    recogniser = Recogniser(trained.encoder, config.segments, found.classifier)
    cost = measure(recogniser, stack(sorted(test_words, key=len)[len(test_words) // 2])[None])
    extra = {
        **{f"accuracy_after_{n}": accuracy for n, accuracy in found.few.items()},
        "held_out_accuracy": found.held_out,
        "strength": found.strength,
        "scaling": found.scaling,
        "width": train_examples.codes.shape[1],
        "active_codes": active_codes(trained.encoder, test_frames),
        "words": len(words.labels),
        "recordings": words.digest,
    }
    if trained.autoencoder:
        extra |= dictionary(trained.autoencoder, train_frames, test_frames)
    masking = trained.masking
    return Result(
        domain="speech",
        method=config.method,
        data=config.data,
        pattern=sparse_parts(config, trained),
        sparsity_asked=config.sparsity if masking else 0.0,
        sparsity=masking.sparsity if masking else 0.0,
        seed=config.seed,
        metric=METRIC,
        value=found.accuracy,
        higher_is_better=HIGHER_IS_BETTER,
        floor=100 / len(words.names),
        parameters=cost.parameters,
        nonzeros=cost.nonzeros,
        bytes=cost.bytes,
        latency_ms=cost.latency_ms,
        train_seconds=trained.seconds,
        config=plain(config),
        extra=extra,
    )
