import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gossamer
from gossamer.cli import main

CORE = Path(gossamer.__file__).parents[1]


def python(*words: str, first: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with a folder before all others."""
    paths = os.pathsep.join([str(first), str(CORE), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new domain's folder, installed by an entry-point file as pip would."""
    monkeypatch.chdir(tmp_path)
    main(["new", "weather"])
    home = tmp_path / "weather"
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    installed = home / "gossamer_weather-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: gossamer-weather\nVersion: 0.1.0\n")
    entries = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["gossamer.domains"].items())
    (installed / "entry_points.txt").write_text(f"[gossamer.domains]\n{entries}")
    return home


def test_a_new_domain_passes_its_tests_at_once(weather):
    done = python("-m", "pytest", "-q", "-W", "error", "weather", first=weather)
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout


def test_a_new_domain_is_trained_used_and_compared(weather):
    main_ = "from gossamer.cli import main; main()"

    def run(line: str) -> str:
        done = python("-c", main_, *line.split(), first=weather)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    assert "accuracy" in run("train weather quick --epochs 2 --save weather.gossamer")
    assert run(f"weather predict weather.gossamer --point {'0.1 ' * 16}").startswith("kind ")
    table = run("compare --domain weather --epochs 1 --method dense rigl --seeds 1 --format markdown")
    assert table.count("\n") == 5 and "| rigl |" in table


def test_a_new_domain_is_written_as_this_project_is(weather):
    ruff = pytest.importorskip("ruff", reason="ruff is not installed")
    settings = Path(__file__).parents[2] / "pyproject.toml"
    assert ruff and "NAME" not in "".join(path.read_text() for path in weather.rglob("*") if path.is_file())
    for words in (["check", "--ignore", "D1,I001"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--config", settings, weather], capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize(
    ("name", "says"),
    [("Weather", "small letters"), ("my weather", "small letters"), ("../up", "small letters"), ("train", "a command")],
)
def test_what_is_no_name_is_refused(toy, capsys, name, says):
    with pytest.raises(SystemExit) as stop:
        main(["new", name])
    assert stop.value.code == 2 and says in capsys.readouterr().err and not list(toy.iterdir())


def test_nothing_is_written_over(toy, capsys):
    (toy / "weather").mkdir()
    with pytest.raises(SystemExit):
        main(["new", "weather"])
    assert "is there already" in capsys.readouterr().err and not list((toy / "weather").iterdir())
