"""Machine code: kept on disk, for this processor and for others."""

import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from gossamer import kernels

if not kernels.available():
    pytest.skip("Numba is not installed", allow_module_level=True)

import llvmlite.binding as llvm
from numba.core.types import int64, void

from gossamer.kernels import compiled
from gossamer.kernels.compiled import CFunction
from gossamer.kernels.memory import float32_at, poke
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import Target, probe


def double(address, count):
    """Double floats in place."""
    for index in range(count):
        poke(address + 4 * index, 2 * float32_at(address, index))


def run(function) -> bool:
    """Whether the function doubles; compiled, or loaded from disk."""
    values = np.arange(5, dtype=np.float32)
    function(values.ctypes.data, 4)
    assert values.tolist() == [0, 2, 4, 6, 4]
    return function.code._cache.loaded


def fresh() -> CFunction:
    return CFunction(double, void(int64, int64))


def test_code_is_kept_on_disk_and_mended(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not run(fresh())
    (file,) = compiled.folder().iterdir()
    assert run(fresh())
    whole = file.read_bytes()
    for damaged in (b"", b"no line break", whole[:-9], whole[:200] + b"?" + whole[201:]):
        file.write_bytes(damaged)
        assert not run(fresh())
        assert run(fresh())
    assert list(compiled.folder().iterdir()) == [file]


def test_code_is_made_anew_when_a_source_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "one.py").write_text("1")
    (tmp_path / "two.py").write_text("2")
    first = compiled.digest(tmp_path)
    assert compiled.digest(tmp_path) == first
    (tmp_path / "two.py").write_text("3")
    assert compiled.digest(tmp_path) != first
    assert not run(fresh())
    monkeypatch.setattr(compiled, "sources", lambda: first)
    assert not run(fresh())
    assert run(fresh())


def test_code_that_others_may_write_to_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not run(fresh())
    assert run(fresh())
    compiled.folder().chmod(0o777)
    assert not run(fresh())


def test_functions_of_one_name_in_two_modules_are_told_apart(tmp_path, monkeypatch):
    def triple(address, count):
        for index in range(count):
            poke(address + 4 * index, 3 * float32_at(address, index))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not run(fresh())
    triple.__name__, triple.__module__ = "double", "another.module"
    other = CFunction(triple, void(int64, int64))
    values = np.ones(2, np.float32)
    other(values.ctypes.data, 2)
    assert values.tolist() == [3, 3]


def test_works_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not run(fresh())
    assert not run(fresh())


SCRIPT = """
import numpy as np
from gossamer import kernels
from gossamer.kernels import reference
from gossamer.kernels.target import target
rng = np.random.default_rng(0)
weight = rng.standard_normal((24, 8, 3, 3), np.float32)
for mask in (None, weight > 1, np.repeat(weight[::4] > 0.8, 4, axis=0)):
    conv = kernels.conv2d(weight, mask, padding=1, activation="silu")
    x = kernels.allocate((1, 8, 13, 13), (1, 1))
    x[...] = rng.standard_normal(x.shape)
    out = kernels.allocate((1, 24, 13, 13), (1, 1))
    conv.bind(x, out)()
    expected = conv.activation(reference.conv2d(x, weight if mask is None else weight * mask, padding=(1, 1)))
    assert abs(out - expected).max() < 1e-4
matrix = weight.reshape(24, 72)
for n in (1, 20):
    x, out = rng.standard_normal((n, 72), np.float32), np.zeros((n, 24), np.float32)
    kernels.linear(matrix, matrix > 1).bind(x, out)()
    assert abs(out - x @ (matrix * (matrix > 1)).T).max() < 1e-4
print(target())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="Haswell code runs on x86-64 alone")
def test_runs_with_avx2_alone():
    features = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+sse4.2,+popcnt,+lzcnt,+movbe,+cmov,+cx8"
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": features}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "Target(name='haswell', lanes=8, registers=16)"


ARM = """
import re, sys
import llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
from gossamer.kernels import target as _
target = sys.modules["gossamer.kernels.target"]
machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu="neoverse-n1", opt=3)
found = target.probe(machine, "neoverse-n1")
target.target = lambda: found
from gossamer.kernels import strip_loops, training_loops
from numba.core.ccallback import CFunc
for each in (strip_loops.strips, training_loops.products):
    code = CFunc(each.function, (each.signature.args, each.signature.return_type), {}, {})
    code.compile()
    source = code._library.get_llvm_str()
    source = re.sub('target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', source)
    source = re.sub('target triple = ".*"', 'target triple = "aarch64-unknown-linux-gnu"', source)
    source = re.sub('"(target-cpu|target-features|tune-cpu)"="[^"]*"', "", source)
    print(machine.emit_assembly(llvm.parse_assembly(source)))
"""


def test_becomes_vector_code_for_arm():
    ran = subprocess.run([sys.executable, "-c", ARM], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    blocks = re.split(r"^\.L\w+:", ran.stdout, flags=re.MULTILINE)
    products = [len(re.findall(r"\bfmla\s+v\d+\.4s", block)) for block in blocks]
    assert 24 in products  # a tile of four channels and six vectors, in registers
    loop = blocks[products.index(24)]
    assert not re.search(r"\[sp", loop)


def test_the_width_of_vectors_is_found():
    llvm.initialize_native_target()
    triple = llvm.get_process_triple()
    host = llvm.Target.from_triple(triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    if "NUMBA_CPU_NAME" not in os.environ:
        assert probe(host, "host").lanes == LANES
    if platform.machine() == "x86_64":
        machines = {
            name: llvm.Target.from_triple(triple).create_target_machine(cpu=name) for name in ("haswell", "x86-64")
        }
        assert probe(machines["haswell"], "haswell") == Target("haswell", 8, 16)
        assert probe(machines["x86-64"], "x86-64") == Target("x86-64", 4, 16)


def test_tiles_fit_into_the_registers():
    assert [Target("", 16, 32).vectors(channels) for channels in (1, 2, 4, 8)] == [16, 10, 6, 3]
    assert [Target("", 8, 16).vectors(channels) for channels in (1, 2, 4, 8)] == [8, 5, 3, 1]
