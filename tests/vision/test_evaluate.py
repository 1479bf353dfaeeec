import math

import pytest
import torch

from gossamer_vision import evaluate

OUTPUTS = torch.log(torch.tensor([[0.9, 0.1], [0.75, 0.25], [0.3, 0.7], [0.45, 0.55]]))
LABELS = torch.tensor([0, 1, 1, 1])


def test_accuracy_and_confusion_by_hand():
    assert evaluate.accuracy(OUTPUTS, LABELS) == 0.75
    counts = evaluate.confusion(OUTPUTS, LABELS)
    assert counts.tolist() == [[1, 0], [1, 2]]
    assert evaluate.per_class(counts) == pytest.approx([1, 2 / 3])


def test_calibration_error_by_hand():
    # two bins, all four in the second: |3 right − 2.9 confidence| / 4
    assert evaluate.calibration_error(OUTPUTS, LABELS, bins=2) == pytest.approx(0.025, abs=1e-6)
    # five bins: 0.9 alone (right), 0.75 and 0.7 (one right), 0.55 (right): (0.1 + |1 − 1.45| + 0.45) / 4
    assert evaluate.calibration_error(OUTPUTS, LABELS, bins=5) == pytest.approx(0.25, abs=1e-6)


def test_interval_by_hand():
    # t of 2 degrees of freedom at 97.5 % is 4.302653; the deviation of 1, 2, 3 is 1
    assert evaluate.interval([1, 2, 3]) == pytest.approx(4.302653 / math.sqrt(3))
    assert math.isnan(evaluate.interval([0.5]))
    assert evaluate.mean_and_interval([0.9]) == "90.00 %"


def test_logits_leave_the_mode_as_it_was_and_do_not_depend_on_the_batch():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 3)).train()
    images = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    whole, parts = (evaluate.logits(model, images, lambda x: x / 255, batch) for batch in (7, 2))
    assert torch.allclose(whole, parts, atol=1e-6) and model.training


@pytest.mark.parametrize("name", evaluate.CORRUPTIONS)
def test_corruptions_keep_shape_and_change_pixels(name):
    images = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 4:12, 4:12] = 200
    changed = evaluate.CORRUPTIONS[name](images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert not torch.equal(changed, images)


def test_contrast_by_hand():
    images = torch.tensor([0, 200], dtype=torch.uint8).reshape(1, 1, 1, 2)
    spread = evaluate.faded(images, torch.Generator()).flatten().tolist()
    assert spread == [65, 135]  # around the mean of 100: ± 35 % of 100
