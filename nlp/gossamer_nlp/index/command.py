"""The command that indexes a folder: what has changed is read, removed files are deleted, then the model learns."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional

from gossamer import InputError
from gossamer.errors import at_least
from gossamer.paths import folder as existing_folder
from gossamer.paths import write_atomically
from gossamer_nlp.config import ENCODER
from gossamer_nlp.index.dense import MINILM
from gossamer_nlp.index.manifest import NAME
from gossamer_nlp.readers import paths, read_file

if TYPE_CHECKING:
    from gossamer_nlp.index.index import Index

HIDDEN = ".gossamer"  # the index's folder within the folder that it indexes
FILES = "files.json"
ENOUGH = 200  # documents that are enough to learn from
LEARNED_FROM = 50_000  # documents, at most


@dataclass(frozen=True)
class Options:
    """What is indexed, and where to."""

    folder: Positional[Path]
    """the folder of files"""
    into: Path | None = None
    """the index's own folder; within the folder of files, hidden, where it is not given"""
    language: str | None = None
    """of the Snowball stemmer, for a new index: english (where it is not given), german, russian, …, or none"""
    model: Path | None = None
    """a model of `gossamer train nlp … --save` to use; without it the index learns one from the files"""
    encoder: str = "auto"
    """find by meaning too: minilm (the extra `encoder`), a sentence-transformers folder with a BERT, or none; auto is
    minilm for a new index where that is installed"""
    learn: bool = True
    """learn what counts from titles and first sentences, once there are 200 documents (again when they have doubled)"""
    memory: int = 128
    """megabytes that documents may take before they are written"""

    def __post_init__(self) -> None:
        at_least(1, memory=self.memory)


def place(folder: Path) -> Path:
    """The index that a path means: that folder, or the hidden one within it."""
    return folder if (folder / NAME).exists() else folder / HIDDEN


def main(options: Options) -> None:
    """Bring the index up to date with the folder."""
    from gossamer_nlp.index.index import Index
    from gossamer_nlp.model import Lexical, load
    from gossamer_nlp.text import Analyzer

    existing_folder(options.folder, "a folder of files to index")
    console = Console(stderr=True, soft_wrap=True)
    into = options.into or options.folder / HIDDEN
    analyzer = Analyzer(options.language or "english")
    given = load(options.model) if options.model else None
    memory = options.memory * 2**20
    encoder = chosen(options.encoder, new=not (into / NAME).exists())
    if (into / NAME).exists():
        index = Index.open(into, write=True, memory=memory)
        if options.language and given is None and index.model.analyzer != analyzer:
            index.close()
            raise InputError(
                f"language is {options.language!r}, and {into} is an index of {index.model.analyzer.language}: name "
                "another folder with --into, or remove this one first."
            )
    else:
        index = Index.create(into, given or Lexical(analyzer), encoder=encoder, memory=memory)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    with index:
        if encoder:
            say(f"documents are encoded by {encoder}, some dozens a second (--encoder none finds words alone)")
        update(index, options.folder, say, console)
        if encoder and not index.encodes(encoder):
            index.use(index.model, encoder)
        if given is not None and given.about != index.model.about:
            index.use(given)
        elif options.learn and given is None and worth_learning(index):
            learn(index, say)
        else:
            index.commit()
        again = options.folder if options.into is None else into
        say(f'{len(index):,} documents in {into}. Search them: gossamer nlp search {again} "…"')


def chosen(encoder: str, new: bool) -> str | None:
    """The encoder that an option means, None where words alone are found, or an index keeps what it has."""
    if encoder == "auto":
        return MINILM if new and find_spec(ENCODER) else None
    return None if encoder == "none" else encoder


def update(index: "Index", folder: Path, say: Callable[[str], None], console: Console) -> None:
    """Add what is new or has changed, delete what is gone; which files are in is kept every few seconds."""
    record = index.folder / FILES
    try:
        known: dict[str, list[int]] = json.loads(record.read_bytes())
    except (OSError, ValueError):
        known = {}
    found = {path.relative_to(folder).as_posix(): path for path in paths(folder) if index.folder not in path.parents}
    for name in known.keys() - found.keys():
        index.delete(ids(name, known.pop(name)[2]))
    stamps = {name: stamp(path) for name, path in found.items()}
    changed = [name for name in found if known.get(name, [])[:2] != stamps[name]]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    waiting: list[tuple[str, list[int]]] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("files", total=len(changed))
        batch: list[dict[str, str]] = []
        for name in changed:
            index.delete(ids(name, known.get(name, [0, 0, -1])[2]))
            last = -1
            for document in read_file(found[name], folder, say):
                batch.append(document)
                _, colon, line = document["id"].removeprefix(name).rpartition(":")
                last = max(last, int(line) if colon else 0)
                if len(batch) >= 1000:
                    index.add(batch)
                    batch = []
            waiting.append((name, [*stamps[name], last]))
            if len(waiting) >= 500:
                index.add(batch)
                batch = []
                known.update(waiting)
                waiting = []
                write_atomically(record, json.dumps(known).encode())
            progress.advance(task)
        index.add(batch)
    known.update(waiting)
    write_atomically(record, json.dumps(known).encode())
    say(f"{len(changed):,} of {len(found):,} files read")


def stamp(path: Path) -> list[int]:
    """What changes when a file does: its size and its time."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def ids(name: str, last: int) -> list[str]:
    """The ids that a file's documents can have: its name, or with a line up to the last; −1 is a file without any."""
    return [] if last < 0 else [name, *(f"{name}:{line}" for line in range(1, last + 1))]


def worth_learning(index: "Index") -> bool:
    """Whether there are enough documents, and twice as many as the model has learned from; a given model stays."""
    if "collection" in index.model.about and "documents" not in index.model.about:
        return False
    return len(index) >= max(ENOUGH, 2 * int(index.model.about.get("documents", 0)))


def learn(index: "Index", say: Callable[[str], None]) -> None:
    """Learn term weights from the documents' own titles and first sentences, and weigh all documents by them."""
    from gossamer_nlp.label_free import learned

    say("learning from titles and first sentences what counts (--no-learn leaves it out)")
    sample: list[tuple[str, dict[str, str]]] = []
    for names, fields in index.documents():
        sample += zip(names, map(dict, fields), strict=True)
        if len(sample) >= LEARNED_FROM:
            break
    try:
        model = learned(sample, index.model, say)
    except InputError as error:
        say(f"nothing learned: {error}")
        return
    model.about["documents"] = len(index)
    index.use(model)
