"""How many threads compute."""

import pytest
import torch

from gossamer.threads import cores, current_threads, using_threads


def test_using_threads_gives_back_what_was_set_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), using_threads(before + 1):
        assert torch.get_num_threads() == current_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_there_is_a_core() -> None:
    assert cores() >= 1
