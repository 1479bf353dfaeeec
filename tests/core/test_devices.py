import pytest
import torch

from gossamer import InputError, devices


def test_the_processor_is_always_there():
    pytest.importorskip("lightning_fabric")
    fabric = devices.fabric()
    assert (fabric.device, fabric.world_size) == (torch.device("cpu"), 1)


def test_what_is_not_there_is_refused_by_name():
    pytest.importorskip("lightning_fabric")
    missing = [name for name, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if not there.is_available()]
    for name in (*missing, "quantum"):
        with pytest.raises(InputError, match=f"accelerator is '{name}'.*choose cpu"):
            devices.fabric(name)
    with pytest.raises(InputError, match=r"precision is '16'.*one of 32-true"):
        devices.fabric(precision="16")
