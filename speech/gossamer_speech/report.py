"""What the page of `gossamer report` shows of features of speech: atoms to look at and to hear."""

import io
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer import InputError
from gossamer.compare import percent
from gossamer.results import Result
from gossamer_speech.features import Front, filters
from gossamer_speech.patches import HOP, Features
from gossamer_speech.recogniser import Recogniser, Transcriber

ATOMS, WORDS = 4, 100
STEPS = 99  # to which an atom's numbers are rounded
SLOWER = 4


@torch.inference_mode()
def kept(shipped: Recogniser | Transcriber, images: Tensor) -> dict[str, Any]:
    """What a result keeps for the page: the patches (width, bands) that the codes most active in some images of words
    (n, views, frames, mels) look for, and the first band that each is most active at. No recording is kept."""
    encoder, shape = getattr(shipped.body, "encoder", None), shipped.shape
    if not (isinstance(shipped.body, Features) and isinstance(encoder, nn.Sequential)):
        return {}
    layer = encoder[0]
    if not isinstance(layer, nn.Linear) or shape.width < 2:
        return {}
    middle = images[:WORDS, len(shape.lengths) // 2]
    strength = shipped.body.codes(middle).sum((0, 1))[:, : len(layer.weight)]  # (places, codes)
    atoms = []
    for code in strength.sum(0).argsort(descending=True)[:ATOMS].tolist():
        patch = layer.weight[code].view(shape.width, shape.bands)
        whole = (patch * (STEPS / patch.abs().max().clamp_min(1e-9))).round().int()
        atoms.append({"band": HOP * int(strength[:, code].argmax()), "patch": whole.tolist()})
    return {"atoms": {"rate": shape.rate, "mels": shape.mels, "most active": atoms}}


def pictures(results: Sequence[Result]) -> dict[str, list[bytes]]:
    """Atoms of the best sparse run that kept some: what each looks like as a PNG, and sounds like as a WAV."""
    known = [result for result in results if "atoms" in result.extra]
    if not known:
        return {}
    best = max(known, key=lambda result: (result.kind == "sparse", result.value))
    told, drawn = best.extra["atoms"], {}
    name = best.method + (f" {percent(best.sparsity)}" if best.sparsity else "")
    for number, atom in enumerate(told["most active"], 1):
        patch, hertz = np.array(atom["patch"], float) / STEPS, centres(told["rate"], told["mels"])
        own = hertz[atom["band"] : atom["band"] + patch.shape[1]]
        caption = (
            f"Atom {number} of {name}: {10 * len(patch)} ms from left to right, {own[0]:.0f} to {own[-1]:.0f} Hz "
            f"upwards; what it sounds like, then {SLOWER} times as slow"
        )
        drawn[caption] = [picture(patch), sound(patch, own, told["rate"])]
    return drawn


def centres(rate: int, mels: int) -> np.ndarray:
    """The middle frequency of each mel band, in Hz."""
    size = Front(rate, mels).size
    bank = filters(rate, size, mels, 1.0)
    return (np.linspace(0, rate / 2, len(bank)) @ bank) / bank.sum(0)


def picture(patch: np.ndarray, scale: int = 12) -> bytes:
    """A patch (frames, bands) as a PNG, time to the right and frequency upwards."""
    try:
        from matplotlib.image import imsave
    except ModuleNotFoundError as error:
        raise InputError('pictures need matplotlib; type: pip install "gossamer[report]"') from error
    file = io.BytesIO()
    imsave(file, np.kron(patch.T[::-1], np.ones((scale, scale))), cmap="magma", vmin=-1, vmax=1, format="png")
    return file.getvalue()


def sound(patch: np.ndarray, hertz: np.ndarray, rate: int) -> bytes:
    """A patch (frames, bands) as a WAV: a tone at each band's middle, as loud as the patch is there above 0.

    s(t) = Σ_b max(w(t, b), 0) · sin(2π f_b t + φ_b), 100 frames a second, then the same in slow motion.
    """
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(hertz))

    def played(slower: int) -> np.ndarray:
        times = np.arange(slower * len(patch) * rate // 100) / rate
        frames = 100 * times / slower - 0.5
        louder = [np.interp(frames, np.arange(-1, len(patch) + 1), [0, *band, 0]) for band in patch.clip(0).T]
        return (np.array(louder) * np.sin(2 * np.pi * hertz[:, None] * times + phases[:, None])).sum(0)

    samples = np.concatenate([played(1), np.zeros(rate // 5), played(SLOWER)])
    samples *= 100 / max(float(np.abs(samples).max()), 1e-9)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(1)
        written.setframerate(rate)
        written.writeframes((samples + 128).round().astype(np.uint8).tobytes())
    return file.getvalue()
