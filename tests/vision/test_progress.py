import pytest
import torch

from gossamer_vision.progress import averaging, one_cycle


def test_one_cycle_by_hand():
    assert one_cycle(0) == 0.04 and one_cycle(0.1) == pytest.approx(0.52) and one_cycle(0.2) == 1
    assert one_cycle(0.6) == pytest.approx(0.5) and one_cycle(1) == pytest.approx(0, abs=1e-12)


def test_averages_follow_by_their_decay_and_whole_numbers_are_copied():
    averaged = [torch.tensor([1.0])], [torch.tensor([4, 9], dtype=torch.int32)]
    current = [torch.tensor([3.0])], [torch.tensor([5, 6], dtype=torch.int32)]
    for own, new in zip(averaged, current, strict=True):
        averaging(0.9)(own, new, 1)
    assert averaged[0][0].item() == pytest.approx(1.2) and averaged[1][0].tolist() == [5, 6]
