"""An index of documents in a folder: added, deleted, searched and explained; nothing acknowledged is ever lost."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer import InputError
from gossamer.errors import at_least
from gossamer_nlp import arrays
from gossamer_nlp.index import folder as files
from gossamer_nlp.index import log, merging, neighbours
from gossamer_nlp.index.dense import Dense, Encoder
from gossamer_nlp.index.manifest import FORMAT, NAME, Lock, Manifest, said
from gossamer_nlp.index.pending import Pending, recorded
from gossamer_nlp.index.reader import BATCH, Reader
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.model import Lexical

MEMORY = 128 * 2**20  # bytes that documents may take until they are written
MOST_PENDING = 2**15
MERGING = 4  # times that memory may be taken by merging in the background


class Index(Reader):
    """A sparse inverted index in a folder, with one writer at a time and any number of readers beside it.

    `add` and `delete` return once the change is on the disk (write-ahead log, fsync): a process that is killed at any
    moment loses nothing that they acknowledged. Changes become segments in passing; small segments are merged in the
    background. A reader sees one consistent state, of the moment it was opened or told to `refresh`.
    """

    def __init__(self, folder: Path, lock: Lock | None, memory: int, encoder: Encoder | None = None) -> None:
        at_least(2**20, memory=memory)
        super().__init__(folder, lock, encoder)
        self.memory = memory
        self._merging: threading.Thread | None = None
        self._numbers = itertools.count(files.last(folder) + 1)
        self._log: log.Log | None = None
        if lock is not None:
            self._log = log.Log(folder / "logs" / self.manifest.log)
            files.clean(folder, self.manifest)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: Lexical | None = None,
        *,
        encoder: Encoder | str | Path | None = None,
        memory: int = MEMORY,
    ) -> "Index":
        """A new index in a folder that holds none, open for writing; the model is BM25 over English stems by default.

        encoder: what a text means besides its words: "minilm" (the extra `encoder`), a sentence-transformers folder, or
        any function from texts to vectors (N, D). memory: bytes that documents may take before they are written as a
        segment, 1 MiB at least; merging in the background takes four times that besides, at most.
        """
        dense = None if encoder is None else Dense.of(encoder)
        folder = Path(folder)
        if (folder / NAME).exists():
            raise InputError(f"{folder} holds an index already; open it: Index.open(folder, write=True).")
        with said(folder):
            for name in ("segments", "logs"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            lock = Lock(folder)
            try:
                manifest = dataclasses.replace(Manifest(), **described(dense))
                (model or Lexical()).save(folder / manifest.model)
                (folder / "logs" / manifest.log).touch()
                arrays.sync_folder(folder / "logs")
                manifest.save(folder)
                return cls(folder, lock, memory, dense.encoder if dense else None)
            except BaseException:
                lock.release()
                raise

    @classmethod
    def open(
        cls, folder: str | Path, *, encoder: Encoder | None = None, write: bool = False, memory: int = MEMORY
    ) -> "Index":
        """The index in a folder, to search, or to write too; `InputError` where another process writes it.

        encoder: the function that it was made with, where that was one of your own.
        """
        folder = Path(folder)
        Manifest.load(folder)
        lock = Lock(folder) if write else None
        try:
            return cls(folder, lock, memory, encoder)
        except BaseException:
            if lock:
                lock.release()
            raise

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending as a segment, and let others write. Not to call it loses nothing."""
        if self._lock is None:
            return
        self.commit()
        if self._merging:
            self._merging.join()
        self._written().close()
        self._lock.release()
        self._lock = self._log = None

    def add(self, documents: Iterable[Mapping[str, Any]]) -> int:
        """Add documents, or replace those with the same id; how many. Each is durable when this returns.

        A document has an "id" (text) and text under the model's fields ("title", "text"); what else it has is stored,
        and comes back with a hit. An iterable of any length is taken in batches of 1,000, each wholly or not at all:
        where it raises (a full disk, a document without id), the batches before are there, and this one is not.
        """
        count = 0
        stream = iter(documents)
        while batch := list(itertools.islice(stream, BATCH)):
            try:
                self._add([checked(document) for document in batch])
            except InputError as error:
                before = f" The {count:,} documents before it were added." if count else ""
                raise InputError(f"{error}{before}") from error
            count += len(batch)
        return count

    def _add(self, records: list[dict[str, Any]]) -> None:
        """Add a batch; memory is freed first, so that nothing can fail once the log has it."""
        self._written()
        records = list({record["id"]: record for record in records}.values())  # of one id the last
        record: dict[str, Any] = {"add": records}
        if self.dense:
            record["vectors"] = log.text(self.dense.vectors(texts(self.model, records)))
        with self._mutex:
            if self.model.network is not None:
                record["read"] = recorded(self.model, records)
            if self._pending.bytes > self.memory or len(self._pending.ids) >= MOST_PENDING:
                self.commit()
            self._written().append(record)
            self._apply(record)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents; how many of the ids were there."""
        names = list(dict.fromkeys(ids))
        with self._mutex:
            there = [name for name in names if name in self]
            if there:
                self._written().append({"delete": there})
                self._apply({"delete": there})
        return len(there)

    def _written(self) -> log.Log:
        if self._log is None:
            raise InputError(f"{self.folder} is open for reading; open it with Index.open(folder, write=True).")
        return self._log

    def commit(self) -> None:
        """Write what is pending as a segment, and start a new log. Called when memory is full, and by `close`."""
        with self._mutex:
            if self._written().end == 0:
                return
            old = self._written()
            segments = list(self._segments)
            manifest = self.manifest
            if self._pending.alive:
                segment = self._pending.segment(manifest.lengths, manifest.documents, self._name())
                segments.append(files.saved(self.folder, segment))
            self._publish(segments, new_log=True)
            old.close()
            files.remove(old.path)
            self._merge()

    def use(self, model: Lexical, encoder: Encoder | str | Path | None = None) -> None:
        """Weigh all documents anew by another model, from their stored fields; readers see the change all at once.

        With an encoder their vectors are made anew too; what it has encoded is kept in the cache, if it is stopped.
        Where the model has `neighbours`, each document gets terms of its nearest; one added later gets none until then.
        """
        dense = self.dense if encoder is None else Dense.of(encoder)
        with self._mutex:
            self.commit()
        if self._merging:
            self._merging.join()
        with self._mutex:
            made, lengths, documents = [], np.zeros(len(model.fields)), 0
            for ids, fields, vectors in self.state().documents(MOST_PENDING):
                if dense and encoder is not None:
                    vectors = dense.vectors(texts(model, fields), cached=True)
                part = Pending(model)
                part.add(ids, fields, vectors)
                segment = part.segment(tuple(lengths.tolist()), documents, self._name())
                made.append(files.saved(self.folder, segment))
                lengths, documents = lengths + part.lengths(), documents + len(ids)
            if made and model.neighbours:
                plain, wide = made, neighbours.widened(made, model.neighbours, model.borrowed, self.folder, self._name)
                made = [files.saved(self.folder, segment) for segment in wide]
                files.remove(*(self.folder / "segments" / f"{own.name}.segment" for own in plain))
            name = f"model-{self.manifest.generation + 1}.gossamer"
            with said(self.folder):
                model.save(self.folder / name)
            old, self.model, self.dense, self._model = self.manifest, model, dense, name
            self._pending = Pending(model)
            changes = {"model": name, "lengths": tuple(lengths.tolist()), "documents": documents}
            self._publish(made, new_log=True, **changes, **described(dense))
            gone = (*(f"segments/{own}.segment" for own in old.segments), f"logs/{old.log}", old.model)
            files.remove(*(self.folder / path for path in gone))

    def encodes(self, encoder: str | Path) -> bool:
        """Whether the documents' vectors are those of this encoder, by its weights."""
        return self.dense is not None and Dense.of(encoder).sha256 == self.dense.sha256

    def _name(self) -> str:
        """A segment's name that no other has had."""
        return f"{next(self._numbers):06d}"

    def _publish(self, segments: list[Segment], new_log: bool, **changes: Any) -> None:
        """Make these the index's segments, with their deletions as they are now; with a new log, all is in them."""
        generation, written = self.manifest.generation + 1, None
        with said(self.folder):
            deletions = tuple(files.save_deletions(self.folder, segment, generation) for segment in segments)
            if new_log:
                lengths = self._pending.lengths() + (np.array(self.manifest.lengths) if self.manifest.lengths else 0)
                path = self.folder / "logs" / f"{generation:06d}.log"
                written = log.Log(path)
                arrays.sync_folder(path.parent)
                documents = self.manifest.documents + len(self._pending.ids)
                own = {"log": path.name, "lengths": tuple(np.ravel(lengths).tolist()), "documents": documents}
                changes = own | changes
        names = tuple(segment.name for segment in segments)
        manifest = dataclasses.replace(
            self.manifest, generation=generation, segments=names, deletions=deletions, **changes
        )
        manifest.save(self.folder)
        old = [self.folder / "segments" / name for name in self.manifest.deletions if name]
        self.manifest, self._segments = manifest, segments
        if written is not None:
            self._log, self._pending = written, Pending(self.model)
        files.remove(*old)

    def _merge(self) -> None:
        """Begin to merge in the background where there are many segments and nothing is merged yet."""
        if self._merging and self._merging.is_alive():
            return
        if sources := merging.chosen(self._segments, MERGING * self.memory):
            name = self._name()
            self._merging = threading.Thread(target=self._merge_now, args=(sources, name))
            self._merging.start()

    def _merge_now(self, sources: Sequence[Segment], name: str) -> None:
        """Replace segments by their merger, in which what was deleted meanwhile is gone too."""
        with contextlib.suppress(InputError):  # a full disk: all stays as it is, and the next commit tries again
            before = [dataclasses.replace(segment) for segment in sources]
            for copy, segment in zip(before, sources, strict=True):
                copy.gone[:] = segment.gone
            made, numbers = merging.merged(before, name)
            made = files.saved(self.folder, made)
            own = {segment.name for segment in sources}
            with self._mutex:
                for segment, copy, number in zip(sources, before, numbers, strict=True):
                    made.gone[number[(segment.gone == 1) & (copy.gone == 0)]] = 1
                rest = [segment for segment in self._segments if segment.name not in own]
                self._publish([made, *rest], new_log=False)
            files.remove(*(self.folder / "segments" / f"{old}.segment" for old in own))


def checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document that can be stored; `InputError` where its id is no text."""
    name = document.get("id")
    if not isinstance(name, str) or not name:
        raise InputError(f"a document's id is {name!r}; it must be text, and not empty.")
    return {key: value for key, value in document.items()}


def texts(model: Lexical, documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Documents as an encoder reads them: their fields, a line each."""
    return ["\n".join(text for text in model.texts(document) if text) for document in documents]


def described(dense: Dense | None) -> dict[str, Any]:
    """What the manifest says of an encoder."""
    if dense is None:
        return {}
    own = {"encoder": dense.name, "encoder_sha256": dense.sha256, "dimensions": dense.dimensions}
    return {**own, "format": FORMAT}
