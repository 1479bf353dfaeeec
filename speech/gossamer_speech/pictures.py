"""Show what the codes of a model look and sound like, on one page.

gossamer speech pictures model.gossamer --to codes.html
gossamer speech pictures model.gossamer --data fsdd --data-dir recordings --to codes.html
"""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import tyro
from torch import Tensor, nn

from gossamer import InputError
from gossamer.errors import at_least
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer_speech import data
from gossamer_speech.evaluate import purity
from gossamer_speech.features import images
from gossamer_speech.patches import LENGTH, Features
from gossamer_speech.recogniser import Recogniser, Transcriber, load

STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
article{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start;border-top:1px solid #ddd;padding:1rem 0}
h2{font-size:1rem;margin:0 0 .3rem}figure{margin:0}figcaption{font-size:.8rem;color:#555}
img{image-rendering:pixelated;display:block;border:1px solid #ccc}.about{width:15rem}
svg{display:block;border-bottom:1px solid #ccc;margin-top:.4rem}.row{display:flex;gap:.8rem}
button{font:inherit;margin-top:.3rem;padding:.2rem .9rem;border:1px solid #a33;border-radius:1rem;background:#fff;
color:#a33;cursor:pointer}button:hover{background:#fdf3f3}"""


@dataclass(frozen=True)
class Options:
    """Each code's pattern, its strongest words to look at and listen to, when it is active, and for what and whom."""

    model: Annotated[Path, tyro.conf.Positional]
    """what `gossamer train speech … --save` kept, but for temporal"""
    to: Path = Path("codes.html")
    """the page to write"""
    data: str = "espeak"
    """the words to show: espeak, fsdd, folder, …"""
    data_dir: Path | None = None
    """folder of the recordings, for all but espeak"""
    speaker: str | None = None
    """how a folder's files are named, as in "{label}/{speaker}_{n}" """
    codes: int = 24
    """codes that are shown, the most active first"""
    words: int = 600
    """words that are looked through, drawn evenly"""


def picture(values: np.ndarray, scale: int = 3) -> str:
    """An image (columns, rows upwards) as an HTML element."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, values.T[::-1], cmap="magma", format="png")
    width, height = (scale * size for size in values.shape)
    coded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img width="{width}" height="{height}" alt="" src="data:image/png;base64,{coded}">'


def sound(samples: np.ndarray, rate: int, name: str) -> str:
    """A button that plays samples (n,)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    coded = base64.b64encode(buffer.getvalue()).decode()
    audio = f'<audio preload="none" src="data:audio/wav;base64,{coded}"></audio>'
    return f'<button onclick="this.lastChild.play()" aria-label="play {escape(name)}">▶ play{audio}</button>'


def curve(values: np.ndarray, width: int = 220, height: int = 46) -> str:
    """A line over time, from 0 to its peak."""
    x = np.linspace(1, width - 1, len(values))
    y = height - 1 - (height - 2) * values / max(float(values.max()), 1e-9)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<svg width="{width}" height="{height}"><polyline points="{points}" fill="none" stroke="#a33"/></svg>'


def page(recogniser: Recogniser | Transcriber, words: data.Words, options: Options) -> str:
    """The page as HTML."""
    chosen = np.unique(np.linspace(0, len(words) - 1, min(options.words, len(words))).astype(int))
    shape, body = recogniser.shape, recogniser.body
    assert isinstance(body, Features)  # what main asked for
    frames = torch.from_numpy(np.concatenate([images(w, shape.front, LENGTH) for w in words.chosen(chosen)]))
    with torch.inference_mode():
        codes, patches = body.codes(frames), shape.patches(frames)
    strength, labels, speakers = codes.sum((1, 2)), words.labels[chosen], words.speakers[chosen]
    by_word, by_voice = purity(strength, labels), purity(strength, speakers)
    order = strength.sum(0).argsort(descending=True)[: options.codes].tolist()
    names = [
        f"{words.names[label]}, {words.speaker_names[speaker]}" for label, speaker in zip(labels, speakers, strict=True)
    ]
    parts = []
    for code in order:
        best = strength[:, code].argsort(descending=True)[:3].tolist()
        word = words.names[int(_favourite(strength[:, code], labels))]
        voice = words.speaker_names[int(_favourite(strength[:, code], speakers))]
        clips = [
            f"<figure>{picture(frames[i].numpy())}<figcaption>{escape(names[i])}<br>"
            f"{sound(words.word(int(chosen[i])), words.rate, names[i])}</figcaption></figure>"
            for i in best
        ]
        told = (
            f"“{escape(word)}” has {by_word[code]:.0%} of its activity (chance: {1 / len(words.names):.0%}), "
            f"{escape(voice)} {by_voice[code]:.0%} (chance: {1 / len(words.speaker_names):.0%})"
        )
        drawn = picture(_mean_patch(codes[..., code], patches).reshape(shape.width, shape.bands), scale=9)
        heard = f"<figure>{drawn}<figcaption>what it hears</figcaption></figure>"
        over_time, over_bands = (curve(codes[..., code].mean(axes).numpy()) for axes in ((0, 2), (0, 1)))
        parts.append(
            f'<article><div class="about"><h2>code {code}</h2><div class="row">{heard}'
            f"{_pattern(recogniser, code)}</div>{told}</div>"
            f"<figure>{over_time}<figcaption>mean activity from a word's start to its end</figcaption>"
            f"{over_bands}<figcaption>from low to high frequencies</figcaption></figure>{''.join(clips)}</article>"
        )
    head = (
        f"<p>{len(order)} of {codes.shape[-1]} codes, the most active first, in {len(chosen)} words. In the mean a "
        f"code gives {by_word.mean():.0%} of its activity to one of {len(words.names)} words and "
        f"{by_voice.mean():.0%} to one of {len(words.speaker_names)} voices.</p>"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Codes of speech</title><style>{STYLE}</style>'
        f"<h1>What each code hears</h1>{head}{''.join(parts)}</html>"
    )


def _favourite(strength: Tensor, labels: np.ndarray) -> np.intp:
    """The label that a code is most active for, in the mean."""
    sums, counts = np.bincount(labels, strength.numpy()), np.bincount(labels)
    return np.argmax(sums / np.maximum(counts, 1))


def _mean_patch(activity: Tensor, patches: Tensor) -> np.ndarray:
    """The mean of patches (…, inputs), each as often as it is active (…), (inputs,)."""
    weights = activity.flatten() / activity.sum().clamp_min(1e-9)
    return (weights @ patches.flatten(0, -2)).numpy()


def _pattern(recogniser: Recogniser | Transcriber, code: int) -> str:
    """The patch that a code looks for, where its encoder begins with a linear layer."""
    assert isinstance(recogniser.body, Features)
    encoder, shape = recogniser.body.encoder, recogniser.shape
    layer = encoder[0] if isinstance(encoder, nn.Sequential) else None
    if not isinstance(layer, nn.Linear) or code >= len(layer.weight):
        return ""
    drawn = picture(layer.weight[code].numpy().reshape(shape.width, shape.bands), scale=9)
    return f"<figure>{drawn}<figcaption>its weights</figcaption></figure>"


def main(options: Options) -> None:
    """Write the page."""
    at_least(1, codes=options.codes, words=options.words)
    refuse_unwritable(options.to)
    recogniser = load(options.model)
    if not isinstance(recogniser.body, Features):
        raise InputError(f"{options.model} is a temporal network, which has no codes; train topk, say.")
    words = data.load(options.data, options.data_dir, options.speaker, recogniser.shape.rate)
    write_atomically(options.to, page(recogniser, words, options).encode())
    print(f"{options.to}: {min(options.codes, options.words)} codes")


if __name__ == "__main__":
    from gossamer.cli import run_command  # pyright: ignore[reportAttributeAccessIssue]

    run_command("speech", "pictures")
