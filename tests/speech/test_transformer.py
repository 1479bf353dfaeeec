import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from gossamer import InputError
from gossamer_speech import SparseSpeechFeatures
from gossamer_speech.features import Front, windows

SMALL = SparseSpeechFeatures(codes=24, active=3, width=5, segments=3, epochs=2, batch=64)


@pytest.mark.parametrize(("pool", "width"), [("mean", 1), ("max", 1), ("segments", 3), ("pyramid", 7), ("moments", 2)])
def test_pooled_codes_are_sparse_rows_with_names(pool, width, sounds):
    features = clone(SMALL).set_params(pool=pool).fit(sounds()[0])
    found = features.transform(sounds()[0])
    assert sparse.isspmatrix_csr(found) and found.shape == (18, 24 * width) and found.dtype == np.float32
    assert len(features.get_feature_names_out()) == len(set(features.get_feature_names_out())) == 24 * width
    frames = clone(SMALL).set_params(pool="frames").fit(sounds()[0]).transform(sounds()[0][:1]).toarray()
    if pool in ("mean", "max"):
        assert np.allclose(found[0].toarray(), getattr(frames, pool)(0), atol=1e-5)


def test_all_codes_may_be_active(sounds):
    X, every = sounds()[0], clone(SMALL).set_params(codes=6, active=8)
    assert every.fit(X).transform(X).shape == (18, 18)


def test_it_clones_pipes_and_searches(sounds):
    X, y = sounds()
    pipeline = make_pipeline(clone(SMALL), LogisticRegression(C=100.0))
    search = GridSearchCV(pipeline, {"sparsespeechfeatures__active": [2, 3]}, cv=2).fit(X, y)
    assert search.score(sounds(seed=50)[0], y) > 0.9
    assert clone(SMALL).get_params() == SMALL.get_params()


def test_the_same_again_and_learning_explains_variance(sounds):
    X = sounds()[0]
    first, second = (clone(SMALL).fit(X) for _ in range(2))
    assert (first.transform(X) != second.transform(X)).nnz == 0
    longer = clone(SMALL).set_params(epochs=20).fit(X)
    assert longer.explained_variance(X) > first.explained_variance(X) and longer.explained_variance(X) > 0.5


def test_partial_fit_goes_on(sounds):
    X, features = sounds()[0], clone(SMALL)
    before = features.partial_fit(X).explained_variance(X)
    for _ in range(5):
        features.partial_fit(X)
    assert features.explained_variance(X) > before


def test_a_stream_of_chunks_gives_the_codes_of_the_whole(sounds):
    X = sounds()[0]
    features = clone(SMALL).set_params(pool="frames", normalise="running").fit(X)
    sound = np.concatenate(X)
    whole = features.transform([sound])
    parts = sparse.vstack(list(features.stream(np.split(sound, [1, 500, 501, 20_000]))), format="csr")
    assert whole.shape == parts.shape and (whole != parts).nnz == 0
    with pytest.raises(InputError, match="needs the whole"):
        list(clone(SMALL).fit(X).stream([sound]))


def test_files_are_read_at_any_rate_and_learned_from_evenly(tmp_path, sounds):
    paths = []
    for i, sound in enumerate(sounds()[0]):
        soundfile.write(tmp_path / f"{i}.wav", np.repeat(sound, 2), 16_000)
        paths.append(tmp_path / f"{i}.wav")
    features = clone(SMALL).set_params(held=50).fit(paths)
    assert features.transform(paths).shape == (18, 72)
    integers = (sounds()[0][0] * 32767).astype(np.int16)
    assert abs(features.transform([integers]) - features.transform(sounds()[0][:1])).max() < 0.1


@pytest.mark.parametrize("normalise", ["utterance", "level", "running"])
@pytest.mark.parametrize("pool", ["mean", "max", "segments", "pyramid", "moments"])
def test_blocks_give_the_bits_of_the_whole(pool, normalise, sounds):
    X = [np.concatenate(sounds()[0] * 2), sounds()[0][0], sounds()[0][0][:90]]  # of two blocks, of one, of one window
    features = clone(SMALL).set_params(pool=pool, normalise=normalise).fit(X)
    for row, sound in zip(features.transform(X).toarray(), X, strict=True):
        codes = features._codes(windows(Front(normalise=normalise).frames(sound), 5, 2))
        expected = np.concatenate([np.asarray(part).ravel() for part in pooled(codes, pool)])
        assert np.array_equal(row, expected)


def pooled(codes, pool):
    """The codes (T, codes) of an utterance, pooled by scipy."""
    T = codes.shape[0]
    for n in {"max": (), "moments": (1,), "segments": (3,), "pyramid": (1, 2, 4)}.get(pool, (1,)):
        for i in range(n):
            start = min(T * i // n, T - 1)
            yield codes[start : max(T * (i + 1) // n, start + 1)].mean(axis=0)
    if pool == "max":
        yield codes.max(axis=0).toarray()
    if pool == "moments":
        square = codes.multiply(codes).mean(axis=0)
        yield np.sqrt(np.maximum(square - np.asarray(codes.mean(axis=0)) ** 2, 0))


def test_a_long_file_takes_the_memory_of_a_short_one(tmp_path):
    draw, peaks = np.random.default_rng(0), []
    for minutes in (1, 5):
        soundfile.write(tmp_path / f"{minutes}.wav", 0.1 * draw.standard_normal(minutes * 480_000), 8000)
    features = clone(SMALL).fit([tmp_path / "1.wav"])
    for minutes in (1, 5):
        tracemalloc.start()
        features.transform([tmp_path / f"{minutes}.wav"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pool": "sum"}, "pool is 'sum'"),
        ({"width": 4}, "width is 4"),
        ({"stride": 9}, "stride 9"),
        ({"codes": 0}, "codes is 0"),
    ],
)
def test_bad_settings_are_named(wrong, message, sounds):
    with pytest.raises(InputError, match=message):
        clone(SMALL).set_params(**wrong).fit(sounds()[0])


def test_bad_inputs_are_named():
    with pytest.raises(InputError, match="give a list of utterances"):
        clone(SMALL).fit("word.wav")
    with pytest.raises(InputError, match=r"X\[0\] has shape \(2, 2\)"):
        clone(SMALL).fit([np.zeros((2, 2))])
    with pytest.raises(InputError, match="NaN or inf"):
        clone(SMALL).fit([np.full(5000, np.nan)])
    with pytest.raises(InputError, match="nothing to learn from"):
        clone(SMALL).fit([])


OPEN_LENGTH = "rows are utterances of any length, so that a matrix has no number of features to be held to"
NOT_APPLICABLE = {
    "check_n_features_in_after_fitting": OPEN_LENGTH,
    "check_n_features_in": OPEN_LENGTH,
    "check_transformer_general": OPEN_LENGTH,
    "check_estimators_empty_data_messages": "samples are not features: an empty utterance is named as one",
}


@pytest.mark.filterwarnings("ignore:SCIPY_ARRAY_API is not set")
def test_it_passes_the_checks_of_scikit_learn():
    estimator = clone(SMALL).set_params(mels=20, epochs=1)
    found = check_estimator(estimator, expected_failed_checks=NOT_APPLICABLE, on_skip=None)
    by_status = {status: {f["check_name"] for f in found if f["status"] == status} for status in ("passed", "xfail")}
    assert by_status["xfail"] == set(NOT_APPLICABLE) and len(by_status["passed"]) > 35
