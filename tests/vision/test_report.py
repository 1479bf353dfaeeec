import dataclasses

import pytest
import torch

from gossamer.results import Result
from gossamer_vision import report


def test_a_mask_is_kept_as_the_share_alive_of_its_parts():
    mask = torch.zeros(48, 8, 4, 4, dtype=torch.bool)
    mask[:2] = True  # the first row of 24
    mask[2:4, :4] = True  # the left half of the second
    kept = report.kept({"conv": mask, "head": torch.ones(2, 3, dtype=torch.bool)})["masks"]
    assert kept["conv"][:2] == ["f" * 64, "f" * 32 + "0" * 32] and set(kept["conv"][2]) == {"0"}
    assert kept["head"] == ["fff", "fff"] and report.kept({}) == {}


def test_the_page_shows_the_masks_of_the_best_sparse_run():
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    fields = {field.name: 0 for field in dataclasses.fields(Result)}
    masks = report.kept({"conv": torch.eye(8, dtype=torch.bool)})
    made = [
        Result(**{**fields, "method": method, "value": value, "sparsity": 0.875, "extra": extra})
        for method, value, extra in (("gmp", 0.9, masks), ("rigl", 0.8, masks), ("dense", 0.95, {}))
    ]
    ((caption, svg),) = report.pictures(made).items()
    assert caption.startswith("Masks of gmp 87.5%") and b"<svg" in svg
    assert report.pictures(made[2:]) == {}
