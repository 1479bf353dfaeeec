import copy
import json
import os
import pickle
import resource
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gossamer
from gossamer import files
from gossamer.files import coding, container, parts
from gossamer.sparsity import sparsify

FUZZ = Path(__file__).parents[2] / "core" / "benchmarks" / "fuzz_files.py"


def model_of(**tensors: Tensor) -> nn.Module:
    """A module with these tensors: floating-point ones as parameters, others as buffers."""
    model = nn.Module()
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            model.register_parameter(name, nn.Parameter(tensor))
        else:
            model.register_buffer(name, tensor)
    return model


def blank(model: nn.Module) -> nn.Module:
    """The same module filled with ones."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.fill_(1)
    return twin


def bits(model: nn.Module) -> dict[str, bytes]:
    return {
        name: t.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for name, t in model.state_dict().items()
    }


def sparse(shape: tuple[int, ...], live: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).where(torch.rand(shape, generator=generator) < live, 0)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    with torch.no_grad():
        model[4].weight.mul_(sparse((10, 288), 0.1) != 0)
    return model


def parts_of(content: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(content)


def sealed(header: dict | str, data: bytes = b"", *, coded: str = "{}", tied: str = "{}") -> bytes:
    """A file with this header and a matching checksum."""
    if isinstance(header, dict):
        metadata = {"sha256": "0" * 64, "format": "gossamer 1", "coded": coded, "tied": tied}
        header = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":"))
    text = header.encode("utf-8", "surrogateescape")
    return container.seal(bytearray(struct.pack("<Q", len(text)) + text + data))


def resealed(content: bytes, old: bytes, new: bytes) -> bytes:
    """The same file with one piece of its header replaced, its length and checksum made to match."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    assert old in header
    header = header.replace(old, new, 1)
    return container.seal(bytearray(struct.pack("<Q", len(header)) + header + content[8 + length :]))


# Coding, worked by hand.


def test_gaps_count_the_dead_before_each_live_weight():
    alive = np.zeros(600, np.bool_)
    alive[[0, 3, 258, 514]] = True  # gaps 0, 2, 254, 255: the last is one filler and a gap of 0
    assert {kind: part.tolist() for kind, part in parts.encode_index(alive).items()} == {"gaps": [0, 2, 254, 255, 0]}
    gaps = np.array([0, 2, 254, 255, 0], np.uint8)
    assert parts.decode_index("gaps", gaps, 600).nonzero()[0].tolist() == [0, 3, 258, 514]


def test_long_gaps_take_sixteen_bits():
    alive = np.zeros(70_000, np.bool_)
    alive[[2_000, 69_999]] = True  # uint8: 7 + 1 and 266 + 1 codes; uint16: 2,000, then 67,998 = 65,535 + 2,463
    (kind, part), *_ = parts.encode_index(alive).items()
    assert (kind, part.dtype, part.tolist()) == ("gaps", np.uint16, [2_000, 65_535, 2_463])
    assert np.array_equal(parts.decode_index("gaps", part, 70_000), alive)


def test_bitmap_holds_the_lowest_bit_first():
    alive = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 1], np.bool_)
    assert parts.encode_index(alive)["bitmap"].tolist() == [0b00011001, 0b00000010]


def test_int8_is_symmetric_with_a_scale_per_output():
    model = model_of(w=torch.tensor([[1.27, 0.0, -0.004], [0.0, 0.0, 0.0], [-254.0, 1.1, 127.0]]))
    assert [p.tolist() for p in coding.quantize(torch.tensor([1.27, -0.004]), torch.tensor([1, 0, 1])).values()] == [
        [127, -127],
        [pytest.approx(0.01), 0.0, pytest.approx(0.004 / 127)],
    ]
    twin = blank(model)
    files.from_bytes(files.to_bytes(model, values="int8"), twin)
    expected = torch.tensor([[1.27, 0.0, 0.0], [0.0, 0.0, 0.0], [-254.0, 2.0, 128.0]])
    assert torch.allclose(twin.w, expected, atol=0, rtol=1e-6)  # 1.1 / 2 rounds to 1, 127 / 2 = 63.5 to the even 64


# Round trips.

SPECIAL = [0.0, -0.0, 1.0, -1.5, float("inf"), -float("inf"), 1e-45, -1e-40, 3.4028235e38, 1 / 3]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_every_live_weight_returns_bit_by_bit(data: st.DataObject):
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=4)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    live = data.draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.97, 1.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    picked = torch.tensor(SPECIAL, dtype=torch.float64)[torch.randint(len(SPECIAL), shape, generator=generator)]
    mask = torch.rand(shape, generator=generator) < live
    weight = torch.where(mask, picked, 0.0).to(dtype)
    model = model_of(w=weight, steps=torch.tensor(7), flags=torch.tensor([[True, False]]))
    masks = data.draw(st.sampled_from([None, {"w": mask}]))
    twin = blank(model)
    content = files.to_bytes(model, masks=masks)
    found = files.from_bytes(content, twin)
    assert len(content) == files.size(model, masks=masks)
    if masks or "w" in found:
        topology = mask if masks else weight != 0
        assert torch.equal(found["w"], topology)
        weight = torch.where(topology, weight, torch.zeros_like(weight))  # outside of it −0.0 becomes +0.0
    assert bits(twin) == bits(model_of(w=weight, steps=model.steps, flags=model.flags))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 9))
def test_any_topology_returns_and_takes_the_smallest_coding(size: int, count: int, seed: int):
    alive = np.zeros(size, np.bool_)
    alive[np.random.default_rng(seed).permutation(size)[:count]] = True
    ((kind, part),) = parts.encode_index(alive).items()
    assert np.array_equal(parts.decode_index(kind, part, size), alive)
    gaps = [len(run) for run in "".join(".x"[bit] for bit in alive.tolist()).split("x")[:-1]]
    eight, sixteen = sum(1 + gap // 255 for gap in gaps), 2 * sum(1 + gap // 65535 for gap in gaps)
    assert part.nbytes == min((size + 7) // 8, eight, sixteen)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["float16", "int8"]), st.sampled_from([0.0, 0.05, 0.3, 1.0]), st.integers(0, 99), st.booleans())
def test_narrow_values_stay_within_their_rounding(values: files.Values, live: float, seed: int, masked: bool):
    model = model_of(w=sparse((6, 40), live, seed), bias=torch.full((5,), 1 / 3), small=sparse((4, 9), live).bfloat16())
    masks = {"w": model.w != 0} if masked else None
    twin = blank(model)
    content = files.to_bytes(model, masks=masks, values=values)
    files.from_bytes(content, twin)
    assert len(content) == files.size(model, masks=masks, values=values)
    step = model.w.abs().amax(1, keepdim=True) / 254 if values == "int8" else model.w.abs() * 2**-11 + 2**-25
    assert bool(((twin.w - model.w).abs() <= step * 1.000001).all())
    assert torch.equal(twin.bias, model.bias)
    assert values == "int8" or torch.equal(twin.small, model.small)


def test_each_tensor_takes_its_smallest_form():
    model = model_of(
        dense=sparse((30, 40), 1.0),
        medium=sparse((30, 40), 0.5),
        tenth=sparse((30, 40), 0.1),
        rare=sparse((300, 400), 0.001),
    )
    kinds = {name: str(part.dtype) for name, part in parts_of(files.to_bytes(model)).items()}
    assert kinds == {
        "dense": "torch.float32",
        "medium.values": "torch.float32",
        "medium.bitmap": "torch.uint8",
        "tenth.values": "torch.float32",
        "tenth.gaps": "torch.uint8",
        "rare.values": "torch.float32",
        "rare.gaps": "torch.uint16",
    }


@pytest.mark.parametrize(("live", "most"), [(0.1, 0.135), (0.02, 0.031)])
def test_a_sparse_file_is_hardly_larger_than_its_values(live: float, most: float):
    model = model_of(w=sparse((500, 2000), live))
    assert files.size(model) < most * 4 * 500 * 2000  # 0.1 · (1 + 1/4) and the fillers; 0.02 · (1 + 1/2)


def test_the_safetensors_library_reads_the_file(tmp_path: Path):
    model = network()
    files.save(model, tmp_path / "model.gossamer")
    with safetensors.safe_open(tmp_path / "model.gossamer", "pt") as file:
        assert torch.equal(file.get_tensor("0.weight"), model[0].weight)
        assert torch.equal(file.get_tensor("4.weight.values"), model[4].weight[model[4].weight != 0])
        assert file.metadata()["format"] == "gossamer 1"
        assert file.get_tensor("1.num_batches_tracked").shape == ()


def test_a_file_is_the_same_for_equal_models(tmp_path: Path):
    model = network()
    assert files.save(model, tmp_path / "one") == files.save(copy.deepcopy(model), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size == files.size(model)
    mirrored = model_of(a=torch.ones(2), b=torch.zeros(3)), model_of(b=torch.zeros(3), a=torch.ones(2))
    assert files.to_bytes(mirrored[0]) == files.to_bytes(mirrored[1])


def test_tied_weights_are_stored_once_and_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 20)
            self.head = nn.Linear(20, 50, bias=False)
            self.head.weight = self.embedding.weight

    model, twin = Tied(), Tied()
    content = files.to_bytes(model)
    assert list(parts_of(content)) == ["embedding.weight"]
    files.from_bytes(content, twin)
    assert torch.equal(twin.head.weight, model.embedding.weight)
    assert twin.head.weight is twin.embedding.weight
    mask = torch.rand(50, 20) < 0.2
    with torch.no_grad():
        model.embedding.weight.mul_(mask)
    found = files.from_bytes(files.to_bytes(model, masks={"head.weight": mask}), twin)
    assert list(found) == ["embedding.weight"]
    assert torch.equal(found["embedding.weight"], mask)
    apart = Tied()
    apart.head.weight = nn.Parameter(torch.randn(50, 20))
    files.from_bytes(content, apart)
    assert torch.equal(apart.head.weight, apart.embedding.weight)
    torch.nn.init.zeros_(apart.head.weight)
    before = bits(twin)
    with pytest.raises(gossamer.InputError, match=r"different values for embedding\.weight and head\.weight"):
        files.from_bytes(files.to_bytes(apart), twin)
    assert bits(twin) == before


# Masks.


def test_masks_keep_a_regrown_weight_at_zero():
    model = model_of(w=torch.zeros(20, 20), full=torch.ones(4, 4), other=sparse((20, 20), 0.1))
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[3, 4] = mask[19, 19] = True
    masks = {"w": mask, "full": torch.ones(4, 4, dtype=torch.bool)}
    content = files.to_bytes(model, masks=masks)
    assert parts_of(content)["w.values"].tolist() == [0.0, 0.0]
    assert "other" in parts_of(content)  # no mask, so no topology
    found = files.from_bytes(content, blank(model))
    assert found.keys() == masks.keys()
    assert all(torch.equal(found[name], masks[name]) for name in masks)


def test_a_vector_can_have_a_mask():
    model = model_of(bias=sparse((400,), 0.05))
    twin = blank(model)
    found = files.from_bytes(files.to_bytes(model, masks={"bias": model.bias != 0}, values="int8"), twin)
    assert torch.equal(found["bias"], model.bias != 0)
    assert bits(twin) == bits(model)


@pytest.mark.parametrize(
    ("name", "mask", "says"),
    [
        ("v", torch.ones(2, 2, dtype=torch.bool), "names v, which is no floating-point parameter"),
        ("steps", torch.ones(2, 2, dtype=torch.bool), "names steps, which is no"),
        ("w", torch.ones(2, 3, dtype=torch.bool), r"torch.bool tensor of shape \(2, 2\)"),
        ("w", torch.ones(2, 2), "torch.bool tensor"),
        ("w", torch.eye(2, dtype=torch.bool), "2 non-zero weights outside its mask"),
    ],
)
def test_masks_that_do_not_fit_are_refused(name: str, mask: Tensor, says: str):
    model = model_of(w=torch.ones(2, 2), steps=torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(gossamer.InputError, match=says):
        files.to_bytes(model, masks={name: mask})


def test_a_masking_takes_the_topology_of_a_file(tmp_path: Path):
    saved, model = network(), network()
    masking = sparsify(saved, 0.8, score="random", generator=torch.Generator().manual_seed(1))
    files.save(saved, tmp_path / "model", masks=masking.masks)
    other = sparsify(model, 0.8, score="random", generator=torch.Generator().manual_seed(2))
    other.update(files.load(tmp_path / "model", model))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in saved.state_dict().items())
    assert all(torch.equal(other.masks[name], mask) for name, mask in masking.masks.items())


# What save refuses.


def test_save_refuses_nan_and_keeps_the_old_file(tmp_path: Path):
    model = network()
    path = tmp_path / "model"
    files.save(model, path)
    old = path.read_bytes()
    with torch.no_grad():
        model[1].running_var[2] = float("nan")
    with pytest.raises(gossamer.InputError, match=r"1\.running_var holds NaN"):
        files.save(model, path)
    assert files.size(model) == len(old)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "model"
    files.save(model_of(w=torch.ones(2)), path)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            files.save(model_of(w=torch.randn(100, 100)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(("weight", "values"), [(7e4, "float16"), (float("inf"), "float16"), (float("inf"), "int8")])
def test_save_refuses_weights_beyond_the_range_of_its_values(weight: float, values: files.Values):
    with pytest.raises(gossamer.InputError, match=r"In w a weight is infinite or beyond .*values='float32'"):
        files.to_bytes(model_of(w=torch.full((2, 2), weight)), values=values)


def test_save_refuses_what_is_no_plain_tensor():
    class Extra(nn.Linear):
        def get_extra_state(self) -> object:
            return {"code": 1}

    for model, says in (
        (Extra(2, 2), "_extra_state is a dict"),
        (nn.Linear(2, 2, device="meta"), "weight has no values"),
        (nn.LazyLinear(2), "weight has no values"),
        (model_of(w=torch.ones(2, dtype=torch.complex128)), "complex128"),
        (model_of(w=torch.eye(2).bool().to_sparse()), "sparse_coo"),
    ):
        with pytest.raises(gossamer.InputError, match=says):
            files.to_bytes(model)
    with pytest.raises(gossamer.InputError, match="Choose one of float32, float16, int8"):
        files.size(nn.Linear(2, 2), values="int4")  # pyright: ignore[reportArgumentType]


# What load refuses.


def refused(content: bytes, model: nn.Module, says: str, **options: bool) -> None:
    """Assert that the file is refused in these words and the model left as it was."""
    before = bits(model)
    with pytest.raises(gossamer.InputError, match=says):
        files.from_bytes(content, model, **options)
    assert bits(model) == before


def test_load_names_the_file_and_the_remedy(tmp_path: Path):
    path = tmp_path / "model.gossamer"
    with pytest.raises(gossamer.InputError, match=r"model\.gossamer cannot be read \(No such file"):
        files.load(path, network())
    path.mkdir()
    with pytest.raises(gossamer.InputError, match=r"model\.gossamer cannot be read \(Is a directory\)"):
        files.load(path, network())
    path.rmdir()
    path.write_bytes(files.to_bytes(network())[:-1])
    with pytest.raises(gossamer.InputError, match=r"model\.gossamer is damaged.*checksum.*Save or fetch it again"):
        files.load(path, network())


def test_load_runs_no_code(tmp_path: Path):
    class Attack:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "owned"),)

    attack = pickle.dumps(Attack())
    torch.save(Attack(), tmp_path / "torch")
    for content in (attack, attack + bytes(200), (tmp_path / "torch").read_bytes()):
        refused(content, network(), "no file of gossamer.save")
    assert not (tmp_path / "owned").exists()


def test_a_file_of_the_safetensors_library_is_refused():
    content = safetensors.torch.save({name: t.contiguous() for name, t in network().state_dict().items()})
    refused(content, network(), "does not begin as a file written by gossamer does")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(w=torch.ones(3, 2)), r"w is torch.float32 \(2, 3\) in the file and torch.float32 \(3, 2\) in the model"),
        (dict(w=torch.ones(2, 3).half()), r"w is torch.float32 \(2, 3\) in the file and torch.float16"),
        (dict(v=torch.ones(2, 3)), "the file lacks v. Build"),
        (
            dict(v=torch.ones(1), x=torch.ones(1), y=torch.ones(1), z=torch.ones(1)),
            r"lacks v, x, y \(and 1 more\)\. Build",
        ),
    ],
)
def test_a_file_of_another_model_is_refused(change: dict[str, Tensor], says: str):
    refused(files.to_bytes(model_of(w=torch.zeros(2, 3))), model_of(**{"w": torch.zeros(2, 3), **change}), says)
    if "v" in change:
        model = model_of(w=torch.ones(2, 3), **change)
        files.from_bytes(files.to_bytes(model_of(w=torch.zeros(2, 3), u=torch.ones(1))), model, strict=False)
        assert bits(model) == bits(model_of(w=torch.zeros(2, 3), **change))


def test_names_beyond_the_model_are_refused():
    refused(
        files.to_bytes(model_of(w=torch.ones(2), v=torch.ones(1))), model_of(w=torch.ones(2)), "beyond the model, v"
    )


def test_a_module_that_refuses_its_tensors_leaves_the_whole_model():
    class Even(nn.Linear):
        def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: object) -> None:
            super()._load_from_state_dict(state_dict, prefix, *rest)
            raise ValueError("odd")

    content = files.to_bytes(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    refused(content, nn.Sequential(nn.Linear(2, 2), Even(2, 2)), "the file is refused by the model: odd")


def test_every_truncation_is_refused():
    model = model_of(w=sparse((8, 40), 0.1), b=torch.ones(3))
    content, twin = files.to_bytes(model), blank(model)
    for length in range(len(content)):
        refused(content[:length], twin, "the file is damaged")


def test_every_flipped_bit_is_refused():
    model = model_of(w=sparse((8, 8), 0.1), b=torch.ones(1))
    content, twin = files.to_bytes(model), blank(model)
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        refused(bytes(changed), twin, "the file is damaged")


FOUR = '{"dtype":"F32","shape":[2,2],"topology":true}'


def entry(dtype: str, shape: object, *offsets: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"w": entry("F32", [2, 2], 0, 16)}, b"", "offsets of 'w' lie outside the file"),
        ({"w": entry("F32", [2, 2], 16, 0)}, bytes(16), "outside the file"),
        ({"w": entry("F32", [2, 2], -16, 0)}, bytes(16), "outside the file"),
        ({"w": entry("F32", [2, 2], 0, 16, 16)}, bytes(16), "outside the file"),
        ({"w": entry("F32", [2, 2], 0, 12)}, bytes(12), "do not fit its shape"),
        ({"w": entry("F32", [2, 2], 0, 16), "x": entry("F32", [2], 8, 16)}, bytes(16), "overlap"),
        ({"w": entry("F32", [2, 2], 8, 24)}, bytes(24), "overlap or leave bytes"),
        ({"w": entry("F32", [2, 2], 0, 16)}, bytes(17), "bytes follow its last tensor"),
        ({"w": entry("F32", [2**62, 2**62], 0, 16)}, bytes(16), "do not fit its shape"),
        ({"w": entry("F32", [2**63, 0, 2], 0, 0)}, b"", "no valid shape"),
        ({"w": entry("F32", [2**62, 0, 2], 0, 0)}, b"", r"\(4611686018427387904, 0, 2\) in the file"),
        ({"w": entry("F32", [10**4000], 0, 16)}, bytes(16), "no valid shape"),
        ({"w": entry("F32", [-2, -2], 0, 16)}, bytes(16), "no valid shape"),
        ({"w": entry("F32", [True, 4], 0, 16)}, bytes(16), "no valid shape"),
        ({"w": entry("F32", [2.0, 2], 0, 16)}, bytes(16), "no valid shape"),
        ({"w": entry("F32", 4, 0, 16)}, bytes(16), "no valid shape"),
        ({"w": entry("F32", [1] * 65, 0, 4)}, bytes(4), "no valid shape"),
        ({"w": entry("F4", [2, 2], 0, 16)}, bytes(16), "unknown dtype 'F4'"),
        ({"w": {"dtype": "F32", "shape": [2, 2]}}, bytes(16), "does not describe 'w'"),
        ({"w": [1]}, bytes(16), "does not describe 'w'"),
        ({"w": entry("F32", [2, 2], 0, 16)}, struct.pack("<4f", 1, 2, 3, float("nan")), "holds NaN"),
        ({"\ud800": entry("F32", [2, 2], 0, 16)}, bytes(16), "lacks w"),
    ],
)
def test_hostile_containers_are_refused(header: dict, data: bytes, says: str):
    refused(sealed(header, data), model_of(w=torch.ones(2, 2)), says)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("%s", "not JSON"),
        ('%s},"w":' + "9" * 5000 + "}", "not JSON"),
        ("%s}}", "not JSON"),
        ('%s,"format":NaN}}', "the number NaN"),
        ('%s},"w":{"a":1,"a":1}}', "same name twice"),
        ('%s},"w":' + "[" * 200_000, "not JSON in UTF-8"),
        ('%s},"w\udcff":[]}', "UnicodeDecodeError"),
        ('%s,"coded":1}}', "other than strings"),
        ('%s,"format":"gossamer 2"}}', "format is 'gossamer 2'"),
        ("%s}}", "format is 'None'"),
    ],
)
def test_hostile_headers_are_refused(header: str, says: str):
    opening = container.OPENING.decode() + "0" * 64 + '"'
    if says == "not JSON" and header == "%s}}":
        opening += ","
    refused(sealed(header % opening), model_of(w=torch.ones(2, 2)), says)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 10**9, 10_000])
def test_absurd_header_lengths_are_refused(length: int):
    content = files.to_bytes(model_of(w=torch.ones(2, 2)))
    refused(struct.pack("<Q", length) + content[8:], model_of(w=torch.ones(2, 2)), "says that its header has")


VALUES, ONE = entry("F32", [1], 0, 4), struct.pack("<f", 5)


@pytest.mark.parametrize(
    ("parts", "data", "says"),
    [
        ({"gaps": entry("U8", [1], 4, 5)}, ONE + b"\x04", "gaps go beyond their tensor"),
        ({"gaps": entry("U8", [2], 4, 6)}, ONE + b"\x01\xff", "gaps end in a filler"),
        ({"gaps": entry("U8", [2], 4, 6)}, ONE + b"\x01\x01", "not as many as their index says"),
        ({"gaps": entry("U8", [0], 4, 4)}, ONE, "not as many"),
        ({"gaps": entry("I8", [1], 4, 5)}, ONE + b"\x01", "neither uint8 nor uint16"),
        ({"gaps": entry("U8", [1, 1], 4, 5)}, ONE + b"\x01", "neither uint8 nor uint16"),
        ({"bitmap": entry("U8", [1], 4, 5)}, ONE + b"\x11", "a bitmap goes beyond its tensor"),
        ({"bitmap": entry("U8", [2], 4, 6)}, ONE + b"\x01\x00", "a bitmap does not fit its tensor"),
        ({"bitmap": entry("U8", [1], 4, 5)}, ONE + b"\x03", "not as many"),
        ({"bitmap": entry("U8", [1], 4, 5), "gaps": entry("U8", [1], 5, 6)}, ONE + b"\x01\x00", "two indices"),
        (
            {"bitmap": entry("U8", [1], 4, 5), "scales": entry("F32", [2], 5, 13)},
            ONE + b"\x01" + bytes(8),
            "fit their sc",
        ),
        ({}, ONE, "not as many"),
    ],
)
def test_hostile_codings_are_refused(parts: dict, data: bytes, says: str):
    header = {"w.values": VALUES} | {f"w.{kind}": part for kind, part in parts.items()}
    refused(sealed(header, data, coded='{"w":' + FOUR + "}"), model_of(w=torch.ones(2, 2)), says)


@pytest.mark.parametrize(
    ("scales", "says"),
    [
        ((1.0, float("nan")), "not finite"),
        ((-1.0, 1.0), "negative"),
        ((3e38, 1.0), "beyond their dtype"),
        ((1.0,), "scales"),
    ],
)
def test_hostile_scales_are_refused(scales: tuple[float, ...], says: str):
    raw = struct.pack(f"<{len(scales)}f", *scales)
    header = {
        "w.scales": entry("F32", [len(scales)], 0, len(raw)),
        "w.values": entry("I8", [2, 2], len(raw), len(raw) + 4),
    }
    content = sealed(header, raw + b"\x7f\x01\x02\x03", coded='{"w":' + FOUR + "}")
    refused(content, model_of(w=torch.ones(2, 2)), says)


@pytest.mark.parametrize(
    ("coded", "tied", "says"),
    [
        ("[]", "{}", "not a JSON object"),
        ('{"w":1}', "{}", "does not describe 'w'"),
        ('{"w":' + FOUR.replace("true", "1") + "}", "{}", "true or false"),
        ('{"w":' + FOUR.replace("F32", "F31") + "}", "{}", "known dtype"),
        ('{"v":' + FOUR + "}", "{}", "'v' has no values"),
        ("{}", '{"v":"u"}', "ties 'v' to a tensor that it does not hold"),
        ("{}", '{"w":"w"}', "ties 'w'"),
        ("{}", '{"v":"u","u":"v"}', "ties 'v'"),
        ("{}", '{"v":1}', "ties 'v'"),
    ],
)
def test_hostile_descriptions_are_refused(coded: str, tied: str, says: str):
    content = sealed({"w": entry("F32", [2, 2], 0, 16)}, bytes(16), coded=coded, tied=tied)
    refused(content, model_of(w=torch.ones(2, 2)), says)


# Files that were saved before.

COMMITTED = sorted((Path(__file__).parents[2] / "vision").glob("**/*.gossamer"))


def test_committed_files_are_found():
    if not (Path(__file__).parents[2] / ".git").exists():
        pytest.skip("the studies are in a checkout alone, not in the sdist")
    assert COMMITTED


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_files_keep_loading(path: Path):
    entries, metadata = container.unpack(path.read_bytes())
    found = {name: coding.decode(one) for name, one in parts.gather(entries, metadata["coded"]).items()}
    model = nn.Module()
    for name, (tensor, _) in found.items():
        inner = model
        *places, last = name.split(".")
        for place in places:
            if place not in dict(inner.named_children()):
                inner.add_module(place, nn.Module())
            inner = inner.get_submodule(place)
        if tensor.is_floating_point():
            inner.register_parameter(last, nn.Parameter(torch.full_like(tensor, 7)))
        else:
            inner.register_buffer(last, torch.zeros_like(tensor))
    masks = gossamer.load(path, model)
    assert masks.keys() == {name for name, (_, mask) in found.items() if mask is not None}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, found[name][0])
    assert 0 < sum(int(mask.sum()) for mask in masks.values()) < sum(mask.numel() for mask in masks.values())


# What is said of a model.

ABOUT = {"kind": "cnn", "sizes": [3, 8], "classes": ["é", "\ud800"], "deep": {"rate": 0.1, "none": None, "yes": True}}


def test_a_description_is_read_without_a_model(tmp_path: Path):
    files.save(network(), tmp_path / "m", about=ABOUT)
    assert files.about(tmp_path / "m") == ABOUT
    twin = blank(network())
    gossamer.load(tmp_path / "m", twin)
    assert torch.equal(twin[4].weight, network()[4].weight)
    files.save(network(), tmp_path / "m", about={"sizes": (3, 8)})
    assert files.about(tmp_path / "m") == {"sizes": [3, 8]}


def test_a_description_is_read_without_torch(tmp_path: Path):
    files.save(network(), tmp_path / "m", about=ABOUT)
    code = "import sys; from gossamer.files import about; print(about(sys.argv[1])['kind'], 'torch' in sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "m")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["cnn", "False"]


def test_a_model_without_a_description_has_an_empty_one(tmp_path: Path):
    files.save(network(), tmp_path / "m")
    assert files.about(tmp_path / "m") == {}
    assert b"about" not in (tmp_path / "m").read_bytes()[:2000]


@pytest.mark.parametrize(
    "about",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {1: "a"},
        {"a": {None: 1}},
        {"a": {1, 2}},
        {"a": Path("x")},
        {"a": torch.ones(2)},
        {"a": 10**5000},
        {True: 1, "true": 1},
    ],
)
def test_a_description_that_json_cannot_hold_is_refused(tmp_path: Path, about: dict):
    with pytest.raises(gossamer.InputError, match=r"about .*JSON"):
        files.save(network(), tmp_path / "m", about=about)
    assert not (tmp_path / "m").exists()


def test_a_description_that_contains_itself_is_refused(tmp_path: Path):
    about: dict = {}
    about["a"] = about
    with pytest.raises(gossamer.InputError, match="about cannot be stored"):
        files.save(network(), tmp_path / "m", about=about)


def test_a_description_beyond_the_readers_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container, "HEADER_LIMIT", 3000)
    files.save(network(), tmp_path / "m", about={"a": "x" * 1000})
    assert files.about(tmp_path / "m") == {"a": "x" * 1000}
    for length in (2500, 5000):
        with pytest.raises(gossamer.InputError, match=r"too large|more than 3000"):
            files.save(network(), tmp_path / "n", about={"a": "x" * length})


def test_a_description_of_a_file_that_is_not_ours_is_refused(tmp_path: Path):
    with pytest.raises(gossamer.InputError, match=r"none.*cannot be read.*file of gossamer\.save"):
        files.about(tmp_path / "none")
    for content in (b"", b"\0" * 300, safetensors.torch.save({"a": torch.ones(2)}, {"about": "{}"})):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(gossamer.InputError, match="damaged, or no file"):
            files.about(tmp_path / "m")


@pytest.mark.parametrize(
    "text", ["[]", "1", "null", "{", '{"a":NaN}', '{"a":1,"a":2}', '{"a":' + "[" * 100_000, '{"a":1e999}']
)
def test_a_hostile_description_is_refused(tmp_path: Path, text: str):
    model, content = model_of(w=torch.ones(2)), files.to_bytes(model_of(w=torch.ones(2)), about={})
    (tmp_path / "m").write_bytes(resealed(content, b'"about":"{}"', b'"about":' + json.dumps(text).encode()))
    with pytest.raises(gossamer.InputError, match="damaged"):
        files.about(tmp_path / "m")
    with pytest.raises(gossamer.InputError, match="damaged"):
        gossamer.load(tmp_path / "m", model)
    (tmp_path / "m").write_bytes(resealed(content, b'"about":"{}"', b'"about":{}'))
    with pytest.raises(gossamer.InputError, match="other than strings"):
        files.about(tmp_path / "m")


def test_every_flipped_bit_of_a_description_is_refused(tmp_path: Path):
    content = files.to_bytes(model_of(w=torch.ones(2)), about={"a": "bcd"})
    for place in range(content.index(b"about"), content.index(b"bcd") + 8):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (tmp_path / "m").write_bytes(changed)
            with pytest.raises(gossamer.InputError, match="damaged"):
                files.about(tmp_path / "m")


def test_a_bool_is_zero_or_one():
    content = sealed({"flags": entry("BOOL", [2], 0, 2)}, b"\x01\x02")
    refused(content, model_of(flags=torch.tensor([True, False])), "bytes other than 0 and 1")


@pytest.mark.parametrize(("dtype", "size"), [("F8_E4M3", 1), ("F8_E5M2", 1), ("BF16", 2), ("I8", 1)])
def test_gaps_are_unsigned_whole_numbers(dtype: str, size: int):
    coded = '{"w":{"dtype":"F32","shape":[2],"topology":true}}'
    content = sealed(
        {"w.values": entry("F32", [1], 0, 4), "w.gaps": entry(dtype, [1], 4, 4 + size)}, bytes(4 + size), coded=coded
    )
    refused(content, model_of(w=torch.ones(2)), "neither uint8 nor uint16")


def test_a_huge_shape_allocates_nothing():
    huge = '{"w":{"dtype":"F32","shape":[1099511627776,1024],"topology":true}}'
    content = sealed({"w.values": entry("F32", [0], 0, 0), "w.gaps": entry("U8", [0], 0, 0)}, coded=huge)
    refused(content, model_of(w=torch.ones(2, 2)), r"\(1099511627776, 1024\) in the file")
    refused(content, model_of(v=torch.ones(2)), "lacks v")
    assert files.from_bytes(content, model_of(v=torch.ones(2)), strict=False) == {}


def test_mutated_files_never_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(FUZZ.parent)
    verdicts, failures, _ = runpy.run_path(str(FUZZ))["fuzz"](2_000, seed=1)
    assert failures == []
    assert sum(verdicts.values()) == 2_000
    assert {verdict.split(":")[0] for verdict in verdicts} == {
        "bytes",
        "sealed bytes",
        "sealed data",
        "sealed header",
        "sealed parts",
    }


def test_an_expanded_tensor_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("scale", torch.ones(1).expand(4))
    with pytest.raises(gossamer.InputError, match="scale is an expanded tensor"):
        files.save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())
