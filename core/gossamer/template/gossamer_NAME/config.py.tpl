"""The configuration of one run, and the presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gossamer.errors import at_least, learning_rate, one_of, share

METHODS = ("dense", "small-dense", "static-random", "rigl")


@dataclass(frozen=True)
class Config:
    """One run: the method, the network and the training."""

    method: str = "rigl"
    """dense, small-dense (a dense network of about as many weights), static-random, rigl"""
    seed: int = 1
    """of the weights, the masks and the order of the examples; the data are always the same"""
    sparsity: float = 0.9
    """share of the weights that are zero, in [0, 1)"""
    width: int = 64
    """units of the hidden layers"""
    epochs: int = 20
    """passes over the training examples"""
    batch: int = 64
    """examples in a step"""
    learning_rate: float = 0.003
    """of Adam, in (0, 10]"""
    threads: int | None = None
    """threads that compute; torch's own number where this is not given"""
    save: Path | None = None
    """file to write the trained network to, for gossamer NAME predict"""
    checkpoint: Path | None = None
    """file to keep the run's state in, from which the same command goes on"""

    places: ClassVar[tuple[str, ...]] = ("threads", "save", "checkpoint")

    def __post_init__(self) -> None:
        one_of(METHODS, method=self.method)
        share(sparsity=self.sparsity)
        at_least(1, width=self.width, epochs=self.epochs, batch=self.batch, threads=self.threads)
        learning_rate(learning_rate=self.learning_rate)


PRESETS = {"quick": Config(epochs=8), "long": Config(epochs=100)}
