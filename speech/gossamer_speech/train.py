"""Train features of speech without labels, and read words from them.

gossamer train speech quick --seed 1
gossamer train speech fsdd --data-dir free-spoken-digit-dataset/recordings --method rigl --sparsity 0.8
python -m gossamer_speech.train folder --data-dir speech_commands --method topk
"""

import difflib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import gossamer as gs
from gossamer.nn import SparseAutoencoder, TopK
from gossamer_speech import encoders
from gossamer_speech.data import DATA
from gossamer_speech.features import CONTEXT, INPUTS, MELS

MASKED = ("static-random", "rigl")
SPARSE_CODES = ("topk", *MASKED)
LEARNED = ("dense", *SPARSE_CODES, "small-dense")
METHODS = (*LEARNED, "random-relu", "log-mel", "mfcc", "pca")


@dataclass(frozen=True)
class Config:
    """One run: which features, learned from which words."""

    method: str = "topk"
    """dense (autoencoder with ReLU codes), topk (few codes active, dense weights), rigl and static-random (topk with
    sparse weights), small-dense (dense, as many parameters as the sparse ones ship), random-relu, log-mel, mfcc, pca"""
    seed: int = 1
    """of the weights, the batches, the held-out words and the draws of few words"""
    sparsity: float = 0.8
    """share of the encoder's and the decoder's weights that are zero, in [0, 1), for rigl and static-random"""
    data: str = "espeak"
    """espeak (embedded), fsdd, or folder (WORD/*.wav)"""
    data_dir: Path | None = None
    """folder of the recordings, for fsdd and folder"""
    snr: float | None = 10.0
    """signal-to-noise ratio in dB of the white noise that is added to each word, or None"""
    codes: int = 2 * INPUTS
    """codes of a frame"""
    active: int = 32
    """codes of a frame that are not zero, at most, for topk, rigl and static-random"""
    segments: int = 3
    """equal parts of a word that are pooled apart"""
    epochs: int = 4
    """passes over the training frames"""
    batch: int = 256
    """frames in a gradient"""
    learning_rate: float = 1e-3
    """Adam's"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("data", DATA)):
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(value, choices, n=1, cutoff=0)[0]
                raise gs.InputError(f"{name} is {value!r}; did you mean {near!r}? There are {', '.join(choices)}.")
        if not 0 <= self.sparsity < 1:
            raise gs.InputError(f"sparsity is {self.sparsity}; it must be in [0, 1): 0.8 removes eight weights of ten.")
        for name in ("codes", "active", "segments", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise gs.InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.learning_rate <= 0:
            raise gs.InputError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        if self.snr is not None and not math.isfinite(self.snr):
            raise gs.InputError(f"snr is {self.snr}; it must be a finite number of dB, or None for no noise.")
        if self.data == "espeak" and self.data_dir is not None:
            raise gs.InputError(
                f"data_dir is {self.data_dir}, but the data set 'espeak' comes with the package and reads no folder; "
                "leave out --data-dir, or choose the preset 'fsdd' or 'folder', to which it belongs."
            )


@dataclass(frozen=True)
class Trained:
    """An encoder, with what it was learned by where it was; `seconds` is the time that took."""

    encoder: nn.Module
    autoencoder: SparseAutoencoder | None = None
    masking: gs.Masking | None = None
    seconds: float = 0.0


def codes_of_equal_size(config: Config, classes: int) -> int:
    """How many codes a dense encoder and its classifier can have for the parameters that the sparse ones ship.

    A code costs its weights in the encoder, its bias, and 2 · segments weights in each class of the classifier.
    """
    reading = 1 + 2 * config.segments * classes
    return max(1, round(config.codes * ((1 - config.sparsity) * INPUTS + reading) / (INPUTS + reading)))


def train(config: Config, frames: Tensor, classes: int, log: Callable[[str], None] = lambda line: None) -> Trained:
    """The encoder of `config`, learned from the frames (n, 200) where it is learned; the same on every call."""
    generator = torch.Generator().manual_seed(config.seed)
    half = max(1, config.codes // 2)  # CReLU doubles these
    match config.method:
        case "log-mel":
            return Trained(encoders.log_mel())
        case "mfcc":
            return Trained(encoders.mfcc(min(MELS, max(1, half // CONTEXT))))
        case "pca":
            start = time.perf_counter()
            encoder = encoders.pca(frames, min(half, INPUTS))
            return Trained(encoder, seconds=time.perf_counter() - start)
        case "random-relu":
            return Trained(encoders.random_relu(config.codes, generator))
        case _:
            return train_autoencoder(config, frames, classes, generator, log)


def train_autoencoder(
    config: Config, frames: Tensor, classes: int, generator: torch.Generator, log: Callable[[str], None]
) -> Trained:
    """Minimise ‖x − x̂‖² by Adam, the decoder's columns kept at unit length (Gao et al. 2024).

    Where weights are sparse, the decoder's mask starts as the encoder's transpose, as its weights do.
    """
    start = time.perf_counter()
    small = config.method == "small-dense"
    autoencoder = SparseAutoencoder(
        INPUTS,
        codes_of_equal_size(config, classes) if small else config.codes,
        TopK(config.active) if config.method in SPARSE_CODES else nn.ReLU(),
        generator=generator,
    )
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate, fused=True)
    masking = method = None
    if config.method in MASKED:
        masking = gs.sparsify(autoencoder, config.sparsity, score="random", generator=generator).attach(optimizer)
        masking.update({"decoder.weight": masking.masks["encoder.weight"].T})
    if masking and config.method == "rigl":
        steps = config.epochs * -(-len(frames) // config.batch)
        method = gs.RigL(masking, every=max(1, steps // 20), until=max(2, steps * 3 // 4))
    fabric = Fabric(accelerator=config.accelerator, devices=1)
    model, stepper = fabric.setup(autoencoder, optimizer)
    data = frames.to(fabric.device)
    for epoch in range(config.epochs):
        total = 0.0
        for batch in torch.randperm(len(frames), generator=generator).to(fabric.device).split(config.batch):
            x = data[batch]
            reconstruction, _ = model(x)
            error = (x - reconstruction).square().sum(1).mean()
            stepper.zero_grad()
            fabric.backward(error)
            stepper.step()
            if method:
                method.step()
            autoencoder.normalize()
            total += float(error.detach()) * len(x)
        log(f"epoch {epoch + 1}: squared error {total / len(frames):.3f}")
    autoencoder.cpu().requires_grad_(False)
    return Trained(encoders.learned(autoencoder), autoencoder, masking, time.perf_counter() - start)


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("speech")
