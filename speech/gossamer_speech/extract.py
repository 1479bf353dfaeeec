"""Turn a folder of recordings into sparse codes.

gossamer speech extract FOLDER out.npz --codes 512
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy import sparse

from gossamer import InputError
from gossamer.errors import at_least, one_of
from gossamer.paths import folder, refuse_unwritable, write_atomically, writing_atomically
from gossamer.threads import using_threads
from gossamer_speech import audio, folders
from gossamer_speech.transformer import POOLS, SparseSpeechFeatures


@dataclass(frozen=True)
class Options:
    """Learn codes from a folder without labels, and write those of every file: a CSR matrix that scipy.sparse.load_npz
    reads, and the files' names beside it."""

    folder: Annotated[Path, tyro.conf.Positional]
    """recordings (wav, flac, ogg, mp3), below any folders"""
    out: Annotated[Path, tyro.conf.Positional]
    """the file to write, NAME.npz; NAME.txt gets the file of each row"""
    codes: int = 512
    """codes of a window"""
    active: int = 16
    """codes of a window that are not zero, at most"""
    pool: str = "segments"
    """segments, mean, max, moments, pyramid (one row a file)"""
    learn_from: int = 500
    """files, evenly drawn, that the codes are learned from"""
    every: int = 200
    """files between two parts that are kept, so that the same command goes on after a stop"""


@using_threads(1)
def main(options: Options) -> int:
    """Write the codes; the status is 1 where a file could not be used, which is named."""
    at_least(1, learn_from=options.learn_from, every=options.every)
    one_of(POOLS[:-1], pool=options.pool)
    refuse_unwritable(options.out)
    if options.out.suffix != ".npz":
        raise InputError(f"out is {options.out}; its name must end in .npz.")
    told = folders.beside(options.out)
    paths = folders.files(folder(options.folder, "one with recordings"))
    if not paths:
        raise InputError(f"{options.folder} holds no recordings (*{', *'.join(audio.SUFFIXES)}).")
    parts = options.out.with_suffix(".parts")
    features = learned(options, paths, parts)
    faults = []
    for start in range(0, len(paths), options.every):
        part = parts / f"{start:09d}"
        if not part.with_suffix(".json").is_file():
            _write(part, features, paths[start : start + options.every])
        done = json.loads(part.with_suffix(".json").read_text())
        faults += done["faults"]
    names, matrices = [], []
    for start in range(0, len(paths), options.every):
        part = parts / f"{start:09d}"
        names += json.loads(part.with_suffix(".json").read_text())["names"]
        matrices.append(sparse.load_npz(part.with_suffix(".npz")))
    whole = sparse.csr_matrix(sparse.vstack(matrices, format="csr"))
    del features, matrices  # a folder of many hours gives many numbers
    with writing_atomically(options.out) as file:
        sparse.save_npz(file, whole)
    write_atomically(told, "".join(f"{name}\n" for name in names).encode())
    for file in sorted(parts.iterdir()):  # "settings" last: a stop leaves no part without them
        file.unlink()
    parts.rmdir()
    print(f"{len(names)} files, {whole.nnz} numbers in {options.out}; {len(faults)} left out")
    return int(bool(faults))


def learned(options: Options, paths: list[Path], parts: Path) -> SparseSpeechFeatures:
    """The transformer, learned from some of the files; always the same for the same folder."""
    features = SparseSpeechFeatures(options.codes, options.active, pool=options.pool, held=40_000)
    told = json.dumps({"files": [str(path) for path in paths], **{k: str(v) for k, v in asdict(options).items()}})
    settings = parts / "settings"
    if settings.is_file() and settings.read_text() != told:
        raise InputError(f"{parts} is of another extraction; delete it, or name another file than {options.out}.")
    faults = {path: _fault(path) for path in paths[:: max(1, len(paths) // options.learn_from)]}
    if all(faults.values()):
        raise InputError(f"nothing in {options.folder} can be learned from: {next(iter(faults.values()))}.")
    features.fit([path for path, fault in faults.items() if not fault])
    write_atomically(settings, told.encode())
    return features


def _fault(path: Path) -> str:
    """What makes a file of any length useless, its name first; "" where nothing does."""
    try:
        count, full, low, high = 0, 0, np.inf, -np.inf
        for block in audio.blocks(path, 8000):
            low, high = min(low, block.min(initial=low)), max(high, block.max(initial=high))
            count, full = count + len(block), full + int((np.abs(block) >= audio.FULL).sum())
    except audio.UnusableError as error:
        return str(error)
    faults = {
        "too short": count < audio.SHORTEST * 8000,
        "silent": high - low < 2 * audio.SILENT,
        "clipped": full > audio.CLIPPED * count,
    }
    return next((f"{path} is {fault}" for fault, found in faults.items() if found), "")


def _write(part: Path, features: SparseSpeechFeatures, paths: list[Path]) -> None:
    """The codes of some files, and what was left out."""
    names, rows, faults = [], [], []
    for path in paths:
        if fault := _fault(path):
            faults.append(fault)
            print(f"left out: {fault}", file=sys.stderr)
            continue
        rows.append(features.transform([path]))
        names.append(str(path))
    width = len(features.get_feature_names_out())
    matrix = sparse.vstack([sparse.csr_matrix((0, width), dtype=np.float32), *rows], format="csr")
    sparse.save_npz(part.with_suffix(".npz"), matrix)
    write_atomically(part.with_suffix(".json"), json.dumps({"names": names, "faults": faults}).encode())


if __name__ == "__main__":
    from gossamer.cli import run_command  # pyright: ignore[reportAttributeAccessIssue]

    run_command("speech", "extract")
