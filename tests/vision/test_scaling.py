import pytest
import torch

from gossamer_vision.scaling import evened, moments, scaled, tint


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_by_moments_of_the_training_part():
    mean, std = moments(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    assert (mean, std) == ((0.5,), (0.5,))
    floats = scaled(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), mean, std)
    assert floats.flatten().tolist() == pytest.approx([-1, -0.6, 1])


def test_by_each_picture_s_own_by_hand():
    picture = torch.tensor([[0.0, 0.2], [0.4, 0.6]])[None].reshape(1, 2, 1, 2)  # means 0.1 and 0.5, all 0.1 from them
    assert torch.allclose(evened(picture), torch.tensor([[-1.0, 1], [-1, 1]]).reshape(1, 2, 1, 2))


def test_a_negative_is_its_picture_and_a_symmetric_one_is_kept():
    dark_dot = torch.tensor([[0.8, 0.8, 0.8, 0.0], [0.1, 0.1, 0.1, 0.5]]).reshape(1, 2, 1, 4)
    assert torch.allclose(evened(dark_dot), evened(1 - dark_dot), atol=1e-6)
    assert (evened(dark_dot)[..., 3] > 0).all()
    even = torch.tensor([0.2, 0.8]).reshape(1, 1, 1, 2)
    assert torch.allclose(evened(even).flatten(), torch.tensor([-1.0, 1]))


def test_brightness_tint_and_contrast_are_gone_and_blank_pictures_stay_finite():
    dim = pictures(4) // 4
    tinted = dim * 2 + torch.tensor([5, 60, 100], dtype=torch.uint8)[:, None, None]
    assert torch.allclose(scaled(dim, (), ()), scaled(tinted, (), ()), atol=1e-4)
    assert scaled(torch.full((1, 3, 4, 4), 77, dtype=torch.uint8), (), ()).abs().max() < 1e-3


def test_tint_tells_classes_of_different_colours_and_not_noise():
    labels = torch.arange(60) % 3
    share, by_chance = tint(pictures(60), labels)
    assert by_chance and share < 0.6
    bright = (pictures(60) // 2).float() + 40 * labels[:, None, None, None]
    assert tint(bright.to(torch.uint8), labels) == (1.0, False)
