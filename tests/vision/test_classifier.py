from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import gossamer_vision
from gossamer import InputError
from gossamer_vision import models
from gossamer_vision.classifier import Classifier, load
from gossamer_vision.config import Config
from gossamer_vision.scaling import scaled
from gossamer_vision.train import train

TINY = Config(width=4, stem=2, epochs=1, batch=100, method="static-random", sparsity=0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.gossamer"
    return train(replace(TINY, save=path)), path


def expected(network: torch.nn.Module, images: torch.Tensor, classifier: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(scaled(images, classifier.mean, classifier.std)).softmax(1)


def test_loaded_network_gives_the_trained_one_s_probabilities(trained):
    run, path = trained
    images = run.data.test.images[:5]
    loaded = gossamer_vision.load(path)
    assert torch.allclose(loaded.probabilities(images), expected(run.network, images, loaded), atol=1e-5)
    assert torch.equal(loaded.probabilities(images.numpy()), loaded.probabilities(images))
    assert loaded.classes == run.data.classes
    assert all(torch.equal(mask, run.masks[name]) for name, mask in loaded.masks.items()) and loaded.masks
    assert loaded.trained == {"data": "digits", "data_dir": None, "pattern": "unstructured"}


def test_training_on_changes_the_probabilities_and_keeps_the_network_as_sparse(trained, tmp_path):
    run, path = trained
    images, labels = run.data.train.images[:50], run.data.train.labels[:50]
    loaded = load(path)
    before = loaded.probabilities(images)
    optimizer = torch.optim.SGD(loaded.network.parameters(), 0.1)
    masking = loaded.masking().attach(optimizer)
    loaded.network.train()
    torch.nn.functional.cross_entropy(loaded.network(loaded.scaled(images)), labels).backward()
    optimizer.step()
    assert masking.sparsity == pytest.approx(run.sparsity) and loaded.masks.keys() == run.masks.keys()
    after = loaded.probabilities(images)
    assert not torch.allclose(after, before, atol=1e-3) and loaded.network.training
    assert torch.allclose(after, expected(loaded.network, images, loaded), atol=1e-5)
    loaded.save(tmp_path / "further.gossamer")
    assert torch.allclose(load(tmp_path / "further.gossamer").probabilities(images), after, atol=1e-5)


def test_a_dense_network_has_no_masking():
    network = models.build("resnet8", (1, 16, 16), 2, width=4)
    with pytest.raises(InputError, match="no masks"):
        Classifier(network, {"shape": [1, 16, 16]}, ("a", "b"), (0.5,), (0.5,)).masking()


def test_a_wired_network_comes_back_with_its_wiring(tmp_path):
    network = models.build("inception", (1, 16, 16), 2, width=8, density=0.25, seed=5).eval()
    architecture = {"name": "inception", "shape": [1, 16, 16], "classes": 2, "width": 8, "density": 0.25, "seed": 5}
    Classifier(network, architecture, ("a", "b"), (0.5,), (0.5,), fit="pad").save(tmp_path / "m")
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(load(tmp_path / "m").network(x), network(x)) and load(tmp_path / "m").fit == "pad"


def flip_last(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"something else"), "damaged, or no file of gossamer.save"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "damaged"),
        (flip_last, "damaged"),
    ],
)
def test_bad_files_are_named(trained, tmp_path, harm, message):
    path = tmp_path / "m.gossamer"
    path.write_bytes(trained[1].read_bytes())
    harm(path)
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_file_of_another_network_is_named(tmp_path):
    import gossamer as gs

    gs.save(torch.nn.Linear(2, 2), tmp_path / "m.gossamer")
    with pytest.raises(InputError, match="describes no network of gossamer_vision"):
        load(tmp_path / "m.gossamer")


def test_images_that_do_not_fit_are_refused(trained):
    loaded = load(trained[1])
    with pytest.raises(InputError, match=r"\(2, 3, 16, 16\).*\(n, 1, 16, 16\)"):
        loaded.probabilities(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"float32.*takes bytes \(uint8\)"):
        loaded.probabilities(torch.zeros(2, 1, 16, 16))
    with pytest.raises(InputError, match=r"float64"):
        loaded.probabilities(np.zeros((2, 1, 16, 16)))
    with pytest.raises(InputError, match=r"absent\.png is no file"):
        loaded.picture("absent.png")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(1, (0.4,), (0.2,)), (3, (0.4, 0.5, 0.3), (0.2,) * 3), (3, (), ())]
)
def test_onnx_takes_pictures_as_they_are_and_agrees_with_the_engine(tmp_path, fit, channels, mean, std):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    shape = [channels, 16, 16]
    network = models.build("resnet8", (channels, 16, 16), 3, width=8).eval()
    for parameter in network.parameters():
        parameter.data *= torch.rand(parameter.shape) < 0.2 if parameter.dim() == 4 else 1
    architecture = {"name": "resnet8", "shape": shape, "classes": 3, "width": 8}
    made = Classifier(network, architecture, ("cat", "dög", "eel"), mean, std, fit=fit)
    size = made.export_onnx(tmp_path / "m.onnx")
    assert size == (tmp_path / "m.onnx").stat().st_size < 4 * sum(p.numel() for p in network.parameters())
    properties = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert "d\\u00f6g" in properties["classes"] and properties["fit"] == f'"{fit}"'
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for height, width in ((41, 30), (16, 16), (20, 63)):
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
        Image.fromarray(pixels.squeeze()).save(tmp_path / "a.png")
        ours = made.probabilities(made.picture(tmp_path / "a.png")[None])
        found, names = session.run(["probabilities", "class"], {"images": np.stack([pixels, pixels])})
        assert torch.allclose(torch.from_numpy(found[:1]), ours, atol=5e-3) and np.array_equal(found[0], found[1])
        assert list(names) == [made.classes[int(ours.argmax())]] * 2
