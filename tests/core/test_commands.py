import json
import subprocess

import pytest

from gossamer import domains
from gossamer.cli import COMMANDS, main
from gossamer.commands import doctor


def test_doctor_names_versions_extras_processor_and_caches(toy, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(toy))
    (toy / "gossamer" / "kernels").mkdir(parents=True)
    (toy / "gossamer" / "kernels" / "code").write_bytes(b"0" * 250_000)
    main(["doctor"])
    out = capsys.readouterr().out
    assert "torch 2" in out and "toy: whole" in out and "kernels: 0.2 MB" in out
    assert 'needs a_package_that_is_not_installed, which is not installed; type: pip install "toy[lost]"' in out
    assert "floats" in out or "Numba is not installed" in out
    assert "cores for this process" in out


def test_the_size_of_a_cache_is_that_of_its_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert doctor.size(tmp_path) == 5 and doctor.size(tmp_path / "a" / "b") == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_preset_and_option(toy, capsys, monkeypatch, shell):
    monkeypatch.setattr(domains, "names", lambda: ["toy", "lost"])
    with pytest.raises(SystemExit) as stop:
        main(["completion", shell])
    assert not stop.value.code
    script = capsys.readouterr().out
    for word in (*COMMANDS, "toy", "roll", "quick", "rare", "--learning-rate", "--page", "--file"):
        assert word in script, word


def test_bash_completes(toy, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(domains, "names", lambda: ["toy"])
    with pytest.raises(SystemExit):
        main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = f"""source {tmp_path}/script
COMP_WORDS=(gossamer {" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words)}
COMP_LINE="gossamer {" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
_tyro_gossamer gossamer "{words[-1]}" ""; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        return set(done.stdout.split())

    assert {"toy", "train", "compare"} <= completed("")
    assert completed("toy", "r") == {"roll"}
    assert {"quick", "rare", "slow"} <= completed("train", "toy", "")
    assert completed("train", "toy", "quick", "--lea") == {"--learning-rate"}


def test_a_damaged_result_is_named_and_left_out(toy, capsys):
    main(["train", "toy", "quick"])
    (path,) = toy.glob("results/toy/*.json")
    fields = json.loads(path.read_text())
    path.with_name("odd.json").write_text(json.dumps(fields | {"value": float("nan")}))
    path.with_name("cut.json").write_text(path.read_text()[:100])
    capsys.readouterr()
    main(["report", "--page", "table.md"])
    said = capsys.readouterr()
    assert "odd.json" in said.err and "value is nan" in said.err and "cut.json" in said.err
    assert (toy / "table.md").read_text().count("\n") == 3
