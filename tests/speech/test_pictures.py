import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer import InputError
from gossamer_speech import pictures
from gossamer_speech.config import Config
from gossamer_speech.train import run


def test_a_page_shows_and_plays_codes_and_needs_nothing_else(folder, tmp_path):
    config = Config(data="folder", data_dir=folder, codes=16, active=4, epochs=1, warps=1, save=tmp_path / "a.gossamer")
    run(config)
    options = pictures.Options(config.save, tmp_path / "codes.html", "folder", folder, codes=5)
    pictures.main(options)
    page = options.to.read_text()
    assert page.count("<article>") == 5 and page.count("<audio") == 15 and page.count("<svg") == 10
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "5 of 16 codes" in page and page.count("(chance: 33%)") == 5 and page.count("(chance: 25%)") == 5
    run(replace(config, method="temporal"))
    with pytest.raises(InputError, match="is a temporal network"):
        pictures.main(options)


def test_a_curve_starts_and_ends_where_its_numbers_do():
    assert 'points="1.0,45.0 110.0,1.0 219.0,45.0"' in pictures.curve(np.array([0.0, 2.0, 0.0]))


def test_what_a_code_hears_is_the_mean_of_what_it_is_active_at():
    patches = torch.tensor([[1.0, 0.0], [0.0, 4.0], [9.0, 9.0]])
    assert pictures._mean_patch(torch.tensor([3.0, 1.0, 0.0]), patches).tolist() == [0.75, 1.0]
