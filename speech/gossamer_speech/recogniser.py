"""What is shipped: features of a word, or of each frame, and what reads them; kept in one file."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import engine
from gossamer import nn as gn
from gossamer.files import about as read_about
from gossamer_speech import encoders, letters
from gossamer_speech.config import Config
from gossamer_speech.patches import HOP, LENGTH, STRIDE, Features, Shape


class Convolved(Features):
    """The same features by a convolution of the images, as the engine and ONNX do it: no patch is ever cut out, and
    codes of codes share the first ones."""

    def codes(self, images: Tensor) -> Tensor:
        """The codes (n, times, places, codes) of images (n, LENGTH, mels)."""
        shape, half = self.shape, self.shape.width // 2
        padded = torch.cat([images[:, :1]] * half + [images] + [images[:, -1:]] * half, 1)[:, None]
        if not isinstance(self.encoder, encoders.Stacked):
            return along(self.encoder, padded, (shape.width, shape.bands), (STRIDE, HOP))
        first, second = self.encoder.first, self.encoder.second
        found = along(first, padded, (self.encoder.width, self.encoder.bands), (STRIDE, HOP))
        return along(second, found.sqrt().permute(0, 3, 1, 2), (3, 3), (1, 1))


def along(encoder: nn.Module, x: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The codes (n, times, places, codes) of all windows of x (n, channels, frames, bands), by a linear encoder's
    weights (codes, frames · bands · channels of a window) as a convolution."""
    layer, *rest = encoder.children()
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.unflatten(1, (*window, -1)).permute(0, 3, 1, 2)
    return nn.Sequential(*rest)(nn.functional.conv2d(x, weight, layer.bias, stride).permute(0, 2, 3, 1))


def convolved(body: nn.Module) -> nn.Module:
    """The same features by a convolution, where their encoder begins with a linear layer."""
    if isinstance(body, Beside):
        return Beside(*(part.convolved() for part in body.parts if isinstance(part, Recogniser)))
    if not isinstance(body, Features):
        return body
    encoder = body.encoder
    linear = isinstance(encoder, nn.Sequential) and isinstance(encoder[0], nn.Linear)
    return Convolved(encoder, body.shape) if linear or isinstance(encoder, encoders.Stacked) else body


class Compiled(nn.Module):
    """What `compile` makes faster; of `OPEN` inputs the sizes stay open."""

    OPEN: ClassVar[Mapping[str, Any] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.engine: engine.Engine | engine.Whole | None = None

    @property
    def example(self) -> Tensor:
        """What it is compiled for."""
        raise NotImplementedError

    def convolved(self) -> nn.Module:
        """The same, its codes found by a convolution where that can be."""
        raise NotImplementedError

    def compile(self, kept: Path | None = None) -> None:
        """Let the compiled engine give the scores from here on: seconds now, and less for each call.

        With `kept`, the engine is read from that file, or written there where the file is missing or damaged.
        """
        if kept and kept.is_file():
            with contextlib.suppress(gs.InputError):
                self.engine = engine.load(kept)
                return
        self.engine = gs.compile(self.convolved(), self.example, dynamic=self.OPEN)
        if kept:
            with contextlib.suppress(
                OSError, gs.InputError
            ):  # a folder that is not ours to write; code is never stored
                kept.parent.mkdir(parents=True, exist_ok=True)
                self.engine.save(kept)


class Recogniser(Compiled):
    """Images of words (n, views, LENGTH, mels) to scores (n, classes); `names` are the words, `threshold` the lowest
    probability that counts as known."""

    def __init__(
        self, body: nn.Module, classifier: nn.Module, shape: Shape, names: Sequence[str], threshold: float = 0.0
    ) -> None:
        super().__init__()
        self.body, self.classifier, self.shape = body, classifier, shape
        self.names, self.threshold = tuple(names), threshold
        self.sharpness = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """The scores."""
        return self.classifier(self.body(images))

    @torch.inference_mode()
    def probabilities(self, words: Sequence[np.ndarray]) -> np.ndarray:
        """Words (samples at `shape.rate`) to (words, classes): the softmax of `sharpness` times the scores."""
        scores = (self.engine or self)(self.shape.images(words))
        return (self.sharpness * scores).softmax(1).numpy()

    @property
    def example(self) -> Tensor:
        """The images of a word of silence, (1, views, LENGTH, mels)."""
        return torch.zeros(1, self.shape.views, LENGTH, self.shape.mels)

    def convolved(self) -> "Recogniser":
        """The same recogniser, its codes found by a convolution where that can be."""
        return Recogniser(convolved(self.body), self.classifier, self.shape, self.names).eval()


class Beside(nn.Module):
    """The scores of several recognisers beside each other: images (n, views, LENGTH, mels) → (n, parts · classes)."""

    def __init__(self, *parts: Recogniser) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> Tensor:
        """The scores."""
        return torch.cat([part(images) for part in self.parts], 1)


def summed(*parts: Recogniser) -> Recogniser:
    """A recogniser whose scores are the sum of its parts': of logarithms of probabilities, so that these multiply."""
    names = parts[0].names
    weight = torch.eye(len(names)).repeat(1, len(parts))
    return Recogniser(Beside(*parts), encoders.linear(weight), parts[0].shape, names)


def untrained(body: Features, names: Sequence[str]) -> nn.Sequential:
    """A network for the codes of `body` and the letters of the words."""
    inputs = body.codes(torch.zeros(1, body.shape.width, body.shape.mels)).flatten(2).shape[2]
    return letters.network(inputs, len(letters.symbols(names)))


class Transcriber(Compiled):
    """Frames of an utterance (n, T, mels), T at least 3, to scores (n, ⌈T / 2⌉, symbols), the blank first.

    `body` gives the codes, `classifier` reads them; a score's softmax is a symbol's probability. `names` are the words
    that it was trained on, `symbols` the letters in which they are spelt.
    """

    OPEN: ClassVar = MappingProxyType({"frames": {1: torch.export.Dim.AUTO}})

    def __init__(self, body: Features, classifier: nn.Module, shape: Shape, names: Sequence[str]) -> None:
        super().__init__()
        self.body, self.classifier, self.shape = body, classifier, shape
        self.names, self.threshold, self.sharpness = tuple(names), 0.0, 1.0
        self.symbols = letters.symbols(names)

    def forward(self, frames: Tensor) -> Tensor:
        """The scores."""
        codes = self.body.codes(frames).flatten(2).clamp_min(0).sqrt()
        return self.classifier(codes.transpose(1, 2)).transpose(1, 2)

    @torch.inference_mode()
    def posteriors(self, samples: np.ndarray) -> np.ndarray:
        """The samples (n,) of an utterance at `shape.rate` to probabilities (times, symbols), float32."""
        frames = torch.from_numpy(self.shape.front.frames(samples))
        frames = torch.cat([frames, frames[-1:].expand(max(0, 3 - len(frames)), -1)])
        return (self.engine or self)(frames[None])[0].softmax(1).numpy()

    def transcribe(self, samples: np.ndarray) -> tuple[str, float]:
        """What is said in samples (n,): the most probable sentence of known words, as spelt; mean probability of the
        best symbols."""
        found = self.posteriors(samples)
        return letters.read(found, self.symbols, self.names), float(found.max(1).mean())

    @property
    def example(self) -> Tensor:
        """The frames of half a second of silence."""
        return torch.zeros(1, 48, self.shape.mels)

    def convolved(self) -> "Transcriber":
        """The same transcriber, its codes found by a convolution where that can be."""
        body = convolved(self.body)
        assert isinstance(body, Features)
        return Transcriber(body, self.classifier, self.shape, self.names).eval()


def save(recogniser: Recogniser | Transcriber, path: Path, config: Config, extra: dict[str, Any] | None = None) -> int:
    """Write the recogniser to a file of `gossamer.save`; return its bytes."""
    places = ("data_dir", *config.places)
    about = {
        "kind": "gossamer_speech.Recogniser",
        "config": {name: value for name, value in asdict(config).items() if name not in places},
        "names": list(recogniser.names),
        "shape": asdict(recogniser.shape),
        "threshold": recogniser.threshold,
        "sharpness": recogniser.sharpness,
        "sizes": [list(p.shape) for p in recogniser.parameters()],
        **(extra or {}),
    }
    return gs.save(recogniser, path, about=about)


def load(path: str | Path) -> Recogniser | Transcriber:
    """What `gossamer train speech … --save` kept; raises `InputError` for any other file.

    A transcriber for `--classifier ctc`, else a recogniser of words.
    """
    about = read_about(path)
    if about.get("kind") != "gossamer_speech.Recogniser":
        raise gs.InputError(f"{path} is no recogniser of speech; make one with gossamer train speech … --save FILE.")
    try:
        config, shape = Config(**about["config"]), Shape(**about["shape"])
        sizes, names = [tuple(size) for size in about["sizes"]], about["names"]
        recogniser = build(config, shape, sizes, names)
        recogniser.threshold, recogniser.sharpness = float(about["threshold"]), float(about["sharpness"])
    except (KeyError, TypeError, IndexError) as error:
        raise gs.InputError(f"{path} is of another version of gossamer ({error}); train it again.") from error
    gs.load(path, recogniser)
    return recogniser.eval().requires_grad_(False)


def build(config: Config, shape: Shape, sizes: list[tuple[int, ...]], names: Sequence[str]) -> Recogniser | Transcriber:
    """A recogniser or transcriber with parameters of these sizes, to be filled."""
    if config.method.startswith("temporal"):
        from gossamer_speech.temporal import network

        own = Recogniser(*network(len(names)), shape, names)
        if config.method == "temporal":
            return own
        codes = build(replace(config, method="topk"), shape, sizes[len(list(own.parameters())) : -1], names)
        assert isinstance(codes, Recogniser)
        return summed(own, codes)
    encoder = _encoder(config, sizes)
    if config.quantise:
        encoder = encoders.quantised(encoder, torch.zeros(1, shape.width * shape.bands), config.quantise)
    body = Features(encoder, shape)
    if config.classifier == "ctc":
        return Transcriber(body, untrained(body, names), shape, names)
    classes, width = sizes[-2]
    return Recogniser(body, encoders.linear(torch.zeros(classes, width), torch.zeros(classes)), shape, names)


def _encoder(config: Config, sizes: list[tuple[int, ...]]) -> nn.Module:
    """An encoder whose parameters are the first of these sizes."""
    activations = {
        "batchtopk": lambda: gn.BatchTopK(config.active),
        "jumprelu": lambda: gn.JumpReLU(config.codes),
        "gated": lambda: gn.Gated(config.codes),
        "kl": nn.Sigmoid,
    }
    dense = ("dense", "small-dense", "l1", "random-relu")
    activation = activations.get(config.method, nn.ReLU if config.method in dense else lambda: gn.TopK(config.active))
    if config.method == "log-mel":
        return encoders.log_mel()
    if config.method in ("mfcc", "mfcc-13", "pca"):
        bias = torch.zeros(sizes[1]) if config.method == "pca" else None
        return nn.Sequential(encoders.linear(torch.zeros(sizes[0]), bias), encoders.CReLU())
    if config.method == "k-means":
        return encoders.Triangle(torch.zeros(sizes[0]))
    if config.method == "nmf":
        return encoders.Factors(torch.zeros(sizes[0]), torch.zeros(sizes[1]))
    if config.method == "omp":
        return encoders.Pursuit(torch.zeros(sizes[0]), torch.zeros(sizes[1]), config.active)
    if config.method == "stacked":
        first, second = (
            nn.Sequential(encoders.linear(torch.zeros(size), torch.zeros(size[0])), activation())
            for size in sizes[:4:2]
        )
        return encoders.Stacked(first, second, config.width, config.bands)
    bias = None if config.method.startswith("random") else torch.zeros(sizes[0][0])
    return nn.Sequential(encoders.linear(torch.zeros(sizes[0]), bias), activation())
