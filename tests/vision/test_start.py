from dataclasses import replace

import pytest
import torch

from gossamer import InputError
from gossamer_vision import models
from gossamer_vision.classifier import load
from gossamer_vision.config import Config
from gossamer_vision.run import Run
from gossamer_vision.settings import settings
from gossamer_vision.start import head, load_data, start
from gossamer_vision.train import train

TINY = Config(width=4, stem=2, epochs=1, batch=100, every=3, method="static-random", sparsity=0.8)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sparse.gossamer"
    train(replace(TINY, save=path))
    return path


@pytest.mark.parametrize(
    ("method", "sparsity", "keeps"), [("fixed", 0.5, True), ("rigl", 0.8, False), ("gmp", 0.9, False)]
)
def test_a_sparse_network_goes_on_with_its_masks(sparse, tmp_path, method, sparsity, keeps):
    before = load(sparse)
    config = replace(TINY, start=sparse, method=method, sparsity=sparsity, width=16, save=tmp_path / "m.gossamer")
    run = Run(config, load_data(config))
    run.begin(run.cycles[0])
    assert all(torch.equal(mask, before.masks[name]) for name, mask in run.masks.items())
    assert all(torch.equal(p, before.network.get_parameter(n)) for n, p in run.network.named_parameters())
    after = train(config)
    assert after.sparsity == pytest.approx(0.9 if method == "gmp" else 0.8, abs=2e-3)
    assert all(torch.equal(m, after.masks[n]) for n, m in before.masks.items()) == keeps
    assert load(tmp_path / "m.gossamer").architecture["width"] == 4


def test_a_run_from_a_sparse_network_resumes(sparse, tmp_path):
    config = replace(TINY, start=sparse, method="rigl")
    whole, run = train(config), Run(config, load_data(config))
    for _ in range(5):
        run.step()
    run.save(tmp_path / "run.pt")
    assert train(replace(config, checkpoint=tmp_path / "run.pt")).progress.losses == whole.progress.losses


def test_other_classes_get_a_new_last_layer(sparse):
    config = replace(TINY, start=sparse, method="fixed")
    data = load_data(config)
    fewer = replace(data, classes=data.classes[:3])
    begun = start(config, settings(config, fewer), fewer)
    name, last = head(begun.network)
    assert last.weight.shape[0] == 3 and f"{name}.weight" not in begun.masks and len(begun.masks) > 3
    assert begun.architecture["classes"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "dense"}, "is sparse, and method 'dense' does not keep its masks; choose fixed"),
        ({"method": "magnitude-finetune"}, "does not keep its masks"),
        ({"method": "rigl", "pattern": "block-4x1"}, "are of 'unstructured'; give --pattern unstructured"),
    ],
)
def test_what_would_lose_the_masks_is_refused(sparse, change, message):
    with pytest.raises(InputError, match=message):
        train(replace(TINY, start=sparse, **change))


NAME = "torchvision:mobilenet_v3_small"
PRETRAINED = Config(method="dense", model=NAME, image_size=32, epochs=1, batch=100, shift=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(models.build(NAME, (3, 32, 32), 7).state_dict(), path)
    return path


def test_trained_weights_are_taken_and_a_frozen_backbone_stays(weights):
    config = replace(PRETRAINED, weights=str(weights), freeze=True)
    run = Run(config, load_data(config))
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    name, _ = head(run.network)
    assert all(torch.equal(v, before[k]) for k, v in torch.load(weights).items() if not k.startswith(f"{name}."))
    assert run.data.mean == (0.485, 0.456, 0.406)
    run.step()
    changed = {key for key, value in run.network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"{name}.weight", f"{name}.bias"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; give a file, or default"),
        (b"no weights", "holds no weights that"),
        ([1, 2], "no state dict of tensors"),
        ({"a": torch.zeros(1)}, "are not those of mobilenet_v3_small: they have no features"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    config = replace(PRETRAINED, weights=str(path))
    data = load_data(config)
    with pytest.raises(InputError, match=message):
        start(config, settings(config, data), data)
