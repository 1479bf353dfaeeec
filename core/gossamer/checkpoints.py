"""Training checkpoints that a crash cannot tear, a flipped bit cannot pass, and no reader has to unpickle.

    checkpoints.save(path, step=step, model=model.state_dict(), optimizer=optimizer.state_dict(),
                     masking=masking.state_dict(), rng=checkpoints.rng_state(shuffle=generator))
    state = checkpoints.load(path)
    checkpoints.restore_rng(state["rng"], shuffle=generator)

    with checkpoints.Checkpoint(path, run.save) as checkpoint:      # a training that loses nothing when it is stopped
        while not run.done:
            run.step()
            checkpoint.step()

A checkpoint is what `torch.save` writes, readable by `torch.load(path, weights_only=True)`, with the SHA-256 of its
bytes as the zip archive's comment (torch itself does not check what it reads: a flipped bit loads as another weight).
"""

import hashlib
import io
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch

from gossamer.errors import InputError, Stopped
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer.results import differing

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
COMMENT = b"sha256:"
COMMENT_SIZE = len(COMMENT) + 64
ZIP_END = b"PK\x05\x06"


def save(path: str | Path, **state: Any) -> None:
    """Write the named parts of a training's state to `path` atomically: the old file stands until the new is whole.

    Parts are made of dicts, lists, tuples and sets of tensors, numbers, strings, bytes and None: what `state_dict` of
    models, optimizers, schedulers and maskings returns. Raises `InputError` naming the place of anything else.
    """
    _refuse_objects(state, "state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    if content[-22:-18] != ZIP_END:
        raise RuntimeError("torch.save no longer ends its file with a zip directory without comment")
    comment = COMMENT_SIZE.to_bytes(2, "little") + COMMENT
    digest = hashlib.sha256(content[:-2])
    digest.update(comment)
    write_atomically(Path(path), b"".join((content[:-2], comment, digest.hexdigest().encode())))


def load(path: str | Path) -> dict[str, Any]:
    """The state that `save` wrote, its tensors on the CPU; raise `InputError` where the file is not whole."""
    remedy = "Resume from an older checkpoint, or start again."
    try:
        content = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
    if content[-COMMENT_SIZE:-64] != COMMENT:
        raise InputError(f"{path} does not end as a checkpoint of gossamer does: it is cut off, or another's. {remedy}")
    if content[-64:] != hashlib.sha256(content[:-64]).hexdigest().encode():
        raise InputError(f"{path} is damaged: its checksum does not match its bytes. {remedy}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a file made to harm may raise anything here
        raise InputError(f"{path} is no checkpoint that loads without running code ({error}). {remedy}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}, not the named parts of a training. {remedy}")
    return state


class Checkpoint:
    """Keeps a run's state at `path` by `save(path)`: soon after its start, every so many seconds, and when it ends.

    Call `step` between two steps. At Ctrl-C or SIGTERM the step under way ends, the state is written and `Stopped` is
    raised; a second one stops at once. Without a path nothing is kept, and the first one stops at once. Of several
    processes the first one writes. Raises `InputError` before the run where nothing could be written at `path`.
    """

    def __init__(self, path: Path | None, save: Callable[[Path], object], every: float = 60.0) -> None:
        if path:
            refuse_unwritable(path)
        self.path, self.save, self.every = path, save, every
        self.written: float | None = None
        self.asked = False
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        ours = threading.current_thread() is threading.main_thread() and multiprocessing.parent_process() is None
        for number in (signal.SIGINT, signal.SIGTERM) if ours else ():  # a worker's parent decides for it
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self.handlers[number] = signal.signal(number, self._stop)
        return self

    def step(self) -> None:
        """To be called between two steps, where the state is whole."""
        if self.path and (self.asked or self.written is None or time.monotonic() - self.written >= self.every):
            self._write()
        if self.asked:
            raise Stopped(self._kept())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None and self.path:
                self._write()
        finally:
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
        if (kind is None and self.asked) or kind is KeyboardInterrupt:
            raise Stopped(self._kept()) from None

    def _write(self) -> None:
        assert self.path
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            self.save(self.path)
        self.written = time.monotonic()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.path:
            raise Stopped(self._kept())
        self.asked = True
        os.write(2, b"ending the step under way; once more stops at once\n")

    def _kept(self) -> str:
        if not self.path:
            return "stopped; nothing was kept (give --checkpoint FILE)"
        if self.written is None:
            return f"stopped before anything was kept in {self.path}"
        seconds = time.monotonic() - self.written
        age = f" as it was {seconds:.0f} s ago" if seconds >= 1 else ""
        return f"stopped; kept in {self.path}{age}: the same command goes on"


def same_run(saved: Mapping[str, Any], config: Any, path: str | Path, but: Collection[str] = ()) -> None:
    """Raise `InputError` naming the fields, and both values, in which a checkpoint is of another run than `config`.

    A field that the checkpoint lacks has its default; where files lie (`config.places`) and the fields `but` don't
    count.
    """
    others = {name: pair for name, pair in differing(saved, config).items() if name not in but}
    if others:
        told = ", ".join(f"{name} {there!r} (here {here!r})" for name, (there, here) in others.items())
        raise InputError(f"{path} is of another run, with {told}; name another --checkpoint, or delete it.")


def rng_state(**generators: torch.Generator | np.random.Generator) -> dict[str, Any]:
    """The state of every random generator: the global ones of Python, numpy and torch (CPU, CUDA), and those given."""
    legacy: dict[str, Any] = dict(np.random.get_state(legacy=False))  # pyright: ignore[reportArgumentType, reportCallIssue]
    return {
        "python": random.getstate(),
        "numpy": _plain(legacy),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "given": {
            name: generator.get_state()
            if isinstance(generator, torch.Generator)
            else _plain(generator.bit_generator.state)
            for name, generator in generators.items()
        },
    }


def restore_rng(state: Mapping[str, Any], **generators: torch.Generator | np.random.Generator) -> None:
    """Put back what `rng_state` returned; the same generators by the same names.

    Raises `InputError` where a generator or a GPU is missing on either side, for then the training would not go on as
    it would have.
    """
    if generators.keys() != state["given"].keys():
        raise InputError(
            f"The checkpoint holds generators {sorted(state['given'])}, not {sorted(generators)}. Give those."
        )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(state["cuda"]) != gpus:
        raise InputError(
            f"The checkpoint holds the generators of {len(state['cuda'])} GPUs; here are {gpus}. Use as many."
        )
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if gpus:
        torch.cuda.set_rng_state_all(state["cuda"])
    for name, generator in generators.items():
        if isinstance(generator, torch.Generator):
            generator.set_state(state["given"][name])
        else:
            generator.bit_generator.state = state["given"][name]


def _refuse_objects(value: Any, place: str) -> None:
    """Raise `InputError` for the first object that loading without unpickling would refuse."""
    if type(value) in PLAIN or type(value) in (torch.Tensor, torch.nn.Parameter):
        return
    if type(value) in (dict, OrderedDict, Counter):
        for key, part in value.items():
            _refuse_objects(key, f"a key of {place}")
            _refuse_objects(part, f"{place}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, part in enumerate(value):
            _refuse_objects(part, f"{place}[{index}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise InputError(f"{place} is a {kind}. A checkpoint holds tensors, numbers and strings: convert it to those.")


def _plain(value: Any) -> Any:
    """numpy's arrays and integers in a generator's state as lists and ints, which numpy takes back as well."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
