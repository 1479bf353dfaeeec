"""Engines in files: round trips, a start without torch, and files that were damaged or made to harm."""

import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.numpy import save as write_tensors
from torch import nn

import gossamer.files
from gossamer.engine import compile as compile_model
from gossamer.engine import load
from gossamer.errors import InputError
from gossamer.files import container
from gossamer.files.container import Entry


class Network(nn.Module):
    """Sparse and dense layers, a residual, pooling and a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm, self.c = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x):
        y = nn.functional.max_pool2d(self.a(x).relu(), 2)
        y = (self.norm(self.b(y)) + y).relu()
        return {"classes": self.c(y.mean((2, 3))), "image": [y]}


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    model = Network().eval()
    with torch.no_grad():
        model.b.weight.mul_(torch.rand(8, 8, 3, 3) < 0.1)
    return compile_model(model, torch.zeros(1, 3, 16, 16))


@pytest.fixture
def path(engine, tmp_path):
    engine.save(tmp_path / "network.engine")
    return tmp_path / "network.engine"


def same(one: dict, other: dict) -> None:
    np.testing.assert_allclose(one["classes"], other["classes"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one["image"][0], other["image"][0], rtol=1e-4, atol=1e-5)


def test_round_trip(engine, path):
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    loaded = load(path)
    same(loaded(x), engine(x))
    assert [row.name for row in loaded.report()] == [row.name for row in engine.report()]
    again = path.with_name("again")
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_an_engine_and_a_model_have_one_coding(engine, path):
    """The library of the format reads it, and the parts of a sparse weight are those of `gossamer.save`."""
    entries, metadata = container.unpack(path.read_bytes())
    (name,) = json.loads(metadata["coded"])
    found = safetensors.numpy.load(path.read_bytes())
    assert found.keys() == entries.keys() >= {name + ".values"}
    model = nn.Module()
    model.weight = nn.Parameter(torch.from_numpy(engine.graph.tensors[name]))
    theirs, _ = container.unpack(gossamer.files.to_bytes(model))
    for kind in ("values", "bitmap", "gaps"):
        assert theirs.get(f"weight.{kind}") == entries.get(f"{name}.{kind}")


def test_weights_come_back_exactly(engine, path):
    loaded = load(path)
    assert loaded.graph.nodes == engine.graph.nodes
    for name, tensor in engine.graph.tensors.items():
        np.testing.assert_array_equal(loaded.graph.tensors[name], tensor)


def test_sparse_weights_make_small_files(tmp_path):
    model = nn.Sequential(nn.Linear(512, 512)).eval()
    with torch.no_grad():
        model[0].weight.mul_(torch.rand(512, 512) < 0.1)
    compile_model(model, torch.zeros(1, 512)).save(tmp_path / "file")
    dense = 4 * 512 * 512
    assert 0.1 * dense < (tmp_path / "file").stat().st_size < 0.15 * dense


def test_an_engine_runs_without_torch(engine, path):
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16), np.float32)
    np.save(path.with_name("x.npy"), x)
    code = """
import sys
import numpy as np
import gossamer.engine
engine = gossamer.engine.load(sys.argv[1] + "/network.engine")
y = engine(np.load(sys.argv[1] + "/x.npy"))
np.savez(sys.argv[1] + "/y.npz", classes=y["classes"], image=y["image"][0])
print(type(y["classes"]).__name__, "torch" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(path.parent)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["ndarray", "False"]
    y = np.load(path.with_name("y.npz"))
    same({"classes": y["classes"], "image": [y["image"]]}, engine(x))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing-here"):
        load(tmp_path / "nothing-here")


def test_truncated_files_are_refused(path):
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 100, *range(200, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="damaged"):
            load(path)


def test_a_changed_byte_is_found(path):
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    tried = [*rng.integers(0, 8 + header, 150), *rng.integers(8 + header, len(content), 150)]
    for place in tried:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(InputError, match="damaged"):
            load(path)


def forged(path, change) -> None:
    """Write the file anew, its document and tensors changed by `change(document, tensors)`, with a right checksum."""
    entries, metadata = container.unpack(path.read_bytes())
    document = json.loads(metadata["graph"]) | {"coded": json.loads(metadata["coded"])}
    tensors = {name: entry.array() for name, entry in entries.items()}
    change(document, tensors)
    coded = json.dumps(document.pop("coded"))
    metadata = {"format": metadata["format"], "coded": coded, "graph": json.dumps(document)}
    path.write_bytes(container.pack({name: Entry.of(tensor) for name, tensor in tensors.items()}, metadata))


def node(document: dict, operation: str) -> list:
    return next(fields for fields in document["nodes"] if fields[0] == operation)


def set_field(operation: str, index: int, value):
    def change(document, tensors):
        node(document, operation)[index] = value

    return change


def set_attribute(operation: str, name: str, value):
    def change(document, tensors):
        node(document, operation)[4][name] = value

    return change


def sparse_name(document: dict) -> str:
    return next(iter(document["coded"]))


FORGERIES = {
    "unknown operation": set_field("max_pool2d", 0, "os.system"),
    "torch operation": set_field("max_pool2d", 0, "torch"),
    "unknown input": set_field("max_pool2d", 2, ["nowhere"]),
    "input of the future": lambda d, t: d["nodes"].reverse(),
    "two of one name": lambda d, t: d["nodes"].append(d["nodes"][0]),
    "unknown tensor": set_field("linear", 3, {"weight": "nowhere"}),
    "inputs no list": set_field("linear", 2, "ab"),
    "attributes no dict": set_field("linear", 4, []),
    "stride zero": set_attribute("conv2d", "stride", [0, 0]),
    "stride text": set_attribute("conv2d", "stride", "11"),
    "stride huge": set_attribute("conv2d", "stride", [10**30, 1]),
    "padding huge": set_attribute("conv2d", "padding", [2**30, 2**30]),
    "padding negative": set_attribute("conv2d", "padding", [-1, -1]),
    "groups": set_attribute("conv2d", "groups", 3),
    "attribute too many": set_attribute("conv2d", "hook", "x"),
    "activation": set_attribute("conv2d", "activation", {"name": "__import__"}),
    "pool": set_attribute("max_pool2d", "kernel", [100, 100]),
    "input shape": lambda d, t: d["inputs"].update(x=[3, 16]),
    "input sizes": lambda d, t: d["inputs"].update(x=[3, -16, 16]),
    "input huge": lambda d, t: d["inputs"].update(x=[3, 2**20, 2**20]),
    "output": lambda d, t: d.update(output="nowhere"),
    "output kind": lambda d, t: d.update(output=["set", ["linear"]]),
    "kind": lambda d, t: d.update(kinds={"x": "object"}),
    "kind of nobody": lambda d, t: d.update(kinds={"y": "int64"}),
    "kind that is not taken": lambda d, t: d.update(kinds={"x": "int64"}),
    "arguments": lambda d, t: d.update(arguments="x"),
    "arguments no inputs": lambda d, t: d.update(arguments=["tuple", [["list", ["y"]], ["dict", []]]]),
    "arguments too few": lambda d, t: d.update(arguments=["tuple", [["list", []], ["dict", []]]]),
    "no nodes": lambda d, t: d.pop("nodes"),
    "nodes text": lambda d, t: d.update(nodes="conv2d"),
    "tensor missing": lambda d, t: t.pop(next(name for name in t if name.endswith("bias"))),
    "tensor too many": lambda d, t: t.update(more=np.zeros(3, np.float32)),
    "tensor of bytes": lambda d, t: t.update({"c.weight": np.zeros((5, 8), np.uint8)}),
    "tensor of another shape": lambda d, t: t.update({"c.weight": np.zeros((5, 9), np.float32)}),
    "index too short": lambda d, t: t.update({sparse_name(d) + ".bitmap": np.zeros(3, np.uint8)}),
    "index missing": lambda d, t: [t.pop(name) for name in list(t) if name.endswith((".bitmap", ".gaps"))],
    "values too few": lambda d, t: t.update({sparse_name(d) + ".values": np.zeros(3, np.float32)}),
    "values of float16": lambda d, t: t.update({sparse_name(d) + ".values": np.zeros(58, np.float16)}),
    "sparse shape": lambda d, t: d["coded"][sparse_name(d)].update(shape=[2**40, 2**40]),
    "sparse shape negative": lambda d, t: d["coded"][sparse_name(d)].update(shape=[-8, -8, 3, 3]),
    "scales": lambda d, t: t.update({sparse_name(d) + ".scales": np.ones(8, np.float32)}),
    "not a number": lambda d, t: node(d, "max_pool2d")[4].update(ceil=float("nan")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_files_made_to_harm_are_refused(path, forgery):
    forged(path, FORGERIES[forgery])
    with pytest.raises(InputError, match="damaged"):
        load(path)


def test_a_forgery_that_changes_nothing_loads(path):
    before = [row.name for row in load(path).report()]
    forged(path, lambda document, tensors: None)
    assert [row.name for row in load(path).report()] == before != []


def test_other_formats_are_named(path):
    path.write_bytes(write_tensors({"a": np.zeros(2)}, {"format": "pt"}))
    with pytest.raises(InputError, match="damaged"):
        load(path)
    path.write_bytes(container.pack({}, {"format": "gossamer engine 99", "coded": "{}", "graph": "{}"}))
    with pytest.raises(InputError, match="'gossamer engine 99'"):
        load(path)


class Places(nn.Module):
    """Steps and their places, two by two: attributes, tensors and inputs that depend on an open size."""

    def __init__(self):
        super().__init__()
        self.places, self.linear = nn.Embedding(40, 6), nn.Linear(12, 5)

    def forward(self, x):
        return self.linear((x + self.places(torch.arange(x.shape[1]))).unflatten(1, (-1, 2)).flatten(2))


@pytest.fixture(scope="module")
def open_content(tmp_path_factory):
    path = tmp_path_factory.mktemp("open") / "open.engine"
    compile_model(Places().eval(), torch.randn(1, 8, 6), dynamic=({1: torch.export.Dim.AUTO(max=40)},)).save(path)
    return path.read_bytes()


def set_open(part: str, value):
    def change(document, tensors):
        document["open"][part] = value

    return change


def set_size(part: str, **fields):
    """Change the first open size of the inputs, tensors or attributes."""

    def change(document, tensors):
        found = next(iter(document["open"][part].values()))
        found = next(iter(found.values())) if part == "attributes" else found
        next(size for size in found if isinstance(size, dict)).update(fields)

    return change


OPEN_FORGERIES = {
    "none": lambda d, t: d.pop("open"),
    "ranges": set_open("ranges", [[0, 40]]),
    "ranges upside down": set_open("ranges", [[40, 2]]),
    "range of text": set_open("ranges", [["2", 40]]),
    "two ranges": set_open("ranges", [[2, 40], [2, 40]]),
    "example": set_open("example", [41]),
    "another example": set_open("example", [10]),
    "inputs": set_open("inputs", {"y": [8, 6]}),
    "closed inputs": set_open("inputs", {"x": [8, 6]}),
    "unknown tensor": set_open("tensors", {"nowhere": [8, 6]}),
    "larger corner": set_open("tensors", {"add.other": [41, 6]}),
    "unknown attribute": set_open("attributes", {"unflatten": {"hook": 3}}),
    "attribute": set_open("attributes", {"unflatten": {"shape": "x"}}),
    "factor zero": set_size("inputs", factor=[0, 1]),
    "factor negative": set_size("inputs", factor=[-1, 1]),
    "division by zero": set_size("attributes", factor=[1, 0]),
    "factor of text": set_size("attributes", factor=["1", "2"]),
    "factor a float": set_size("attributes", factor=[0.5, 1]),
    "no whole number": set_size("attributes", factor=[1, 3]),
    "huge": set_size("attributes", factor=[10**300, 1]),
    "offset": set_size("tensors", offset=[-100, 1]),
    "of nobody": set_size("tensors", of=[7]),
    "of the last": set_size("attributes", of=[-1]),
    "of text": set_size("attributes", of="0"),
    "without a factor": set_open("inputs", {"x": [{"of": [0]}, 6]}),
}


@pytest.mark.parametrize("forgery", OPEN_FORGERIES)
def test_open_sizes_made_to_harm_are_refused(tmp_path, open_content, forgery):
    path = tmp_path / "open.engine"
    path.write_bytes(open_content)
    assert load(path)(np.ones((2, 10, 6), np.float32)).shape == (2, 5, 5)
    forged(path, OPEN_FORGERIES[forgery])
    with pytest.raises(InputError, match="damaged"):
        load(path)
