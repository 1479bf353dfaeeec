from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gossamer import InputError
from gossamer_speech import evaluate
from gossamer_speech.encoders import Recogniser, linear
from gossamer_speech.features import INPUTS
from gossamer_speech.train import LEARNED, MASKED, METHODS, Config, codes_of_equal_size, train

TINY = Config(codes=40, active=4, epochs=3, batch=32, learning_rate=3e-3)


@pytest.fixture(scope="module")
def frames():
    """Mixtures of two of sixteen directions, which a dictionary can learn."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(16, INPUTS, generator=generator)
    weights = torch.rand(600, 16, generator=generator) * (torch.rand(600, 16, generator=generator) < 0.12)
    return weights @ directions


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "top-k"}, r"method is 'top-k'; did you mean 'topk'"),
        ({"data": "fsd"}, r"data is 'fsd'; did you mean 'fsdd'"),
        ({"sparsity": 1.0}, r"sparsity is 1\.0; it must be in \[0, 1\)"),
        ({"sparsity": -0.1}, r"sparsity is -0\.1"),
        ({"sparsity": float("nan")}, r"sparsity is nan"),
        ({"codes": 0}, r"codes is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; it must be above 0"),
        ({"snr": float("inf")}, r"snr is inf; it must be a finite number"),
        ({"data_dir": Path("recordings")}, r"data_dir is recordings, but .*'espeak'.*'fsdd' or 'folder'"),
    ],
)
def test_bad_values_are_named_with_the_remedy(wrong, message):
    with pytest.raises(InputError, match=message):
        Config(**wrong)


@pytest.mark.parametrize("method", METHODS)
def test_every_encoder_gives_as_many_codes(method, frames):
    config = Config(method=method, epochs=1)
    trained = train(config, frames, classes=20)
    width = trained.encoder(frames[:2]).shape[1]
    assert width == (codes_of_equal_size(config, 20) if method == "small-dense" else 400)
    assert (trained.autoencoder is not None) == (method in LEARNED)
    assert (trained.masking is not None) == (method in MASKED)


@pytest.mark.parametrize("method", LEARNED)
def test_training_explains_variance(method, frames):
    config = replace(TINY, method=method, sparsity=0.5)
    short, long = (train(replace(config, epochs=n), frames, 20).autoencoder for n in (1, 8))
    assert short and long
    before, after = (evaluate.dictionary(a, frames, frames)["explained_variance"] for a in (short, long))
    assert before < after and after > 0.2


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_encoder(method, frames):
    first, second = (train(replace(TINY, method=method), frames, 20).encoder(frames) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("method", [*LEARNED, "random-relu"])
def test_another_seed_gives_another_encoder(method, frames):
    first, second = (train(replace(TINY, method=method, seed=s), frames, 20).encoder(frames) for s in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("method", MASKED)
def test_masked_weights_are_zero_in_what_is_shipped(method, frames):
    trained = train(replace(TINY, method=method, sparsity=0.75), frames, 20)
    assert trained.masking and trained.autoencoder
    assert trained.masking.sparsity == pytest.approx(0.75, abs=1e-3)
    dead = ~trained.masking.masks["encoder.weight"]
    assert (trained.encoder.get_parameter("0.weight")[dead] == 0).all()
    assert (trained.autoencoder.decoder.weight[~trained.masking.masks["decoder.weight"]] == 0).all()


def test_rigl_moves_its_masks_and_static_random_does_not(frames):
    early, late = ({m: train(replace(TINY, method=m, epochs=n), frames, 20).masking for m in MASKED} for n in (1, 8))
    for method, moves in (("rigl", True), ("static-random", False)):
        first, second = early[method], late[method]
        assert first and second
        same = all(torch.equal(first.masks[name], second.masks[name]) for name in first.masks)
        assert same != moves


def test_the_decoder_keeps_columns_of_unit_length(frames):
    trained = train(replace(TINY, method="topk"), frames, 20)
    assert trained.autoencoder
    assert torch.allclose(trained.autoencoder.decoder.weight.norm(dim=0), torch.ones(40))


def test_topk_codes_are_sparse(frames):
    assert evaluate.active_codes(train(replace(TINY, method="topk"), frames, 20).encoder, frames) <= 4


def test_small_dense_ships_as_many_parameters_as_the_sparse_ones(frames):
    # a code costs 200 weights, a bias and 2 · 3 · 20 weights in the classifier; sparse ones keep 40 + 1 + 120
    config = Config(method="small-dense", sparsity=0.8)
    codes = codes_of_equal_size(config, classes=20)
    assert codes == round(400 * (40 + 1 + 120) / (200 + 1 + 120)) == 201
    shipped = Recogniser(train(config, frames, 20).encoder, 3, linear(torch.zeros(20, 6 * codes), torch.zeros(20)))
    assert sum(p.numel() for p in shipped.parameters()) == pytest.approx(400 * (40 + 1 + 120) + 20, rel=0.005)


def test_progress_is_told(frames):
    lines: list[str] = []
    train(TINY, frames, 20, lines.append)
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
