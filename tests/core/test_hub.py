import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gossamer

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
pytest.importorskip("jinja2", reason="huggingface_hub writes model cards with jinja2, which is not installed")

from gossamer.hub import FILE, SparseModelHubMixin


class Net(nn.Module, SparseModelHubMixin):
    def __init__(self, width: int, classes: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu())


def pruned() -> tuple[Net, Tensor]:
    net = Net(40)
    mask = torch.rand(40, 8) < 0.1
    mask[0, 0] = True
    with torch.no_grad():
        net.hidden.weight.mul_(mask)
        net.hidden.weight[0, 0] = 0  # alive at zero
    return net, mask


def test_a_folder_keeps_model_arguments_and_topology(tmp_path: Path):
    net, mask = pruned()
    net.hub_masks = {"hidden.weight": mask}
    net.save_pretrained(tmp_path)
    assert (tmp_path / FILE).stat().st_size == gossamer.files.size(net, masks=net.hub_masks)
    assert json.loads((tmp_path / "config.json").read_text()) == {"width": 40, "classes": 3}
    assert "library_name: gossamer" in (tmp_path / "README.md").read_text()
    back = Net.from_pretrained(tmp_path)
    assert not back.training
    assert torch.equal(back.hub_masks["hidden.weight"], mask)
    x = torch.randn(5, 8)
    assert torch.equal(back(x), net.eval()(x))


def test_values_may_be_narrow(tmp_path: Path):
    net, _ = pruned()
    net.hub_values = "float16"
    net.save_pretrained(tmp_path)
    back = Net.from_pretrained(tmp_path)
    assert torch.equal(back.out.weight, net.out.weight.half().float())


def test_a_repository_in_the_cache_loads_without_network(tmp_path: Path):
    net, _ = pruned()
    net.save_pretrained(tmp_path / "net")
    cached = tmp_path / "cache" / "models--someone--net"
    shutil.copytree(tmp_path / "net", cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    back = Net.from_pretrained("someone/net", cache_dir=tmp_path / "cache", local_files_only=True)
    assert torch.equal(back.hidden.weight, net.hidden.weight)


def test_a_damaged_folder_is_refused(tmp_path: Path):
    pruned()[0].save_pretrained(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])
    with pytest.raises(gossamer.InputError, match="is damaged"):
        Net.from_pretrained(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(gossamer.InputError, match="cannot be read"):
        Net.from_pretrained(tmp_path)


def test_the_missing_extra_is_named():
    script = "import sys; sys.modules['huggingface_hub'] = None\nimport gossamer.hub"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "gossamer[integrations]"' in run.stderr


class Dense(nn.Module):
    """A base that saves a dense file of its own, as models of transformers do."""

    def save_pretrained(self, folder: Path) -> None:
        raise AssertionError("saved dense")


@pytest.mark.parametrize("bases", [(nn.Module, SparseModelHubMixin), (SparseModelHubMixin, nn.Module)])
def test_the_bases_may_stand_in_either_order(bases: tuple[type, ...], tmp_path: Path):
    for first in (nn.Module, Dense):
        kind = type("Kind", tuple(first if base is nn.Module else base for base in bases), {"__init__": initialize})
        model = kind()
        model.save_pretrained(tmp_path)
        assert (tmp_path / FILE).exists() and not (tmp_path / "model.safetensors").exists()
        assert torch.equal(kind.from_pretrained(tmp_path).layer.weight, model.layer.weight)


def initialize(self: nn.Module) -> None:
    nn.Module.__init__(self)
    self.layer = nn.Linear(4, 4)
