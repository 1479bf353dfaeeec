import pytest
import torch

from gossamer_vision import corruptions


def images() -> torch.Tensor:
    found = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    found[:, :, 4:12, 4:12] = 200
    return found


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_corruptions_keep_shape_and_change_pixels_alike_on_every_call(name):
    changed = corruptions.corrupted(name, images())
    assert changed.shape == images().shape and changed.dtype == torch.uint8
    assert not torch.equal(changed, images())
    assert torch.equal(changed, corruptions.corrupted(name, images()))


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_no_strength_changes_nothing(name):
    assert torch.equal(corruptions.CORRUPTIONS[name](images(), 0.0, torch.Generator()), images())


def test_contrast_by_hand():
    pair = torch.tensor([0, 200], dtype=torch.uint8).reshape(1, 1, 1, 2)
    spread = corruptions.faded(pair, 0.65, torch.Generator()).flatten().tolist()
    assert spread == [65, 135]  # around the mean of 100: ± 35 % of 100
