import json

import pytest

from gossamer import failures
from gossamer.cli import main


def compare(*words):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--domain", "toy", *words])
    return stop.value.code


def test_a_failed_run_is_on_the_page_until_it_has_a_result(toy, capsys):
    assert compare("--method", "broken", "sparse") == 2
    said, page = capsys.readouterr(), (toy / "report.html").read_text()
    assert "failed: toy broken seed 1: RuntimeError: the dice are broken" in said.err
    assert "Runs that failed: 1" in page and "RuntimeError: the dice are broken" in page
    assert "gossamer train toy quick --method broken" in page
    (path,) = toy.glob("results/toy/*.failed")
    fields = json.loads(path.read_text())
    other = path.with_name("other.failed")
    other.write_text(json.dumps(fields | {"error": "<script>alert(1)</script>"}))
    main(["report"])
    assert "<script>alert" not in (toy / "report.html").read_text()
    assert "alert(1)" in capsys.readouterr().err
    (result,) = toy.glob("results/toy/*.json")
    made = json.loads(result.read_text())
    result.with_name("mended.json").write_text(json.dumps(made | {"config": fields["config"], "method": "broken"}))
    main(["report"])
    assert "Runs that failed" not in (toy / "report.html").read_text()


def test_a_file_that_tells_of_no_failure_is_named_and_left_out(toy, capsys):
    main(["train", "toy", "quick"])
    for name, text in (("cut", "{"), ("list", "[]"), ("odd", json.dumps({"domain": 3})), ("deep", "[" * 100_000)):
        (toy / "results" / "toy" / f"{name}.failed").write_text(text)
    main(["report"])
    said = capsys.readouterr().err
    assert all(f"{name}.failed tells of no failed run" in said for name in ("cut", "list", "odd", "deep"))


def test_where_all_runs_failed_the_report_says_so(toy, capsys):
    assert compare("--method", "broken") == 2
    with pytest.raises(SystemExit):
        main(["report"])
    assert "failed: toy broken seed 1: RuntimeError: the dice are broken" in capsys.readouterr().err


def test_a_run_that_works_again_forgets_its_failure(toy):
    path = toy / "results" / "toy" / "run.json"
    fields = {"domain": "toy", "method": "sparse", "error": "", "command": ""}
    failures.Failure(**fields, seed=1, config={}).save(path)
    assert [str(failure) for failure in failures.read(toy / "results", ["toy"], [], [])] == ["toy sparse seed 1: "]
    failures.forget(path)
    failures.forget(path)
    assert failures.read(toy / "results", [], [], []) == []
