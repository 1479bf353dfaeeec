import math

import pytest
import torch

from gossamer_vision import metrics

OUTPUTS = torch.log(torch.tensor([[0.9, 0.1], [0.75, 0.25], [0.3, 0.7], [0.45, 0.55]]))
LABELS = torch.tensor([0, 1, 1, 1])


def test_accuracy_and_confusion_by_hand():
    assert metrics.accuracy(OUTPUTS, LABELS) == 0.75
    counts = metrics.confusion(OUTPUTS, LABELS)
    assert counts.tolist() == [[1, 0], [1, 2]]
    assert metrics.per_class(counts) == pytest.approx([1, 2 / 3])


def test_calibration_error_by_hand():
    # two bins, all four in the second: |3 right − 2.9 confidence| / 4
    assert metrics.calibration_error(OUTPUTS, LABELS, bins=2) == pytest.approx(0.025, abs=1e-6)
    # five bins: 0.9 alone (right), 0.75 and 0.7 (one right), 0.55 (right): (0.1 + |1 − 1.45| + 0.45) / 4
    assert metrics.calibration_error(OUTPUTS, LABELS, bins=5) == pytest.approx(0.25, abs=1e-6)


def test_interval_by_hand():
    # t of 2 degrees of freedom at 97.5 % is 4.302653; the deviation of 1, 2, 3 is 1
    assert metrics.interval([1, 2, 3]) == pytest.approx(4.302653 / math.sqrt(3))
    assert math.isnan(metrics.interval([0.5]))
    assert metrics.mean_and_interval([0.9]) == "90.00 %"


def test_logits_leave_the_mode_as_it_was_and_do_not_depend_on_the_batch():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 3)).train()
    images = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    whole, parts = (metrics.logits(model, images, lambda x: x / 255, batch) for batch in (7, 2))
    assert torch.allclose(whole, parts, atol=1e-6) and model.training


def test_near_chance_by_hand():
    labels = torch.tensor([0] * 50 + [1] * 50)
    # chance is 0.5 ± 0.05; two standard errors end at 0.6
    assert metrics.near_chance(0.59, labels) and not metrics.near_chance(0.61, labels)
    # always naming the most frequent class is right 90 times in 100, ± 3
    assert metrics.near_chance(0.95, torch.tensor([0] * 90 + [1] * 10))
    # with many images the way decides: an eighth of that from a quarter to one ends at 0.34375
    many = torch.arange(4).repeat(2500)
    assert metrics.near_chance(0.343, many) and not metrics.near_chance(0.345, many)
