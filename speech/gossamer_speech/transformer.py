"""`SparseSpeechFeatures`: scikit-learn's fit and transform, from waveforms or files to sparse codes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from gossamer import InputError
from gossamer.errors import at_least, one_of
from gossamer.nn import DeadCodes, SparseAutoencoder, Squared, TopK, explained_variance
from gossamer_speech import audio
from gossamer_speech.features import ROWS, Front, Moments, Stream

BLOCK = 64 * ROWS  # windows that are coded at once
POOLS = ("segments", "mean", "max", "moments", "pyramid", "frames")  # the last alone gives several rows an utterance
Utterance = np.ndarray | str | Path


class SparseSpeechFeatures(TransformerMixin, BaseEstimator):
    """Codes of a TopK sparse autoencoder of windows of log-mel frames, pooled over each utterance.

    An utterance is an array of samples at `rate` Hz or the path of an audio file of any rate; files are read in blocks,
    so that their length is no matter. `fit` and `partial_fit` learn without labels; `transform` gives a CSR matrix, one
    row an utterance (`pool` "mean", "max", "segments": the means of `segments` equal parts, "pyramid": those of the
    whole, its halves and its quarters, "moments": mean and deviation) or, for "frames", one row a window. What scales
    the inputs is learned and kept with the rest. `normalise` "running" knows the past alone: with it `stream` codes
    chunks of any size, bit by bit as `transform` codes the whole.
    """

    def __init__(
        self,
        codes: int = 512,
        active: int = 16,
        width: int = 9,
        stride: int = 2,
        pool: str = "segments",
        segments: int = 8,
        rate: int = 8000,
        mels: int = 40,
        normalise: str = "utterance",
        epochs: int = 3,
        batch: int = 512,
        learning_rate: float = 1e-3,
        held: int = 100_000,
        random_state: int = 0,
    ) -> None:
        self.codes, self.active, self.width, self.stride = codes, active, width, stride
        self.pool, self.segments, self.rate, self.mels, self.normalise = pool, segments, rate, mels, normalise
        self.epochs, self.batch, self.learning_rate = epochs, batch, learning_rate
        self.held, self.random_state = held, random_state

    def fit(self, X: Iterable[Utterance], y: Any = None) -> Self:
        """Learn from utterances: `epochs` passes over at most `held` of their windows, drawn evenly; y is not used."""
        self._start()
        patches = torch.from_numpy(self._evenly(X))
        if not len(patches):
            raise InputError("there is nothing to learn from: no utterance gave a window.")
        self.scale_ = max(float(patches.std()), 1e-6)
        self.autoencoder_.center(patches.div_(self.scale_))
        for _ in range(self.epochs):
            for batch in torch.randperm(len(patches), generator=self._draw).split(self.batch):
                self._step(patches[batch])
        return self

    def partial_fit(self, X: Iterable[Utterance], y: Any = None) -> Self:
        """One pass over the windows of these utterances, from what has been learned on."""
        if not hasattr(self, "autoencoder_"):
            self._start()
        for utterance in self._checked(X):
            for block in self._windows(utterance):
                patches = torch.from_numpy(block)
                if not hasattr(self, "scale_"):
                    self.scale_ = max(float(patches.std()), 1e-6)
                    self.autoencoder_.center(patches / self.scale_)
                for batch in (patches / self.scale_).split(self.batch):
                    self._step(batch)
        return self

    def transform(self, X: Iterable[Utterance]) -> sparse.csr_matrix:
        """The codes of utterances, pooled or frame by frame, float32."""
        check_is_fitted(self, "scale_")
        rows = [self._row(utterance) for utterance in self._checked(X)]
        if not rows:
            return sparse.csr_matrix((0, len(self.get_feature_names_out())), dtype=np.float32)
        return sparse.csr_matrix(sparse.vstack(rows, format="csr", dtype=np.float32))

    def stream(self, chunks: Iterable[np.ndarray]) -> Iterator[sparse.csr_matrix]:
        """The codes of windows, as chunks of samples complete them; `normalise` must be "running" or "none"."""
        check_is_fitted(self, "scale_")
        stream = Stream(self._front, self.width, self.stride)
        for chunk in chunks:
            yield self._codes(stream.push(chunk))
        yield self._codes(stream.close())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`code7` of frames, `code7_segment2` and the like of pooled codes."""
        parts = {
            "frames": [""],
            "mean": ["_mean"],
            "max": ["_max"],
            "moments": ["_mean", "_deviation"],
            "segments": [f"_segment{i}" for i in range(self.segments)],
            "pyramid": [f"_part{i}of{n}" for n in (1, 2, 4) for i in range(n)],
        }[self.pool]
        return np.array([f"code{code}{part}" for part in parts for code in range(self.codes)], dtype=object)

    def explained_variance(self, X: Iterable[Utterance]) -> float:
        """The share of the windows' variance that the codes keep, in (−∞, 1]."""
        check_is_fitted(self, "scale_")
        blocks = [block for utterance in self._checked(X) for block in self._windows(utterance)]
        patches = torch.from_numpy(np.concatenate(blocks)) / self.scale_
        with torch.inference_mode():
            return explained_variance(patches, self.autoencoder_.sparse(patches)[0])

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn is to know: codes are float32."""
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _front(self) -> Front:
        return Front(self.rate, self.mels, self.normalise)

    def _start(self) -> None:
        one_of(POOLS, pool=self.pool)
        at_least(1, codes=self.codes, active=self.active, width=self.width, stride=self.stride, segments=self.segments)
        at_least(1, epochs=self.epochs, batch=self.batch, held=self.held)
        if self.width % 2 == 0 or self.stride > self.width // 2 + 1:
            raise InputError(
                f"width is {self.width} and stride {self.stride}; the width is odd, the stride at most half of it + 1."
            )
        front = self._front
        self._draw = torch.Generator().manual_seed(self.random_state)
        self.autoencoder_ = SparseAutoencoder(self.width * front.mels, self.codes, TopK(self.active), self._draw)
        self._optimizer = torch.optim.Adam(self.autoencoder_.parameters(), self.learning_rate)
        self._dead = DeadCodes(self.autoencoder_, patience=20_000)
        self.__dict__.pop("scale_", None)

    def _evenly(self, X: Iterable[Utterance]) -> np.ndarray:
        """Every n-th window of all utterances, n a power of two, so that at most `held` (and half as many) are kept."""
        kept = np.empty((self.held, self.width * self.mels), np.float32)
        every, seen = 1, 0  # kept are the windows 0, every, 2 · every, … of those seen
        for utterance in self._checked(X):
            for block in self._windows(utterance):
                while -(-(seen + len(block)) // every) > self.held:
                    half = kept[: -(-seen // every) : 2]
                    kept[: len(half)] = half
                    every *= 2
                start = -(-seen // every)
                chosen = block[start * every - seen :: every]
                kept[start : start + len(chosen)] = chosen
                seen += len(block)
        return kept[: -(-seen // every)]

    def _step(self, x: Tensor) -> None:
        """One step on windows (n, inputs) over their scale."""
        loss, reconstruction, codes = Squared()(self.autoencoder_, x)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.autoencoder_.normalize()
        self._dead.see(codes)
        self._dead.resample(x, reconstruction.detach(), self._optimizer, self._draw)

    def _checked(self, X: Iterable[Utterance]) -> Iterator[Utterance]:
        if isinstance(X, str | Path):
            raise InputError(f"X is {str(X)!r}; give a list of utterances, even of one.")
        if sparse.issparse(X):
            raise InputError("X is a sparse matrix; samples are dense: give X.toarray(), one utterance a row.")
        if not hasattr(X, "__iter__"):
            X = np.asarray(X)
        if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "fiu":
            raise InputError(f"X is one row of {len(X)} numbers. Reshape your data: [X] is a list of one utterance.")
        for i, utterance in enumerate(X):
            if not isinstance(utterance, str | Path):
                utterance = np.asarray(utterance)
                if utterance.dtype.kind == "c":
                    raise InputError(f"X[{i}] is complex. Complex data not supported: give its real part.")
                if utterance.dtype.kind == "O":
                    utterance = utterance.astype(float)
                if utterance.ndim != 1 or utterance.dtype.kind not in "fiu":
                    raise InputError(
                        f"X[{i}] has shape {utterance.shape} and type {utterance.dtype}; give samples (n,)."
                    )
                if utterance.dtype.kind in "iu":
                    utterance = utterance / np.iinfo(utterance.dtype).max
                if not np.isfinite(utterance).all():
                    raise InputError(f"X[{i}] holds NaN or inf; samples are finite numbers.")
            yield utterance

    def _windows(self, utterance: Utterance, whole: Moments | None = None) -> Iterator[np.ndarray]:
        """The windows of an utterance, (n, width · mels), BLOCK at a time; `whole` is what `_whole` found."""
        front = self._front
        if whole is None and front.normalise not in ("running", "none"):
            whole = self._whole(utterance)
        stream = Stream(front, self.width, self.stride, whole)
        left = stream.push(np.empty(0, np.float32))
        for chunk in self._chunks(utterance):
            left = np.concatenate([left, stream.push(chunk)])
            while len(left) >= BLOCK:
                yield left[:BLOCK]
                left = left[BLOCK:]
        left = np.concatenate([left, stream.close()])
        yield from (left[start : start + BLOCK] for start in range(0, len(left), BLOCK))

    def _whole(self, utterance: Utterance) -> Moments:
        """The moments of all frames of an utterance, which are not held: it is read twice."""
        front = self._front
        stream, moments = Stream(Front(front.rate, front.mels, "none"), 1), Moments()
        for chunk in self._chunks(utterance):
            moments.push(stream.push(chunk))
        moments.push(stream.close())
        return moments

    def _chunks(self, utterance: Utterance) -> Iterable[np.ndarray]:
        if isinstance(utterance, np.ndarray):
            count = -(-len(utterance) // audio.BLOCK)
            return [part.astype(np.float32) for part in np.array_split(utterance, max(1, count))]
        return audio.blocks(Path(utterance), self.rate)

    @torch.inference_mode()
    def _codes(self, patches: np.ndarray) -> sparse.csr_matrix:
        """The codes of windows, ROWS of them at a time."""
        values, atoms, lengths = [np.empty(0, np.float32)], [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
        for start in range(0, len(patches), ROWS):
            part = patches[start : start + ROWS]
            block = np.zeros((ROWS, patches.shape[1]), np.float32)
            block[: len(part)] = part / np.float32(self.scale_)
            found = self.autoencoder_.sparse_code(torch.from_numpy(block))
            starts = found.starts[: len(part) + 1].numpy()
            values.append(found.values[: starts[-1]].numpy())
            atoms.append(found.atoms[: starts[-1]].numpy())
            lengths.append(np.diff(starts))
        parts = np.concatenate(values), np.concatenate(atoms), np.concatenate(lengths).cumsum()
        matrix = sparse.csr_matrix(parts, shape=(len(patches), self.codes))
        matrix.eliminate_zeros()
        return matrix

    def _row(self, utterance: Utterance) -> sparse.csr_matrix:
        """The pooled codes of an utterance (1, features), or all of its windows'."""
        if self.pool == "frames":
            none = sparse.csr_matrix((0, self.codes), dtype=np.float32)
            return sparse.csr_matrix(sparse.vstack([none, *map(self._codes, self._windows(utterance))]))
        whole = self._whole(utterance)
        time = -(-whole.count // self.stride)
        if not time:
            raise InputError("an utterance is empty; leave it out, or give its samples.")
        counts: Sequence[int] = {"segments": (self.segments,), "pyramid": (1, 2, 4)}.get(self.pool, (1,))
        parts = [part for n in counts for part in _parts(time, n)]
        sums, squares, most = (np.zeros((len(parts), self.codes), np.float32) for _ in range(3))
        first = 0
        for codes in map(self._codes, self._windows(utterance, whole)):
            for i, (start, stop) in enumerate(parts):
                own, share = codes[max(start - first, 0) : max(stop - first, 0)], np.float32(1 / (stop - start))
                np.add.at(sums[i], own.indices, own.data * share)
                if self.pool == "moments":
                    np.add.at(squares[i], own.indices, own.data**2 * share)
                if self.pool == "max":
                    np.maximum.at(most[i], own.indices, own.data)
            first += cast(tuple[int, int], codes.shape)[0]
        if self.pool == "max":
            return sparse.csr_matrix(most)
        if self.pool == "moments":
            sums = np.concatenate([sums, np.sqrt(np.maximum(squares - sums**2, 0))])
        return sparse.csr_matrix(sums.reshape(1, -1))


def _parts(time: int, count: int) -> list[tuple[int, int]]:
    """Start and stop of each of `count` equal parts; of fewer windows than that, one is in several."""
    starts = [min(time * i // count, time - 1) for i in range(count)]
    return [(start, max(time * (i + 1) // count, start + 1)) for i, start in enumerate(starts)]
