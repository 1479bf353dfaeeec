import pytest
import torch
import torchaudio
from torch import nn

from gossamer.nn import SparseAutoencoder, TopK
from gossamer_speech import encoders
from gossamer_speech.features import CONTEXT, INPUTS, MELS


def test_pool_by_hand():
    codes = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    assert encoders.pool(codes, 1).tolist() == [1.5, 1.0, 3.0, 4.0]
    assert encoders.pool(codes, 2).tolist() == [2.0, 0.0, 3.0, 0.0, 1.0, 2.0, 2.0, 4.0]


def test_pool_of_a_word_shorter_than_its_segments_repeats_frames():
    codes = torch.tensor([[1.0], [2.0]])
    assert encoders.pool(codes, 3).tolist() == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]


def test_pool_of_a_batch_is_that_of_each_word():
    codes = torch.randn(3, 7, 5)
    assert torch.equal(encoders.pool(codes, 3), torch.stack([encoders.pool(word, 3) for word in codes]))


def test_crelu_keeps_both_signs():
    assert encoders.CReLU()(torch.tensor([1.0, -2.0])).tolist() == [1.0, 0.0, 0.0, 2.0]


def signed(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    positive, negative = encoder(x).chunk(2, dim=-1)
    return positive - negative


def test_log_mel_is_the_frame_itself():
    x = torch.randn(4, INPUTS)
    assert torch.equal(signed(encoders.log_mel(), x), x)


def test_mfcc_is_the_cosine_transform_of_each_frame():
    x = torch.randn(4, INPUTS)
    cosines = torchaudio.functional.create_dct(13, MELS, "ortho")
    expected = torch.cat([x[:, MELS * i : MELS * (i + 1)] @ cosines for i in range(CONTEXT)], dim=1)
    assert torch.allclose(signed(encoders.mfcc(13), x), expected, atol=1e-5)


def test_pca_finds_the_directions_in_order():
    scales = torch.cat([torch.tensor([1.0, 9.0, 4.0]), torch.zeros(INPUTS - 3)])
    x = 5 + torch.randn(4000, INPUTS, generator=torch.Generator().manual_seed(0)) * scales
    encoder = encoders.pca(x, 3)
    assert encoder[0].weight.abs().argmax(1).tolist() == [1, 2, 0]
    components = signed(encoder, x)
    assert components.mean(0).abs().max() < 1e-3
    assert torch.allclose(components.std(0), torch.tensor([9.0, 4.0, 1.0]), rtol=0.05)


def test_random_relu_is_drawn_from_its_generator():
    first, second = (encoders.random_relu(8, torch.Generator().manual_seed(1))[0].weight for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, encoders.random_relu(8, torch.Generator().manual_seed(2))[0].weight)


@pytest.mark.parametrize("activation", [TopK(3), nn.ReLU()])
def test_the_shipped_encoder_gives_the_autoencoders_codes(activation):
    autoencoder = SparseAutoencoder(INPUTS, 10, activation, torch.Generator().manual_seed(0))
    nn.init.normal_(autoencoder.decoder.bias)
    nn.init.normal_(autoencoder.encoder.bias)
    x = torch.randn(6, INPUTS)
    assert torch.allclose(encoders.learned(autoencoder)(x), autoencoder.encode(x), atol=1e-4)


def test_the_recogniser_encodes_pools_and_classifies():
    classifier = nn.Linear(2 * 2 * 10, 3)
    encoder = nn.Sequential(nn.Linear(INPUTS, 10), TopK(3))
    x = torch.randn(2, 6, INPUTS)
    scores = encoders.Recogniser(encoder, 2, classifier)(x)
    assert torch.equal(scores, classifier(encoders.pool(encoder(x), 2)))
