import numpy as np
import pytest
import torch
from torch import nn

from gossamer.nn import SparseAutoencoder, TopK, explained_variance
from gossamer_speech import encoders, learning
from gossamer_speech.config import FIXED, LEARNED, MASKED, Config
from gossamer_speech.features import cepstra, deltas
from gossamer_speech.patches import LENGTH, Features, Shape
from gossamer_speech.recogniser import Convolved, convolved

TINY = Config(codes=24, active=3, epochs=3, batch=32, width=5, bands=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def patches():
    """Mixtures of a few of sixteen directions, which a dictionary can learn."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(16, 20, generator=generator)
    weights = torch.rand(800, 16, generator=generator) * (torch.rand(800, 16, generator=generator) < 0.12)
    return weights @ directions


def with_(method, **changes):
    from dataclasses import replace

    return replace(TINY, method=method, **changes)


@pytest.mark.parametrize("method", [m for m in (*LEARNED, *FIXED) if m not in ("mfcc-13", "stacked")])
def test_every_encoder_gives_codes_not_below_zero_and_the_same_again(method, patches):
    first, second = (learning.learn(with_(method), patches) for _ in range(2))
    with torch.inference_mode():
        codes, again = first.encoder(patches), second.encoder(patches)
        assert torch.equal(codes, again) and codes.shape[0] == 800 and (codes >= 0).all() and codes.max() > 0
    assert (first.autoencoder is not None) == (method in LEARNED)
    assert (first.masking is not None) == (method in MASKED)


@pytest.mark.parametrize("method", ["topk", "batchtopk", "matryoshka", "l1", "gated", "dense", "rigl"])
def test_training_explains_variance(method, patches):
    values = []
    for epochs in (1, 12):
        model = learning.learn(with_(method, sparsity=0.5, epochs=epochs), patches).autoencoder
        assert model
        with torch.inference_mode():
            values.append(explained_variance(patches, model(patches)[0]))
    assert values[0] < values[1] and values[1] > 0.3


def test_masked_weights_are_zero_in_what_is_shipped(patches):
    trained = learning.learn(with_("rigl", sparsity=0.75), patches)
    assert trained.masking and trained.masking.sparsity == pytest.approx(0.75, abs=0.01)
    dead = ~trained.masking.masks["encoder.weight"]
    assert (trained.encoder.get_parameter("0.weight")[dead] == 0).all()


def test_small_dense_ships_as_many_parameters(patches):
    shipped = learning.learn(with_("small-dense", sparsity=0.8), patches).encoder
    assert sum(p.numel() for p in shipped.parameters()) == pytest.approx(24 * (0.2 * 20 + 1), rel=0.1)


def test_the_shipped_encoder_gives_the_autoencoders_codes():
    model = SparseAutoencoder(8, 10, TopK(3), torch.Generator().manual_seed(0))
    nn.init.normal_(model.decoder.bias)
    nn.init.normal_(model.encoder.bias)
    x = torch.randn(6, 8)
    assert torch.allclose(encoders.learned(model)(x), model.encode(x), atol=1e-4)


def signed(encoder, x):
    positive, negative = encoder(x).chunk(2, dim=-1)
    return (positive - negative).numpy()


def test_frames_and_cepstra_are_the_fields_own():
    x = torch.randn(4, 200)
    assert np.array_equal(signed(encoders.log_mel(), x), x.numpy())
    frames = x.view(4, 5, 40).numpy()
    assert np.allclose(signed(encoders.mfcc(5, 40), x), cepstra(frames, 40).reshape(4, 200), atol=1e-5)
    x = torch.randn(4, 360)
    static = cepstra(x.view(4, 9, 40).numpy(), 13)
    expected = np.concatenate([static[:, 4], deltas(static)[:, 4], deltas(deltas(static))[:, 4]], axis=1)
    assert np.allclose(signed(encoders.mfcc_13(40), x), expected, atol=1e-4)


def test_the_triangle_by_hand():
    code = encoders.Triangle(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))(torch.tensor([[0.0, 0.0]]))
    assert code.tolist() == [[2.5, 0.0]]


def test_levels_by_hand():
    z = torch.tensor([[0.0, 0.1, 0.5, 0.9, 7.0]]).T
    assert encoders.Levels(torch.ones(1), 2)(z).flatten().tolist() == [0, 1, 1, 1, 1]
    assert encoders.Levels(torch.ones(1), 3)(z).flatten().tolist() == [0, 0.5, 0.5, 1, 1]
    code = encoders.quantised(nn.Sequential(nn.Identity(), nn.ReLU()), torch.tensor([[1.0], [4.0]]), 5)
    assert code(torch.tensor([[-1.0], [2.5], [9.0]])).flatten().tolist() == [0, 3, 4]


def test_pursuit_takes_atoms_one_by_one():
    found = encoders.Pursuit(torch.eye(3), torch.zeros(3), 2)(torch.tensor([[5.0, -4.0, 1.0]]))
    assert found.tolist() == [[5, 0, 0, 0, 4, 0]]


def test_pca_finds_the_directions_in_order():
    scales = torch.tensor([1.0, 9.0, 4.0, 0.0])
    x = 5 + torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * scales
    encoder = encoders.pca(x, 3)
    assert encoder[0].weight.abs().argmax(1).tolist() == [1, 2, 0]
    assert np.abs(signed(encoder, x).mean(0)).max() < 1e-3


def test_codes_of_codes_read_the_nine_windows_of_a_patch():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(300, 9 * 12, generator=generator)
    trained = learning.learn(with_("stacked"), patches)
    encoder, second = trained.encoder, trained.autoencoder
    assert isinstance(encoder, encoders.Stacked) and second
    for row in range(3):
        window = patches.view(300, 9, 12)[:, 2 * row : 2 * row + 5, 4:8].flatten(1)
        own = encoder.first(window).sqrt()
        assert torch.allclose(encoder.inner(patches).view(300, 3, 3, 24)[:, row, 1], own, atol=1e-5)
    codes = encoder(patches)
    assert torch.allclose(codes, second.encode(trained.before(patches)), atol=1e-4)
    assert ((codes > 0).sum(1) <= 3).all() and torch.equal(
        codes, learning.learn(with_("stacked"), patches).encoder(patches)
    )


@pytest.mark.parametrize("method", ["topk", "stacked"])
def test_codes_by_convolution_are_those_of_patches(method):
    config = with_(method)
    shape = Shape.of(config)
    generator = torch.Generator().manual_seed(0)
    encoder = learning.learn(config, torch.randn(300, shape.width * shape.bands, generator=generator)).encoder
    images = torch.randn(2, LENGTH, shape.mels, generator=generator)
    body = Features(encoder, shape)
    quick = convolved(body)
    assert isinstance(quick, Convolved)
    with torch.inference_mode():
        expected = body.codes(images)
        assert expected.shape == (2, LENGTH // 2, (shape.mels - shape.bands) // 4 + 1, 24)
        torch.testing.assert_close(quick.codes(images), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(quick(images[:, None]), body(images[:, None]), atol=1e-4, rtol=1e-4)
