import ast
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gossamer

ROOT = Path(__file__).parents[2]
READMES = [ROOT / name / "README.md" for name in (".", "core", "vision", "speech", "nlp", "rl")]
PAGES = [*READMES, *sorted((ROOT / "core/docs").rglob("*.md"))]
CORE = "core/gossamer/"
BLOCK = re.compile(r"^```(?:python|toml) *(?:title=\"(.+?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """The Python blocks of a page: the file's name where one is titled, the line it starts at, and the code."""
    text = page.read_text()
    return [(match[1], text.count("\n", 0, match.start()) + 1, match[2]) for match in BLOCK.finditer(text)]


def imported(title, code):
    """The packages that some code imports."""
    if title and (title.startswith(CORE) or not title.endswith(".py")):
        return set()
    nodes = list(ast.walk(ast.parse(code)))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.partition(".")[0] for name in names}


def kind(page):
    """What a page does: it installs a project of its own, adds to a file of the core, or only runs."""
    titles = [title for title, _, _ in blocks(page) if title]
    if any(title.endswith("pyproject.toml") for title in titles):
        return "installs"
    return "adds" if any(title.startswith(CORE) for title in titles) else "runs"


def pages(which):
    return pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and kind(page) == which], ids=name)


def name(page):
    return page.relative_to(ROOT).as_posix()


def recordings(folder):
    """Two words by four speakers, a recogniser that learned them, and three recordings."""
    import numpy as np
    import soundfile

    from gossamer_speech.config import Config
    from gossamer_speech.train import run

    def record(path, frequency):
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = np.sin(2 * np.pi * frequency * np.arange(2400) / 8000) + np.random.default_rng(0).normal(0, 0.01, 2400)
        soundfile.write(path, 0.5 * sound, 8000)

    for speaker, frequency in enumerate((400, 450, 500, 550)):
        record(folder / f"my-words/no/{speaker}_1.wav", frequency)
        record(folder / f"my-words/yes/{speaker}_1.wav", 3 * frequency)
    for name in ("a.wav", "b.flac", "c.mp3"):
        record(folder / name, 500)
    save, data = folder / "my-words.gossamer", folder / "my-words"
    run(Config(data="folder", data_dir=data, codes=16, active=4, epochs=1, warps=1, batch=64, levels=(), save=save))


def policy(folder):
    """A policy that was trained for a moment."""
    from gossamer_rl.config import Config
    from gossamer_rl.train import train

    data, save = "MiniGrid-Empty-5x5-v0", folder / "policy.gossamer"
    train(Config(data=data, steps=96, copies=2, horizon=8, width=8, minibatch=8, save=save))


def kernels(folder):
    """What a budget of latency is spent with."""
    pytest.importorskip("numba", reason="nothing is faster than dense without Numba")


# What a reader of a page has by then, from the commands that it shows; in the folder that its blocks run in.
PREPARED = {"speech/README.md": recordings, "rl/README.md": policy, "core/docs/guides/engine.md": kernels}


def need_extra(page):
    """Skip where packages of a domain's extra are not installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for requirement in extras.get(page.parent.name, ()):
        package = re.match(r"[\w.-]+", requirement)[0]
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the page needs {package}, which is not installed")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty current folder whose files can be imported; what was imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write_files(page, scratch):
    """Write the files of a page and return their names; skip where it imports a package that is not installed."""
    titles = [title for title, _, _ in blocks(page) if title]
    for title, _, code in blocks(page):
        if title:
            (scratch / title).parent.mkdir(parents=True, exist_ok=True)
            (scratch / title).write_text(code)
    for name in {name for title, _, code in blocks(page) for name in imported(title, code)}:
        if not any(name in title for title in titles) and importlib.util.find_spec(name) is None:
            pytest.skip(f"the page needs {name}, which is not installed")
    return titles


def python(words, first):
    """Run Python with a folder before all others."""
    paths = os.pathsep.join([str(first), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


@pages("runs")
def test_every_python_block_of_a_page_runs(page, scratch):
    """In order, in one namespace; a titled block is the file of that name, which others import."""
    need_extra(page)
    write_files(page, scratch)
    pytest.importorskip("torch").manual_seed(0)
    PREPARED.get(name(page), lambda folder: None)(scratch)
    names = {"__name__": "__main__"}
    for title, line, code in blocks(page):
        if not title:
            exec(compile("\n" * line + code, str(page), "exec"), names)


def added(text, code):
    """A file's text with a block in the place of its first line that stands there once, or else at its end."""
    for line in filter(str.strip, code.splitlines()):
        if text.splitlines().count(line) == 1:
            return text.replace(f"\n{line}\n", f"\n{code}", 1)
    return f"{text}\n\n{code}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_python_is_shown_that_does_not_run(page):
    """An indented block is not looked at, and may show output alone."""
    assert not re.findall(r"^    (?:import|from) [\w.]+.*$", BLOCK.sub("", page.read_text()), re.MULTILINE)


@pages("adds")
def test_what_a_page_adds_to_the_core_takes_the_one_file_that_it_names(page, scratch):
    """In a copy of the core, to whose file the titled block is added; the others run in a process of their own."""
    write_files(page, scratch)
    shutil.copytree(
        Path(gossamer.__file__).parent, scratch / CORE, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    for title, _, code in blocks(page):
        original = Path(gossamer.__file__).parent / str(title).removeprefix(CORE)
        if title and original.exists():
            (scratch / title).write_text(added(original.read_text(), code))
    (scratch / "page.py").write_text("\n".join(code for title, _, code in blocks(page) if not title))
    run = python(["page.py"], scratch / "core")
    assert run.returncode == 0, run.stderr


@pages("installs")
def test_the_commands_of_a_page_run_once_its_project_is_installed(page, scratch):
    """Installed by an entry-point file, as pip would make it; then the lines of its shell blocks, in order."""
    (project,) = [Path(title).parent for title in write_files(page, scratch) if title.endswith("pyproject.toml")]
    about = tomllib.loads((scratch / project / "pyproject.toml").read_text())["project"]
    entries = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in e.items()) for group, e in about["entry-points"].items()
    ]
    installed = scratch / project / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    (installed / "entry_points.txt").write_text("\n".join(entries))
    shell = "".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    for command in shell.splitlines():
        run = python(["-c", "from gossamer.cli import main; main()", *shlex.split(command)[1:]], scratch / project)
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"


@pytest.mark.parametrize("page", sorted((ROOT / "core/docs/api").glob("*.md")), ids=name)
def test_what_the_pages_of_the_api_show_is_there(page):
    if page.stem == "integrations":
        pytest.importorskip("lightning", reason="the page shows what needs the extra integrations")
    for shown in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
        assert pkgutil.resolve_name(shown) is not None


def test_the_site_leaves_no_page_out():
    docs = ROOT / "core/docs"
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "core/mkdocs.yml").read_text()))
    assert {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")} <= listed
