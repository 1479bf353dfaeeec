import pytest
import torch

from gossamer_vision import augment


def dots() -> torch.Tensor:
    images = torch.zeros(50, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 2, 1] = 9
    return images


def test_shifts_and_mirrors_move_pixels_only():
    generator = torch.Generator().manual_seed(0)
    moved = augment.shifted(augment.mirrored(dots(), generator), 1, generator)
    rows, columns = moved[:, 0].nonzero()[:, 1], moved[:, 0].nonzero()[:, 2]
    assert (moved == 9).sum() == 50
    assert set(rows.tolist()) == {1, 2, 3} and set(columns.tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(augment.shifted(dots(), 0, torch.Generator()), dots())


def test_spoilt_images_are_the_share_asked():
    images = torch.randint(0, 256, (400, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    changed = augment.spoilt(images, 0.5, torch.Generator().manual_seed(2))
    share = (changed != images).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)
    assert torch.equal(augment.spoilt(images, 0.0, torch.Generator()), images)


def test_distorted_images_move_little_and_their_edges_go_on():
    ramp = (torch.arange(32) * 4 + 60).expand(40, 1, 32, 32).to(torch.uint8)
    moved = augment.distorted(ramp, 2, torch.Generator().manual_seed(0))
    assert moved.dtype == torch.uint8 and moved.min() >= 60 and moved.max() <= 184  # no black comes in
    middle = moved[:, 0, 15:17, 15:17].float().mean((1, 2))
    assert 1 < (middle - 122).abs().mean() < 8  # of a shift by up to 2 pixels of 4 levels
    assert (moved[:, 0, 8, 16] != moved[:, 0, 24, 16]).float().mean() > 0.5  # turned: the columns are no longer even
    assert torch.equal(augment.distorted(ramp, 2, torch.Generator().manual_seed(0)), moved)


@pytest.mark.parametrize("policy", augment.POLICIES)
def test_policies_keep_shape_and_follow_torch_s_seed(policy):
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(3)
    changed = augment.by_policy(images, policy)
    torch.manual_seed(3)
    assert torch.equal(augment.by_policy(images, policy), changed)
    assert changed.shape == images.shape and changed.dtype == torch.uint8 and not torch.equal(changed, images)
