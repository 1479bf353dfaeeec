"""Docstrings read from source files, without repetitions, kept in a cache that is checked."""

import ast
import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import gossamer as gs
from gossamer_nlp import docstrings
from gossamer_nlp.docstrings import (
    Docstring,
    added,
    corpus,
    distinct,
    documented,
    fingerprint,
    package_docstrings,
    split,
)

REST = " ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(30))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    root = tmp_path / "sitting" / "zebrapack"
    (root / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (root / "core.py").write_text(f'def gallop(x):\n    """Run as fast as possible.\n\n    {REST}\n    """\n')
    (root / "tests" / "test_core.py").write_text(
        f'def test():\n    """Tests are left out here.\n\n    {REST} x\n    """\n'
    )
    (root / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(str(root.parent))
    return "zebrapack"


def test_a_package_is_read_and_not_imported(package: str):
    found = list(package_docstrings(package))
    assert found == [Docstring(package, "zebrapack.core", "gallop", "Run as fast as possible.", REST)]
    assert package not in sys.modules


def test_qualified_names_through_branches_and_classes():
    tree = ast.parse('if True:\n class A:\n  "a"\n  def f(self):\n   "f"\n   def g():\n    "g"')
    assert list(documented(tree)) == [("A", "a"), ("A.f", "f"), ("A.f.g", "g")]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('add_newdoc("numpy", "sin", """Sine.""")', ("numpy.sin", "Sine.")),
        ('add_newdoc("numpy", "ndarray", ("sort", """Sort."""))', ("numpy.ndarray.sort", "Sort.")),
        ('add_docstr(torch.abs, r"""abs(x)\n\nAbsolute.""".format(**args))', ("torch.abs", "abs(x)\n\nAbsolute.")),
        ("add_docstr(torch.abs, text)", None),
        ('other("numpy", "sin")', None),
    ],
)
def test_docstrings_of_compiled_code(call: str, expected: tuple[str, str] | None):
    assert next(added(ast.parse(call).body[0].value), None) == expected  # pyright: ignore[reportAttributeAccessIssue]


def test_the_summary_is_the_first_paragraph_that_is_no_signature():
    assert split("dot(a, b) -> c\n\nThe product\nof two.\n\nMore.\n\nEnd.") == ("The product of two.", "More.\n\nEnd.")
    assert split("dot(a, b)\nThe product.\n\nMore.") == ("The product.", "More.")
    assert split("f(x)") == ("", "")


def test_repetitions_and_short_texts_are_left_out():
    first = Docstring("p", "p.a", "f", "Sum of all elements.", REST)
    items = [
        first,
        first._replace(name="g", rest=REST + " again"),
        first._replace(name="h", summary="Another summary of four"),
        first._replace(name="i", summary="Too short"),
        first._replace(name="j", summary="A summary with no rest", rest="few words"),
    ]
    assert distinct(iter(items)) == [first]


def test_the_cache_is_used_checked_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packages = ("joblib",)
    found = corpus(packages)
    assert len(found) > 50
    (path,) = tmp_path.glob("gossamer/nlp/docstrings-*.json")
    assert docstrings.versions(packages) == {"joblib": version("joblib")}

    stored = json.loads(path.read_text())
    assert stored["sha256"] == fingerprint(found)
    fewer = found[:-1]
    path.write_text(json.dumps({"sha256": fingerprint(fewer), "docstrings": fewer}))
    assert corpus(packages) == fewer  # what is whole is believed
    for damaged in (json.dumps({**stored, "docstrings": fewer}), path.read_text()[:-100], "[]", "\xff"):
        path.write_bytes(damaged.encode("latin-1"))
        assert corpus(packages) == found
        assert json.loads(path.read_text())["sha256"] == fingerprint(found)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(corpus(("joblib",))) > 50


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(gs.InputError, match=r'nosuchthing.*pip install "gossamer\[nlp\]"'):
        corpus(("nosuchthing",))


def test_near_duplicates_and_private_items_are_left_out():
    first = Docstring("p", "p.a", "f", "Sum of all elements.", REST)
    words = REST.split()
    nearly = " ".join([*words[:24], *(f"new{i}" for i in range(6))])
    hardly = " ".join([*words[:8], *(f"new{i}" for i in range(22))])
    items = [
        first,
        first._replace(name="g", summary="Another sum of elements.", rest=nearly),
        first._replace(name="h", summary="A third sum of elements.", rest=hardly),
        first._replace(name="C._hidden", summary="A fourth sum of elements.", rest="x ".join(map(str, range(40)))),
    ]
    assert [item.name for item in distinct(iter(items))] == ["f", "h"]


def test_sections_of_numpy_google_and_sphinx_headings():
    text = """The lead,
of two lines.

More of it.

Parameters
----------
x : array

Returns:
    the sum

>>> total([1])
1

See Also
--------
mean
"""
    found = dict(docstrings.sections(text))
    assert found["lead"] == "The lead,\nof two lines."
    assert found["description"] == "More of it."
    assert "x : array" in found["parameters"]
    assert found["returns"].startswith("the sum")
    assert found["code"] == ">>> total([1])"
    assert found["see also"].endswith("mean")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("sort", "sorted", True), ("compute", "computation", True), ("compute", "compare", False), ("fft", "ffts", False)],
)
def test_forms_of_one_word(a: str, b: str, same: bool):
    assert docstrings.akin(a, b) is docstrings.akin(b, a) is same


def test_anonymous_queries_keep_nothing_of_the_name():
    query = "Raise a square matrix to the (integer) power `n`."
    assert docstrings.anonymous(query, "matrix_power") == "Raise a square to the integer n"
    assert docstrings.anonymous("Powers of matrices", "MatrixPower") == "of"
