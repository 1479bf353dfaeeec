"""The variance that 16 codes explain of five log-mel frames of an unheard speaker: TopK beside matching pursuit.

python speech/benchmarks/dictionaries.py --data-dir free-spoken-digit-dataset/recordings

The windows (200 numbers) of a speaker of FSDD are coded by dictionaries of the others' windows, of equally many atoms:
scikit-learn's MiniBatchDictionaryLearning and a TopK autoencoder's, the second by its own encoder, too, and both by
orthogonal matching pursuit, `gossamer.nn.pursue`'s and scikit-learn's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from torch import Tensor

from gossamer.nn import SparseAutoencoder, explained_variance, pursue
from gossamer.threads import use_threads
from gossamer_speech import data, learning
from gossamer_speech.config import Config
from gossamer_speech.features import Front, windows


@dataclass(frozen=True)
class Options:
    """What is learned from, and how long."""

    data_dir: Path
    """FSDD's folder of recordings"""
    speaker: str = "george"
    """who is tested, after learning from the others"""
    atoms: int = 512
    active: int = 16
    epochs: int = 20
    """passes of the autoencoder over the windows"""
    windows: int = 50_000
    """of the other speakers"""
    pursued: int = 5000
    """of these, that scikit-learn's dictionary is learned from"""
    tested: int = 3000
    seed: int = 1


def five_frames(words: data.Words, which: np.ndarray, most: int, seed: int) -> Tensor:
    """At most so many windows (n, 200) of words, drawn evenly."""
    front = Front(words.rate, normalise="level")
    every = np.concatenate([windows(front.frames(word), 5) for word in words.chosen(which)])
    return torch.from_numpy(every[np.random.default_rng(seed).permutation(len(every))[:most]])


def told(name: str, x: Tensor, code: Callable[[], Tensor]) -> None:
    """Print a line: what the reconstruction explains of x (n, inputs), and how long it took."""
    start = time.perf_counter()
    reconstruction = code()
    each = (time.perf_counter() - start) / len(x)
    print(
        f"{name}: {explained_variance(x, reconstruction):.4f} of the variance, {1e6 * each:.0f} µs a window", flush=True
    )


@torch.no_grad()
def compare(options: Options, model: SparseAutoencoder, x: Tensor) -> None:
    """Print what the autoencoder explains of windows x (n, inputs), by each way to code them."""
    told("TopK", x, lambda: model.sparse(x)[0])
    pursued("TopK's dictionary", x - model.decoder.bias, model.decoder.weight.T, options.active)


def pursued(name: str, x: Tensor, atoms: Tensor, active: int) -> None:
    """Print what orthogonal matching pursuit on atoms (atoms, inputs) explains of centred windows x (n, inputs)."""
    told(f"{name}, gossamer.nn.pursue", x, lambda: pursue(x, atoms, active) @ atoms)
    peer = partial(sparse_encode, algorithm="omp", n_nonzero_coefs=active)
    rows = x.numpy(), np.ascontiguousarray(atoms.numpy())
    told(f"{name}, scikit-learn's pursuit", x, lambda: torch.from_numpy(peer(*rows)).float() @ atoms)


def main(options: Options) -> None:
    """Learn both dictionaries and print what they explain."""
    use_threads(1)
    words = data.load("fsdd", options.data_dir)
    test = words.speakers == words.speaker_names.index(options.speaker)
    train = five_frames(words, ~test, options.windows, options.seed)
    x = five_frames(words, test, options.tested, options.seed)
    config = Config(
        codes=options.atoms, active=options.active, epochs=options.epochs, seed=options.seed, width=5, bands=40
    )
    trained = learning.learn(config, train)
    assert trained.autoencoder is not None
    with torch.no_grad():
        dead = 1 - float((trained.autoencoder.encode(train) > 0).any(0).float().mean())
    print(f"TopK learned in {trained.seconds:.0f} s, {dead:.1%} of the codes are dead", flush=True)
    compare(options, trained.autoencoder, x)
    start, mean = time.perf_counter(), train.mean(0)
    learner = MiniBatchDictionaryLearning(options.atoms, batch_size=256, max_iter=1, random_state=options.seed)
    learner.fit((train[: options.pursued] - mean).numpy())
    print(f"scikit-learn's dictionary learned in {time.perf_counter() - start:.0f} s", flush=True)
    pursued("scikit-learn's dictionary", x - mean, torch.from_numpy(learner.components_).float(), options.active)


if __name__ == "__main__":
    main(tyro.cli(Options))
