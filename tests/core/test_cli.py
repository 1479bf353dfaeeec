import json
import os
import signal
import subprocess
import sys

import pytest

import gossamer
from gossamer import runs
from gossamer.cli import COMMANDS, answering, main, run_command, train_command


def numbers(folder):
    """Every result without what time and place decide."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text())
        for name in ("train_seconds", "seconds", "latency_ms", "commit"):
            content.pop(name)
        found[path.name] = content
    return found


def refused(capsys, *arguments):
    """What the command says on standard error when it exits with 2."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


HEAVY = ("torch", "sklearn", "lightning_fabric", "numba", "scipy", "matplotlib", "transformers")


@pytest.mark.parametrize("words", [["--help"], ["list"], ["toy"]])
def test_what_only_tells_imports_nothing_heavy(toy, words):
    code = f"import sys\nfrom gossamer.cli import main\nmain({words})\n"
    code += f"assert not {{*{HEAVY}}} & sys.modules.keys(), {{*{HEAVY}}} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("roll" if words == ["toy"] else "toy") in done.stdout


def test_help_names_every_command_and_domain(toy, capsys):
    main([])
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS) and "toy" in out
    main(["--version"])
    assert capsys.readouterr().out == f"gossamer {gossamer.__version__}\n"
    main(["toy"])
    out = capsys.readouterr().out
    assert "Games of chance." in out and "roll the dice" in out and "quick, rare, slow" in out


def test_list_names_the_installed_and_what_the_others_lack(toy, capsys):
    main(["list"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "toy" in out and "quick, rare, slow" in out and "luck" in out
    assert "needs a_package_that_is_not_installed" in out and "toy[lost]" in out


def test_train_saves_a_result_with_the_command_that_makes_it(toy, capsys):
    main(["train", "toy", "quick", "--seed", "3", "--method", "sparse"])
    assert "luck is being tried" in capsys.readouterr().out
    (path,) = toy.glob("results/toy/*.json")
    saved = json.loads(path.read_text())
    assert saved["value"] == pytest.approx(0.9)
    assert saved["command"] == "gossamer train toy quick --method sparse --seed 3"
    assert saved["config"]["seed"] == 3


def test_train_without_a_preset_takes_the_first(toy):
    train_command("toy", [])
    (path,) = toy.glob("results/toy/*.json")
    assert json.loads(path.read_text())["command"] == "gossamer train toy quick"


def test_what_a_person_can_mend_is_one_message_and_status_two(toy, capsys):
    assert "did you mean 'toy'" in refused(capsys, "train", "toi")
    assert "did you mean 'quick'" in refused(capsys, "train", "toy", "quik")
    assert "did you mean 'compare'" in refused(capsys, "compar")
    assert "--sparsity is 1.5; it must be in [0, 1)" in refused(capsys, "train", "toy", "--sparsity", "1.5")
    assert 'pip install "toy[lost]"' in refused(capsys, "train", "lost")
    assert "there are no results below" in refused(capsys, "report")
    assert "domain" in refused(capsys, "train")
    assert refused(capsys, "train", "toy", "--seed", "one").startswith("gossamer: --seed: invalid literal for int")
    assert "--learning-rate is nan; it must be" in refused(capsys, "train", "toy", "--learning-rate", "nan")
    assert "(did you mean --learning-rate?)" in refused(capsys, "train", "toy", "--learnin-rate", "1")
    assert "did you mean 'roll'" in refused(capsys, "toy", "rol")
    assert "--times is 0; it must be at least 1" in refused(capsys, "toy", "roll", "0")
    assert 'pip install "toy[toy]"' in refused(capsys, "toy", "roll", "13")
    assert refused(capsys, "toy", "roll", "--file", "none") == "gossamer: none: No such file or directory\n"
    assert not list(toy.iterdir())


def test_compare_runs_the_grid_once_and_gives_the_same_numbers_again(toy, capsys):
    main(["compare", "--domain", "toy"])
    said = capsys.readouterr()
    assert "sparse" in said.out and "static" in said.out
    assert said.err.count("done toy") == 6 and "0 of 6 finished" in said.err
    first = numbers(toy / "results")
    assert len(first) == 6
    page = (toy / "report.html").read_text()
    assert "dice" in page and "default-src 'none'" in page
    stamps = {path: path.stat().st_mtime_ns for path in (toy / "results").rglob("*.json")}
    main(["compare", "--domain", "toy"])
    assert {path: path.stat().st_mtime_ns for path in (toy / "results").rglob("*.json")} == stamps
    main(["compare", "--domain", "toy", "--results", "again"])
    assert numbers(toy / "again") == first


def test_compare_takes_another_preset_of_one_domain(toy, capsys):
    main(["compare", "--domain", "toy", "--preset", "rare"])
    assert {content["sparsity_asked"] for content in numbers(toy / "results").values()} == {0.99}
    assert "did you mean 'rare'" in refused(capsys, "compare", "--domain", "toy", "--preset", "rar")
    assert "name it with --domain" in refused(capsys, "compare", "--preset", "rare")
    assert "toy reads no folder" in refused(capsys, "compare", "--domain", "toy", "--data-dir", "here")


def test_a_failing_run_does_not_stop_the_others(toy, capsys, monkeypatch):
    monkeypatch.setenv("TOY_FAILS", "broken")
    message = refused(capsys, "compare", "--domain", "toy")
    assert "2 of 6 runs failed" in message and "the dice are broken" in message
    assert len(numbers(toy / "results")) == 4


def test_a_stopped_comparison_keeps_what_is_finished(toy):
    (toy / "study.py").write_text(
        "import contextlib, pathlib, signal, time\n"
        "from gossamer import domains, runs\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "toy = domains.load('toy')\n"
        "if __name__ == '__main__':\n"
        "    work = [runs.Run('toy', config) for config in toy.grid(toy.PRESETS['slow'])]\n"
        "    with contextlib.closing(runs.run_all(work, pathlib.Path('results'))) as outcomes:\n"
        "        print(next(outcomes)[0], flush=True)\n"
        "        time.sleep(60)\n"
    )
    command = [sys.executable, "study.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as study:
        assert study.stdout is not None
        assert study.stdout.readline() == "toy dense seed 1\n"
        study.send_signal(signal.SIGINT)
        study.wait(timeout=40)  # the workers would sleep for a minute
    assert [content["method"] for content in numbers(toy / "results").values()] == ["dense"]


def test_the_report_as_markdown(toy):
    train_command("toy", [])
    main(["report", "--page", "table.md"])
    assert (toy / "table.md").read_text().startswith("| domain | data | method |")


def test_a_run_in_another_process_group_is_the_same_as_here(toy):
    from gossamer import domains

    config = domains.load("toy").PRESETS["quick"]
    run = runs.Run("toy", config)
    ((_, there),) = runs.run_all([run], toy / "results")
    here = runs.execute(run)
    assert there == here


def test_a_file_that_refuses_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_, answering():
        (tmp_path / "missing").read_bytes()
    assert exit_.value.code == 2 and capsys.readouterr().err.endswith("missing: No such file or directory\n")
    with pytest.raises(OSError, match="nameless"), answering():
        raise OSError("nameless")


def test_a_domains_command_is_the_same_both_ways_and_gives_its_status(toy, capsys):
    main(["toy", "roll", "2"])
    out = capsys.readouterr().out
    assert out == "rolled 0\nrolled 1\n"
    run_command("toy", "roll", ["2"])
    assert capsys.readouterr().out == out
    with pytest.raises(SystemExit) as stop:
        main(["toy", "roll", "7"])
    assert stop.value.code == 3
    done = subprocess.run([sys.executable, "-m", "gossamer_toy.roll", "--times"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("gossamer: ") and done.stderr.count("\n") == 1


def test_a_reader_that_goes_ends_a_command_quietly(toy):
    command = [sys.executable, "-m", "gossamer", "toy", "roll", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as rolling:
        assert rolling.stdout is not None and rolling.stderr is not None
        rolling.stdout.readline()
        rolling.stdout.close()
        assert rolling.stderr.read() == ""
        assert rolling.wait(timeout=120) == 141


def test_a_training_that_is_stopped_says_what_is_kept(toy, capsys):
    def stopped(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["train", "toy", "quick", "--method", "stopped", *words])
        assert stop.value.code == 130
        return capsys.readouterr().err

    assert stopped() == "gossamer: stopped; nothing was kept (give --checkpoint FILE)\n"
    (toy / "run.pt").write_text("")
    assert stopped("--checkpoint", "run.pt") == "gossamer: stopped; kept in run.pt: the same command goes on\n"


def test_sigterm_ends_a_command_as_ctrl_c_does(toy):
    with pytest.raises(SystemExit) as stop, answering():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.value.code == 130
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_threads_are_no_part_of_a_run(toy):
    main(["train", "toy", "quick", "--threads", "1", "--seed", "2"])
    (path,) = toy.glob("results/toy/*.json")
    saved = json.loads(path.read_text())
    assert saved["command"] == "gossamer train toy quick --seed 2" and not saved["config"].get("threads")
