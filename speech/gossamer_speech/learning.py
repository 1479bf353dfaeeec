"""Dictionaries of patches, learned without labels or not at all."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer import nn as gn
from gossamer.devices import fabric
from gossamer.dynamic import last_move
from gossamer.nn.objectives import Outcome
from gossamer_speech import encoders
from gossamer_speech.config import LEARNED, MASKED, Config
from gossamer_speech.patches import Shape

Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """An encoder, with what it was learned by where it was; `seconds` is the time that took.

    The autoencoder's inputs are what `before` makes of patches."""

    encoder: nn.Module
    autoencoder: gn.SparseAutoencoder | None = None
    masking: gs.Masking | None = None
    seconds: float = 0.0
    before: Callable[[Tensor], Tensor] = lambda patches: patches


def learn(config: Config, patches: Tensor, log: Log = lambda line: None) -> Trained:
    """The encoder of `config`, learned from the patches (n, inputs) where it is learned; the same on every call."""
    trained = _learn(config, patches, log)
    if not config.quantise:
        return trained
    return replace(trained, encoder=encoders.quantised(trained.encoder, patches, config.quantise))


def _learn(config: Config, patches: Tensor, log: Log) -> Trained:
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(config.seed)
    inputs, width = patches.shape[1], Shape.of(config).width
    mels = inputs // width
    match config.method:
        case "log-mel":
            encoder = encoders.log_mel()
        case "mfcc":
            encoder = encoders.mfcc(width, mels)
        case "mfcc-13":
            encoder = encoders.mfcc_13(mels)
        case "pca":
            encoder = encoders.pca(patches, min(max(1, config.codes // 2), inputs))
        case "random-relu":
            encoder = encoders.random(inputs, config.codes, nn.ReLU(), generator)
        case "random-topk":
            encoder = encoders.random(inputs, config.codes, gn.TopK(config.active), generator)
        case "k-means":
            encoder = encoders.k_means(patches, config.codes, generator)
        case "nmf":
            encoder = encoders.nmf(patches, config.codes, generator)
        case "omp":
            encoder = encoders.pursuit(patches, max(1, config.codes // 2), config.active, config.seed)
        case "stacked":
            return stacked(config, patches, generator, log)
        case _:
            return autoencoder(config, patches, generator, log)
    return Trained(encoder.eval(), seconds=time.perf_counter() - start)


def codes_of_equal_size(config: Config, inputs: int) -> int:
    """How many codes a dense encoder can have for the parameters that the sparse one ships."""
    return max(1, round(config.codes * ((1 - config.sparsity) * inputs + 1) / (inputs + 1)))


def parts(config: Config) -> tuple[nn.Module, Callable[..., Outcome]]:
    """The activation and the objective of a method; penalties suit patches whose numbers have variance one."""
    match config.method:
        case "batchtopk":
            return gn.BatchTopK(config.active), gn.Squared()
        case "jumprelu":
            return gn.JumpReLU(config.codes, threshold=0.5, bandwidth=0.5), gn.L0(1.0)
        case "gated":
            return gn.Gated(config.codes), gn.GatedLoss(0.5)
        case "matryoshka":
            return gn.TopK(config.active), gn.Matryoshka([max(1, config.codes // n) for n in (8, 4, 2)])
        case "l1":
            return nn.ReLU(), gn.L1(0.5)
        case "kl":
            return nn.Sigmoid(), gn.KL(1.0, target=min(0.5, config.active / config.codes))
        case "dense" | "small-dense":
            return nn.ReLU(), gn.Squared()
        case _:
            return gn.TopK(config.active), gn.Squared()


def autoencoder(config: Config, patches: Tensor, generator: torch.Generator, log: Log) -> Trained:
    """Minimise the method's objective by Adam, b from the patches' mean on, the decoder's columns at unit length.

    Codes that 20,000 patches leave idle are resampled after each epoch but the last. Where weights are sparse, the
    decoder's mask starts as the encoder's transpose, as its weights do.
    """
    assert config.method in LEARNED
    start, inputs = time.perf_counter(), patches.shape[1]
    activation, objective = parts(config)
    codes = codes_of_equal_size(config, inputs) if config.method == "small-dense" else config.codes
    model = gn.SparseAutoencoder(inputs, codes, activation, generator)
    model.center(patches)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    masking = method = None
    if config.method in MASKED:
        masking = gs.sparsify(model, config.sparsity, score="random", generator=generator, include=("*",))
        masking.attach(optimizer).update({"decoder.weight": masking.masks["encoder.weight"].T})
    if masking and config.method == "rigl":
        steps = config.epochs * -(-len(patches) // config.batch)
        method = gs.RigL(masking, every=max(1, steps // 20), until=max(2, last_move(steps)))
    device = fabric(config.accelerator)
    stepped, stepper = device.setup(model, optimizer)
    patches, dead = device.to_device(patches), gn.DeadCodes(model, patience=20_000)
    x = reconstruction = patches[:0]
    for epoch in range(config.epochs):
        total = 0.0
        for batch in torch.randperm(len(patches), generator=generator).split(config.batch):
            x = patches[batch.to(device.device)]
            loss, reconstruction, z = objective(model, x)
            stepper.zero_grad()
            device.backward(loss)
            stepper.step()
            dead.see(z)
            if method:
                method.step()
            model.normalize()
            total += float(loss.detach()) * len(x)
        if not masking and epoch < config.epochs - 1:
            dead.resample(x, reconstruction.detach(), optimizer, generator)
        log(f"epoch {epoch + 1}: objective {total / len(patches):.3f}")
    del stepped
    model.cpu().eval().requires_grad_(False)
    return Trained(encoders.learned(model), model, masking, time.perf_counter() - start)


def stacked(config: Config, patches: Tensor, generator: torch.Generator, log: Log) -> Trained:
    """A dictionary of the middle windows of patches, and one of the codes of all windows of each; TopK both."""
    encoder = encoders.Stacked(nn.Identity(), nn.Identity(), config.width, config.bands)
    first = autoencoder(config, encoder.windows(patches)[:, 1, 1].contiguous(), generator, log)
    encoder.first = first.encoder
    second = autoencoder(config, encoder.inner(patches), generator, log)
    encoder.second = second.encoder
    return replace(second, encoder=encoder.eval(), before=encoder.inner, seconds=first.seconds + second.seconds)
