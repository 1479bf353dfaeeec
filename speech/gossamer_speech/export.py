"""Write a recogniser for other programs.

gossamer speech export model.gossamer words.onnx       # for ONNX Runtime and its like
gossamer speech export model.gossamer words.engine     # for gossamer.engine.load, without PyTorch
gossamer speech export sentences.gossamer letters.onnx # of --classifier ctc, also .engine: utterances of any length
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import gossamer as gs
from gossamer import InputError
from gossamer.onnx import export_onnx
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer.threads import using_threads
from gossamer_speech.folders import beside
from gossamer_speech.recogniser import Transcriber, load


@dataclass(frozen=True)
class Options:
    """Write what turns images of words (n, warps, 48, 40), as `recogniser.shape.images` makes them, into scores; of a
    transcriber, frames (n, T, 40) of `shape.front` into scores of symbols, the blank first."""

    model: Annotated[Path, tyro.conf.Positional]
    """what `gossamer train speech … --save` kept"""
    out: Annotated[Path, tyro.conf.Positional]
    """NAME.onnx or NAME.engine; NAME.txt gets the word, or the symbol, of each score"""


@using_threads(1)
def main(options: Options) -> int:
    """Write the file and say how large it is."""
    if options.out.suffix not in (".onnx", ".engine"):
        raise InputError(f"out is {options.out}; its name must end in .onnx or .engine.")
    refuse_unwritable(options.out)
    recogniser = load(options.model)
    reads_sentences = isinstance(recogniser, Transcriber)
    scored = ["", *recogniser.symbols[1:]] if reads_sentences else recogniser.names
    text = "".join(f"{name}\n" for name in scored)
    names = beside(options.out, text)
    if options.out.suffix == ".onnx":
        export_onnx(recogniser.convolved(), options.out, recogniser.example, dynamic=recogniser.OPEN)
    else:
        gs.compile(recogniser.convolved(), recogniser.example, dynamic=recogniser.OPEN, strict=True).save(options.out)
    write_atomically(names, text.encode())
    print(
        f"{options.out}: {options.out.stat().st_size} bytes, {len(scored)} {'symbols' if reads_sentences else 'words'}"
    )
    return 0


if __name__ == "__main__":
    from gossamer.cli import run_command  # pyright: ignore[reportAttributeAccessIssue]

    run_command("speech", "export")
