"""The variance that 16 codes explain of five log-mel frames of an unheard speaker: TopK beside matching pursuit.

python speech/benchmarks/dictionaries.py --data-dir free-spoken-digit-dataset/recordings

The windows (200 numbers) of a speaker of FSDD are coded by dictionaries of the others' windows, of equally many atoms:
scikit-learn's MiniBatchDictionaryLearning with orthogonal matching pursuit, and a TopK autoencoder by its own encoder,
with least-squares amplitudes of the codes that its encoder chose, with a few steps of hard thresholding pursuit from
these on, and by orthogonal matching pursuit on its decoder.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from torch import Tensor

from gossamer.nn import SparseAutoencoder, explained_variance
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
    steps: int = 4
    """of hard thresholding pursuit"""
    seed: int = 1


def five_frames(words: data.Words, which: np.ndarray, most: int, seed: int) -> Tensor:
    """At most so many windows (n, 200) of words, drawn evenly."""
    front = Front(words.rate, normalise="level")
    every = np.concatenate([windows(front.frames(word), 5) for word in words.chosen(which)])
    return torch.from_numpy(every[np.random.default_rng(seed).permutation(len(every))[:most]])


def fitted(model: SparseAutoencoder, x: Tensor, z: Tensor, active: int) -> Tensor:
    """The code (n, codes) of x by least squares on the `active` largest of z, of either sign."""
    chosen = z.abs().topk(active).indices
    atoms = model.decoder.weight.T[chosen] * (z.gather(1, chosen) != 0)[..., None]  # (n, active, inputs)
    gram = atoms @ atoms.mT
    gram.diagonal(dim1=1, dim2=2).add_(1e-4)
    found = torch.linalg.solve(gram, atoms @ (x - model.decoder.bias)[..., None])
    return torch.zeros_like(z).scatter(1, chosen, found[..., 0])


def pursued(atoms: np.ndarray, mean: Tensor, x: Tensor, active: int) -> Tensor:
    """The reconstruction of x (n, inputs) by orthogonal matching pursuit on atoms (atoms, inputs)."""
    codes = sparse_encode((x - mean).numpy(), atoms, algorithm="omp", n_nonzero_coefs=active)
    return torch.from_numpy((codes @ atoms).astype(np.float32)) + mean


def told(name: str, x: Tensor, reconstruction: Tensor) -> None:
    """Print a line."""
    print(f"{name}: {explained_variance(x, reconstruction):.4f} of the variance", flush=True)


@torch.no_grad()
def compare(options: Options, model: SparseAutoencoder, x: Tensor) -> None:
    """Print what the autoencoder explains of windows x (n, inputs), by each way to code them."""
    z = model.encode(x)
    told("TopK", x, model.decode(z))
    z = fitted(model, x, z, options.active)
    told("TopK, amplitudes by least squares", x, model.decode(z))
    for step in range(options.steps):  # Foucart 2011
        z = fitted(model, x, z + (x - model.decode(z)) @ model.decoder.weight, options.active)
        told(f"TopK, {step + 1} step{'s' * (step > 0)} of hard thresholding pursuit", x, model.decode(z))
    decoder = np.ascontiguousarray(model.decoder.weight.T.numpy())
    told("TopK's decoder, orthogonal matching pursuit", x, pursued(decoder, model.decoder.bias, x, options.active))


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
    atoms = np.asarray(learner.components_, np.float32)
    told("scikit-learn's dictionary, orthogonal matching pursuit", x, pursued(atoms, mean, x, options.active))


if __name__ == "__main__":
    main(tyro.cli(Options))
