import importlib.util
from pathlib import Path

import pytest

from gossamer import compare, domains

ROOT = Path(__file__).parents[2]


@pytest.fixture
def readme(tmp_path, monkeypatch):
    """The script that makes the table, on a README of its own."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "core/benchmarks/readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "README", tmp_path / "README.md")
    monkeypatch.setattr(module, "KEPT", tmp_path / "readme.jsonl")
    (tmp_path / "README.md").write_text(f"# It\n\n{module.START}old\n{module.END}\nthe rest\n")
    return module


def test_the_table_is_made_between_the_marks_and_checked(toy, readme, tmp_path):
    made = domains.load("toy")
    for config in made.grid(made.PRESETS["quick"]):
        made.run(config).save(toy / "results")
    assert readme.main([str(toy / "results")]) == 0 and readme.main(["--check"]) == 0
    text = readme.README.read_text()
    assert text.startswith("# It\n") and text.endswith(readme.END + "\nthe rest\n") and "old" not in text
    assert "| toy | dice | sparse | 90.0% | luck ↑ | 0.750 ± 0.071 |" in text
    readme.README.write_text(text.replace("0.750", "0.760"))
    assert readme.main(["--check"]) == 1
    assert len(compare.rows(readme.read(toy / "results"))) == 3


def test_the_readme_of_this_checkout_is_that_of_the_results_kept(readme):
    kept = ROOT / "core/benchmarks/readme.jsonl"
    if not kept.exists():
        pytest.skip("the main job's results are not kept yet: gossamer compare && python core/benchmarks/readme.py")
    text = (ROOT / "README.md").read_text()
    assert readme.filled(text, kept.read_text()) == text
