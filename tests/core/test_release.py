import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import gossamer

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODELS = {".gossamer", ".engine", ".pt", ".onnx"}
VERSION = gossamer.__version__


def test_the_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == VERSION


def test_the_wheel_has_the_packages_alone(tmp_path):
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    (path,) = hatchling.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(path).namelist()
    packages = {Path(folder).name for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert {name.partition("/")[0] for name in names} == packages | {f"gossamer-{VERSION}.dist-info"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert not MODELS & {Path(name).suffix for name in names}


def test_the_sdist_has_code_tests_and_pages_but_no_studies(tmp_path):
    hatchling = pytest.importorskip("hatchling.builders.sdist")
    (path,) = hatchling.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "core/docs/tour.md", "tests/core/test_release.py"} <= names
    assert not MODELS & {Path(name).suffix for name in names}
    assert not [name for name in names if "/studies/" in name]
