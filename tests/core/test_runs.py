import contextlib
import dataclasses
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer import domains, runs
from gossamer.options import parse
from gossamer.results import Result, differing, plain

STUDIES = sorted(Path(__file__).parents[2].glob("*/studies/*/results.jsonl"))


def test_a_run_is_found_by_its_content_whatever_its_file_is_called(toy):
    run = runs.Run("toy", domains.preset("toy"))
    folder = toy / "results"
    path = runs.execute(run).save(folder, run.name)
    assert path == run.path(folder)
    assert list(runs.finished([run], folder)) == [run]
    fields = json.loads(path.read_text())
    del fields["config"]["learning_rate"]  # as if the field were new
    fields["config"]["checkpoint"] = "/somewhere/else.pt"  # as older versions stored it
    path.unlink()
    (folder / "toy" / "0123456789abcdef.json").write_text(json.dumps(fields))
    (folder / "toy" / "cut.json").write_text("{")
    assert list(runs.finished([run], folder)) == [run]
    moved = runs.Run("toy", dataclasses.replace(run.config, checkpoint=toy / "run.pt", threads=2))
    assert list(runs.finished([moved], folder)) == [moved]
    other = runs.Run("toy", dataclasses.replace(run.config, learning_rate=0.2))
    assert runs.finished([other], folder) == {}
    assert list(runs.run_all([run], folder)) == []


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: f"{path.parts[-4]}-{path.parent.name}")
def test_published_results_are_those_of_todays_code(study: Path):
    published = [Result.of(json.loads(line)) for line in study.read_text().splitlines()]
    assert published
    for result in published[::7]:
        gossamer, train, domain, preset, *words = shlex.split(result.command)
        assert (gossamer, train, domain) == ("gossamer", "train", result.domain)
        default = domains.preset(domain, preset)
        config = parse(type(default), words, default=default)
        assert differing(domains.current(result).config, config) == {}
        assert result.config["seed"] == result.seed


def test_a_run_on_a_folder_of_ones_own_is_found_by_the_folders_name():
    vision = pytest.importorskip("gossamer_vision.config", reason="the extra vision is not installed")
    config = dataclasses.replace(vision.PRESETS["folder"], data_dir=Path("somewhere/shapes"))
    fields = {f.name: None for f in dataclasses.fields(Result)}
    result = Result(**{**fields, "domain": "vision", "config": plain(config), "extra": {}})
    assert differing(domains.current(result).config, config) == {}
    other = dataclasses.replace(config, data_dir=Path("somewhere/clothes"))
    assert set(differing(domains.current(result).config, other)) == {"data_dir"}


def planned(**fields):
    return runs.Run("toy", dataclasses.replace(domains.preset("toy"), **fields))


def rolled(toy):
    return sorted((toy / "rolled").read_text().splitlines())


def test_a_run_whose_worker_dies_is_run_again_and_no_other_is_lost(toy):
    work = [planned(method="dies2"), planned(method="dies9"), planned(method="sparse")]
    said = []
    outcomes = dict(runs.run_all(work, toy / "results", lambda run, line: said.append((run, line))))
    assert outcomes[work[0]].value == outcomes[work[2]].value == pytest.approx(0.7)
    assert isinstance(outcomes[work[1]], Exception) and "died by SIGKILL, twice" in str(outcomes[work[1]])
    assert rolled(toy) == ["dies2 1"] * 2 + ["dies9 1"] * 2 + ["sparse 1"]
    assert [run for run, line in said if isinstance(line, runs.Notice)].count(work[0]) == 1
    assert (work[2], "luck is being tried, roll 1 of 2") in said
    assert not list((toy / "results").rglob(".*lock"))


def test_an_error_of_any_kind_is_the_runs_alone(toy):
    work = [planned(method="broken"), planned(method="sparse")]
    outcomes = dict(runs.run_all(work, toy / "results"))
    assert str(outcomes[work[0]]) == "RuntimeError: the dice are broken"
    assert "the dice are broken" in outcomes[work[0]].__notes__[0] and "Traceback" in outcomes[work[0]].__notes__[0]
    assert outcomes[work[1]].value == pytest.approx(0.7)


def test_one_worker_goes_from_run_to_run_without_waiting(toy, monkeypatch):
    monkeypatch.setattr(runs, "cores", lambda: 1)
    said = []
    outcomes = list(
        runs.run_all([planned(seed=s) for s in range(4)], toy / "results", lambda run, line: said.append(line))
    )
    assert len(outcomes) == 4 and not [line for line in said if isinstance(line, runs.Notice)]


COMPARE = [sys.executable, "-m", "gossamer", "compare", "--domain", "toy", "--format", "csv"]


def test_two_comparisons_on_one_folder_share_the_work(toy):
    words = [*COMPARE, "--method", *"abcdef", "--seeds", "3"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    tables = [process.communicate(timeout=240)[0] for process in both]
    assert tables[0] == tables[1] and tables[0].count("\n") == 7
    assert rolled(toy) == sorted(f"{method} {seed}" for method in "abcdef" for seed in (1, 2, 3))


def test_a_run_is_taken_over_from_a_comparison_that_was_killed(toy):
    run = planned(method="later", slow=True)
    words = [*COMPARE, "--method", "later", "--slow"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as other:
        while not (toy / "rolled").exists():
            time.sleep(0.1)
        said = []

        def tell(run, line):
            said.append(str(line))
            if isinstance(line, runs.Notice):
                other.send_signal(signal.SIGKILL)
            elif "luck" in line:
                raise KeyboardInterrupt  # it is run here now

        with pytest.raises(KeyboardInterrupt), contextlib.closing(runs.run_all([run], toy / "results", tell)) as here:
            list(here)
    assert said[0] == "another process on this folder has this run; waiting for it"
    assert rolled(toy) == ["later 1"] * 2


def test_a_result_that_finds_no_room_is_written_once_there_is_some(toy, monkeypatch):
    run, save, said = planned(), Result.save, []
    monkeypatch.setattr(runs, "LOOK", 0.01)
    monkeypatch.setattr(
        Result, "save", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    )

    def tell(run, line):
        if isinstance(line, runs.Notice):
            said.append(line)
            monkeypatch.setattr(Result, "save", save)

    ((_, result),) = runs.run_all([run], toy / "results", tell)
    assert len(said) == 1 and "No space left on device" in said[0]
    assert runs.finished([run], toy / "results") == {run: result}
