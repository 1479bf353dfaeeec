import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "core/examples").glob("*.py"))


def shape(text):
    """Some printed lines without their numbers, which a machine or a version may change."""
    return [re.sub(r"[\d.,]+|\s+", " ", line).split() for line in text.strip().splitlines()]


def test_there_are_five_examples_each_of_at_most_sixty_lines():
    assert len(SCRIPTS) == 5
    assert all(path.read_text().count("\n") <= 60 for path in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_prints_what_it_says(script):
    """The docstring has the command and, after `It printed`, the lines; the numbers may be others."""
    code = script.read_text()
    told = ast.get_docstring(ast.parse(code)) or ""
    assert f"python core/examples/{script.name}" in told
    for name in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the example needs {name}, which is not installed")
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert run.returncode == 0, run.stderr
    assert shape(run.stdout) == shape(told.partition("It printed")[2].partition("\n")[2])
