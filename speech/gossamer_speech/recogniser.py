"""What is shipped: from the images of a word to codes, to pooled features, to scores; kept in one file."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from gossamer_speech import audio, encoders, letters
from gossamer_speech.config import Config
from gossamer_speech.features import Front, images

LENGTH, STRIDE, HOP = 48, 2, 4  # frames of a word; frames and bands from patch to patch
MARGIN = 0.01  # seconds that trims leave on each side
WARP = 0.12  # the furthest vocal tract length from the middle one


@dataclass(frozen=True)
class Shape:
    """How words become patches, and codes features."""

    rate: int = 8000
    mels: int = 40
    width: int = 9
    bands: int = 16
    segments: int = 8
    warps: int = 5
    normalise: str = "utterance"
    trims: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trims", tuple(self.trims))  # a file's are a list

    @classmethod
    def of(cls, config: Config) -> "Shape":
        """The shape of a method's patches: whole frames for what is defined on frames."""
        whole = {"log-mel": (1, 40), "mfcc": (5, 40), "mfcc-13": (9, 40)}
        width, bands = whole.get(config.method, (config.width, config.bands))
        own = {name: getattr(config, name) for name in ("segments", "warps", "normalise", "trims")}
        return cls(width=width, bands=bands, **own)

    @property
    def front(self) -> Front:
        """How samples become frames."""
        return Front(self.rate, self.mels, self.normalise)

    @property
    def lengths(self) -> tuple[float, ...]:
        """The vocal tract lengths that are averaged over."""
        return (1.0,) if self.warps == 1 else tuple(np.linspace(1 - WARP, 1 + WARP, self.warps).round(4).tolist())

    @property
    def views(self) -> int:
        """Images of a word: each vocal tract length of the whole word, then of the word as each trim cuts it."""
        return len(self.lengths) * (1 + len(self.trims))

    def images(self, words: Sequence[np.ndarray]) -> Tensor:
        """Words (samples) to images (words, views, LENGTH, mels)."""
        return torch.from_numpy(
            np.stack(
                [
                    np.concatenate([images(part, self.front, LENGTH, self.lengths) for part in self.parts(word)])
                    for word in words
                ]
            )
        )

    def parts(self, word: np.ndarray) -> list[np.ndarray]:
        """A word (samples), and what each trim leaves of it."""
        return [word, *(audio.trimmed(word, self.rate, trim, MARGIN) for trim in self.trims)]

    def patches(self, images: Tensor) -> Tensor:
        """Images (n, LENGTH, mels) to patches (n, times, places, width · bands); the ends are repeated."""
        half = self.width // 2
        padded = torch.cat([images[:, :1].expand(-1, half, -1), images, images[:, -1:].expand(-1, half, -1)], 1)
        return padded.unfold(1, self.width, STRIDE).unfold(2, self.bands, HOP).flatten(3)


def triangles(times: int, segments: int) -> Tensor:
    """Weights (segments, times) of overlapping triangles, each a mean."""
    place, middle = (torch.arange(times) + 0.5) / times * segments, torch.arange(segments) + 0.5
    weights = (1 - (place - middle[:, None]).abs()).clamp_min(0)
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-6)


class Features(nn.Module):
    """Codes of all patches, their mean over overlapping segments, its root, and the mean of that over views.

    Images (n, views, LENGTH, mels) → (n, segments · places · codes). The root is what histograms of codes want
    (Perronnin et al. 2010); the mean over vocal tract lengths makes the features know less of the voice.
    """

    def __init__(self, encoder: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.encoder, self.shape = encoder, shape

    def codes(self, images: Tensor) -> Tensor:
        """The codes (n, times, places, codes) of images (n, LENGTH, mels)."""
        patches = self.shape.patches(images)
        return self.encoder(patches.flatten(0, 2)).view(*patches.shape[:3], -1)

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        n, views = images.shape[:2]
        codes = self.codes(images.flatten(0, 1)).flatten(2)
        weights = triangles(codes.shape[1], self.shape.segments)
        pooled = nn.functional.linear(codes.transpose(1, 2), weights).transpose(1, 2).clamp_min(0).sqrt()
        return pooled.reshape(n, views, -1).mean(1)


class Convolved(Features):
    """The same features by a convolution of the images, as the engine and ONNX do it: no patch is ever cut out."""

    def codes(self, images: Tensor) -> Tensor:
        """The codes (n, times, places, codes) of images (n, LENGTH, mels)."""
        layer, *rest = self.encoder.children()
        assert isinstance(layer, nn.Linear)
        shape, half = self.shape, self.shape.width // 2
        padded = torch.cat([images[:, :1]] * half + [images] + [images[:, -1:]] * half, 1)[:, None]
        weight = layer.weight.view(-1, 1, shape.width, shape.bands)
        codes = nn.functional.conv2d(padded, weight, layer.bias, (STRIDE, HOP)).permute(0, 2, 3, 1)
        return nn.Sequential(*rest)(codes)


def convolved(body: nn.Module) -> nn.Module:
    """The same features by a convolution, where their encoder begins with a linear layer."""
    if isinstance(body, Beside):
        return Beside(*(part.convolved() for part in body.parts if isinstance(part, Recogniser)))
    encoder = getattr(body, "encoder", None)
    if not (isinstance(body, Features) and isinstance(encoder, nn.Sequential) and isinstance(encoder[0], nn.Linear)):
        return body
    return Convolved(encoder, body.shape)


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
    bias = None if config.method.startswith("random") else torch.zeros(sizes[0][0])
    return nn.Sequential(encoders.linear(torch.zeros(sizes[0]), bias), activation())
