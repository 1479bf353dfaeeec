import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from gossamer import InputError
from gossamer_vision import data, readers
from gossamer_vision.sources import Part


def write_idx(path, array: np.ndarray) -> None:
    content = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder, train: int = 40, test: int = 10, end: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{end}", np.arange(count, dtype=np.uint8) % 10)


def test_digits_are_split_in_three_parts_without_overlap():
    digits = data.load("digits")
    assert [len(digits.train), len(digits.held_out), len(digits.test)] == [1000, 297, 500]
    assert digits.shape == (1, 16, 16) and len(digits.classes) == 10
    rows = [{row.numpy().tobytes() for row in part.images} for part in (digits.train, digits.held_out, digits.test)]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
    assert torch.equal(digits.test.images, data.load("digits").test.images)


def test_digits_are_split_as_when_their_results_were_published():
    digits = data.load("digits")
    contents = (
        p.images.numpy().tobytes() + p.labels.numpy().tobytes() for p in (digits.train, digits.held_out, digits.test)
    )
    found = [hashlib.sha256(content).hexdigest()[:16] for content in contents]
    assert found == ["7daa08ab6f98d58f", "f150f996cf9a9d0e", "f129066cbad49b32"]


def test_scaled_training_images_have_mean_0_and_deviation_1():
    digits = data.load("digits")
    floats = digits.scaled(digits.train.images)
    assert floats.mean().item() == pytest.approx(0, abs=1e-5)
    assert floats.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("inside", "end"), [("", ".gz"), ("FashionMNIST/raw", ""), ("raw", "")])
def test_idx_files_are_found_where_people_keep_them(tmp_path, inside, end):
    write_mnist(tmp_path / inside, end=end)
    found = data.load("fashion-mnist", tmp_path)
    assert [len(found.train), len(found.held_out), len(found.test)] == [20, 20, 10]
    assert found.shape == (1, 28, 28) and found.classes[9] == "Ankle boot"
    assert found.test.labels.tolist() == list(range(10))


def test_idx_bytes_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    assert readers.idx(tmp_path / "a").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_other_sizes_and_channels_are_brought(tmp_path):
    write_mnist(tmp_path)
    assert data.load("mnist", tmp_path, size=20, channels=3).shape == (3, 20, 20)


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "train-images-idx3-ubyte.gz").unlink(), "no train-images-idx3-ubyte.*--data-dir"),
        (lambda f: truncate(f / "train-images-idx3-ubyte.gz"), "train-images-idx3-ubyte.gz cannot be read"),
        (lambda f: (f / "t10k-labels-idx1-ubyte.gz").write_bytes(b""), "t10k-labels.*begins with nothing"),
        (lambda f: write_idx(f / "train-labels-idx1-ubyte.gz", np.zeros(3, np.uint8)), r"\(40, 1, 28, 28\).*\(3,\)"),
        (
            lambda f: write_idx(f / "train-labels-idx1-ubyte.gz", np.full(40, 11, np.uint8)),
            "train has the label 11.*10 classes",
        ),
    ],
)
def test_half_written_idx_folder_is_named(tmp_path, harm, message):
    write_mnist(tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match=message):
        data.load("mnist", tmp_path)


def test_idx_file_cut_off_without_gzip_says_how_many_bytes_lack(tmp_path):
    write_mnist(tmp_path, end="")
    truncate(tmp_path / "t10k-images-idx3-ubyte")
    with pytest.raises(InputError, match="7849 bytes where its header promises 7856"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("mnist", lambda f: f / "absent", "absent does not exist"),
        ("mnist", lambda f: f, "is empty"),
        ("digits", lambda f: f, "does not belong to 'digits'.*fashion-mnist"),
        ("fashion-mnst", lambda f: f, "did you mean 'fashion-mnist'"),
        ("folder", lambda f: None, "no --data-dir"),
    ],
)
def test_bad_folders_and_names(tmp_path, name, make, message):
    with pytest.raises(InputError, match=message):
        data.load(name, make(tmp_path))


def write_cifar(folder, per_batch: int = 4) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = generator.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        batch = {b"data": pixels, b"labels": list(range(per_batch))}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = [b"plane", b"car", b"bird", b"cat"]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))


def test_cifar_is_read(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    found = data.load("cifar-10", tmp_path)
    assert found.shape == (3, 32, 32) and found.classes == ("plane", "car", "bird", "cat")
    assert [len(found.train), len(found.held_out), len(found.test)] == [10, 10, 4]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_2", {b"labels": [0, 1, 2, 4]}, "data_batch_1 has the label 4, and the data set 4 classes"),
        ("test_batch", {b"labels": [0, 1, 2, -1]}, "test_batch has the label -1"),
        ("test_batch", {b"labels": [0, 1, 2]}, r"\(4, 3, 32, 32\).*\(3,\)"),
        ("test_batch", {b"labels": [0, 1, 2, 0.5]}, "float32"),
        ("test_batch", {b"labels": [0, 1, 2, 10**30]}, "no batches of CIFAR10"),
        ("batches.meta", {b"label_names": []}, "data set 0 classes"),
        ("batches.meta", {b"other": []}, "names no classes in batches.meta"),
    ],
)
def test_cifar_labels_without_a_class_are_named(tmp_path, file, content, message):
    write_cifar(tmp_path / "cifar-10-batches-py")
    path = tmp_path / "cifar-10-batches-py" / file
    found = pickle.loads(path.read_bytes()) if b"other" not in content else {}
    path.write_bytes(pickle.dumps(found | content, protocol=2))
    with pytest.raises(InputError, match=message):
        data.load("cifar-10", tmp_path)


class Harmful:
    def __reduce__(self):
        return print, ("this must not run",)


def test_code_in_a_cifar_pickle_does_not_run(tmp_path, capsys):
    write_cifar(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(InputError, match=r"data_batch_3.*print"):
        data.load("cifar-10", tmp_path)
    assert capsys.readouterr().out == ""


def write_pictures(folder, classes=("cat", "dog"), count: int = 10) -> None:
    """Pictures of one colour each, by which to know them again."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (30, 20 + i), (label, i, 0)).save(folder / name / f"{i}.png")


def known(part: Part) -> set[tuple[int, ...]]:
    return {tuple(image[:, 0, 0].tolist()) for image in part.images}


def test_folder_of_pictures_goes_on_without_the_corrupt_one(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "cat" / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "cat" / "photo.HEIC").write_bytes(b"one that Pillow does not know")
    for hidden in (".ipynb_checkpoints", "__MACOSX", "cat/.hidden", "dog/__MACOSX"):
        (tmp_path / hidden).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / hidden / "0.png")
    (tmp_path / "dog" / "._0.png").write_bytes(b"what macOS leaves")
    found = data.load("folder", tmp_path, size=16)
    assert found.classes == ("cat", "dog") and found.shape == (3, 16, 16)
    assert sum(map(len, (found.train, found.held_out, found.test))) == 20
    for reason, name in zip(found.skipped, ("bad.png", "photo.HEIC"), strict=True):
        assert str(tmp_path / "cat" / name) in reason and "Convert it to PNG" in reason


def test_copies_of_training_images_in_the_test_part_are_counted(tmp_path):
    for part, count in (("train", 6), ("test", 8)):
        write_pictures(tmp_path / part, count=count)
    found = data.load("folder", tmp_path, size=8)
    assert len(found.test) == 16 and found.twins == 2 * (6 - len(found.held_out) // 2)


def test_pictures_of_a_folder_keep_their_part_when_others_come(tmp_path):
    write_pictures(tmp_path, count=60)
    before = data.load("folder", tmp_path, size=8)
    for i in range(60, 90):
        Image.new("RGB", (30, 20), (0, i, 0)).save(tmp_path / "cat" / f"{i}.png")
    after = data.load("folder", tmp_path, size=8)
    for part in ("train", "held_out", "test"):
        assert known(getattr(before, part)) < known(getattr(after, part))
    assert len(after.test) == pytest.approx(30, abs=10) and len(after.held_out) == pytest.approx(15, abs=10)


def test_every_part_of_a_folder_has_every_class_or_says_how_many_it_needs(tmp_path):
    write_pictures(tmp_path, count=3)
    found = data.load("folder", tmp_path, size=8)
    assert [part.labels.tolist() for part in (found.train, found.held_out, found.test)] == [[0, 1]] * 3
    (tmp_path / "dog" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="'dog' has too few readable pictures, 2: each class needs 3"):
        data.load("folder", tmp_path)


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_class_without_a_readable_picture_is_named(tmp_path, content):
    write_pictures(tmp_path, classes=("cat", "dog", "eel"))
    for path in (tmp_path / "eel").iterdir():
        path.write_bytes(content) if content else path.unlink()
    with pytest.raises(InputError, match=r"no readable picture in eel .*take it away"):
        data.load("folder", tmp_path)


def test_parts_that_are_set_aside_are_used(tmp_path):
    write_pictures(tmp_path / "train", count=8)
    write_pictures(tmp_path / "valid", count=2)
    found = data.load("folder", tmp_path, size=8)
    assert len(found.test) == 4 and len(found.train) + len(found.held_out) == 16
    write_pictures(tmp_path / "test", count=3)
    found = data.load("folder", tmp_path, size=8)
    assert [len(found.train), len(found.held_out), len(found.test)] == [16, 4, 6]


def test_imagenette_is_divided_as_ever(tmp_path):
    write_pictures(tmp_path / "train", count=8)
    write_pictures(tmp_path / "val", count=2)
    found = data.load("imagenette", tmp_path, size=8)
    assert known(found.held_out) == {(1, 2, 0), (1, 4, 0)} and len(found.train) == 14 and len(found.test) == 4


def test_train_and_test_folders_must_have_the_same_classes(tmp_path):
    write_pictures(tmp_path / "train")
    with pytest.raises(InputError, match="neither 'test' nor 'val'"):
        data.load("folder", tmp_path)
    write_pictures(tmp_path / "test", classes=("cat", "cow"))
    with pytest.raises(InputError, match="cow, dog"):
        data.load("folder", tmp_path)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 100, [100, 100, 100]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("LA", (7, 255), [7, 7, 7]),
        ("1", 1, [255, 255, 255]),
        ("I;16", 65535, [255, 255, 255]),
    ],
)
def test_pictures_of_every_mode_become_colour(tmp_path, mode, colour, expected):
    Image.new(mode, (12, 9), colour).save(tmp_path / "a.png")
    pixels = readers.picture(tmp_path / "a.png", 8)
    assert pixels.shape == (3, 8, 8) and pixels[:, 4, 4].tolist() == expected


def test_share_takes_the_same_of_every_class():
    part = Part(torch.arange(40).to(torch.uint8)[:, None, None, None], torch.arange(40) % 4)
    assert data.share(part, 0.3, seed=1).labels.bincount().tolist() == [3, 3, 3, 3]
    assert data.share(part, 0.01, seed=1).labels.bincount().tolist() == [1, 1, 1, 1]
    assert data.share(part, 1.0, seed=1) is part
