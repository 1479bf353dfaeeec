"""An index as it is read: the state of one moment, searched, explained, and brought up to date."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer import InputError
from gossamer.errors import at_least, within
from gossamer_nlp.config import WEIGHT
from gossamer_nlp.index import folder as files
from gossamer_nlp.index import log
from gossamer_nlp.index.dense import Dense, Encoder
from gossamer_nlp.index.manifest import Lock, Manifest
from gossamer_nlp.index.pending import Pending
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.index.state import Hit, Match, State
from gossamer_nlp.model import Lexical, load

BATCH = 1000


class Reader:
    """What an index does without its lock; `Index` writes too."""

    manifest: Manifest
    model: Lexical
    dense: Dense | None = None
    _model = ""  # the file that the model is from
    _segments: list[Segment]
    _pending: Pending
    _followed: log.Follower

    def __init__(self, folder: Path, lock: Lock | None, encoder: Encoder | None) -> None:
        self.folder = folder
        self._lock, self._mutex = lock, threading.RLock()
        self._encoder = encoder
        self._load()

    def __len__(self) -> int:
        """How many documents there are."""
        with self._mutex:
            return sum(segment.alive for segment in self._segments) + len(self._pending.alive)

    def __contains__(self, name: str) -> bool:
        with self._mutex:
            return name in self._pending.alive or any(segment.find(name) >= 0 for segment in self._segments)

    def documents(self, batch: int = BATCH) -> Iterator[tuple[list[str], Sequence[Mapping[str, Any]]]]:
        """Ids and stored fields of all documents, some at a time."""
        return ((ids, fields) for ids, fields, _ in self.state().documents(batch))

    def search(self, query: str, k: int = 10, *, slack: float = 1.0, meaning: float = WEIGHT) -> list[Hit]:
        """The k documents with the best scores above 0, best first; fewer where fewer have a term of the query.

        In an index with an encoder score = Σ_t q_t d_t / Σ_t q_t + meaning · max(0, cos), words and vectors in a convex
        combination (Bruch et al. 2023) but for a constant; with a meaning of 0 words count alone, as without encoder.

        slack: 1 finds the exact best; less is faster and may miss some (the README says how many).
        """
        at_least(1, k=k)
        within(0.0, 1.0, slack=slack)
        at_least(0.0, meaning=meaning)
        state = self.state()
        return state.search(state.asked(query, meaning), k, slack)

    def explain(self, query: str, name: str, *, meaning: float = WEIGHT) -> list[Match]:
        """What each term of a query, and its meaning, adds to a document's score, most first; the sum is the score."""
        state = self.state()
        found = state.explain(state.asked(query, meaning), name)
        if found is None:
            raise InputError(f"there is no document {name!r} in {self.folder}.")
        return found

    def vectors(self) -> tuple[list[str], scipy.sparse.csr_array, NDArray[np.uint64], NDArray[np.float64]]:
        """All documents' ids, vectors (N, D) as they are stored, the dimensions' keys, and the idf of each (D,)."""
        return self.state().vectors()

    def refresh(self) -> None:
        """See what has been written since the index was opened, by whatever process."""
        with self._mutex:
            if self._lock is None and not self._go_on():
                self._load()

    def _go_on(self) -> bool:
        """Take in what the log has more; False where the state has changed in another way too."""
        try:
            records = self._followed.new() if Manifest.load(self.folder) == self.manifest else None
        except FileNotFoundError:
            return False
        for record in records or ():
            self._apply(record)
        return records is not None

    def _load(self) -> None:
        """Read the state; again where a writer has replaced it meanwhile."""
        for _ in range(1000):
            manifest = Manifest.load(self.folder)
            try:
                segments = [
                    files.opened(self.folder, *names)
                    for names in zip(manifest.segments, manifest.deletions, strict=True)
                ]
                if manifest.model != self._model:
                    self.model, self._model = load(self.folder / manifest.model), manifest.model
                self._followed = log.Follower(self.folder / "logs" / manifest.log)
                records = self._followed.new() or ()
            except FileNotFoundError:
                continue
            self.manifest, self._segments, self._pending = manifest, segments, Pending(self.model)
            own = (manifest.encoder, manifest.encoder_sha256, manifest.dimensions)
            dense = Dense(*own, self._encoder) if manifest.encoder else None
            if self.dense != dense:  # else one that is loaded stays
                self.dense = dense
            for record in records:
                self._apply(record)
            return
        raise InputError(f"{self.folder} lacks files that its index.json names; restore it, or index the folder anew.")

    def _apply(self, record: Mapping[str, Any]) -> None:
        """Make a record of the log true in memory; of documents with one id in it the last counts."""
        added = record.get("add", ())
        latest = {document["id"]: row for row, document in enumerate(added)}
        for name in (*latest, *record.get("delete", ())):
            if not self._pending.delete(name):
                for segment in self._segments:
                    if (number := segment.find(name)) >= 0:
                        segment.gone[number] = 1
        if latest:
            rows, vectors = list(latest.values()), None
            if "vectors" in record:
                vectors = log.numbers(record["vectors"], np.int8).reshape(len(added), -1)[rows]
            self._pending.add(list(latest), [added[row] for row in rows], vectors, record.get("read"))

    def state(self) -> State:
        """The documents of this moment, what is pending as the last segment."""
        with self._mutex:
            segments = list(self._segments)
            if self._pending.alive:
                segments.append(self._pending.segment(self.manifest.lengths, self.manifest.documents))
            return State(segments, self.model, self.dense)
