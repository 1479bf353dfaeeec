"""A command's options from its words, and errors that name an option as it is typed."""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, get_type_hints

import tyro

from gossamer.errors import InputError


def parse(kind: type, words: Sequence[str], **options: Any) -> Any:
    """The dataclass `kind` that the words of a command line give, by `tyro.cli`, which takes the options too.

    Raises `InputError`, in one line, for words that give none; `--help` prints and exits.
    """
    said = io.StringIO()
    try:
        with _wide(words), contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=words, **options)
    except SystemExit as exit_:
        if not exit_.code:
            raise
    with spelled(kind):
        raise InputError(_sentence(kind, said.getvalue()))


@contextlib.contextmanager
def spelled(kind: type) -> Iterator[None]:
    """Lets an `InputError` that opens with a field of `kind` name it as the command line does."""
    try:
        yield
    except InputError as error:
        flags = {field.name: flag(kind, field.name) for field in dataclasses.fields(kind)}
        text = re.sub(r"^\w+(?= is )", lambda name: flags.get(name[0], name[0]), str(error))
        raise InputError(text) from error


def flag(kind: type, name: str) -> str:
    """The option of a field, `--learning-rate`, or what `tyro.conf.arg(name=…)` calls it."""
    marks = getattr(get_type_hints(kind, include_extras=True)[name], "__metadata__", ())
    named = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
    return "--" + named.replace("_", "-")


@contextlib.contextmanager
def _wide(words: Sequence[str]) -> Iterator[None]:
    """A terminal wide enough for any message, unless it is help that is asked for."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(words):
        os.environ["COLUMNS"] = "99999"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _sentence(kind: type, box: str) -> str:
    """What a box of tyro's says, in one line: its text, and the option that it suggests where it does."""
    lines = [line.strip(" │╭╮╰╯") for line in box.splitlines()[1:]]
    parts = [list(part) for rule, part in groupby(lines, lambda line: line and not line.strip("─-")) if not rule]
    text = " ".join(parts[0]).removeprefix(f"Error parsing {kind.__name__}: ").removeprefix("Error parsing ")
    if len(parts) > 1 and parts[1][0] == "Perhaps you meant:":
        text += f" (did you mean {parts[1][1].split()[0].rstrip(',')}?)"
    return text.rstrip(".") + "."
