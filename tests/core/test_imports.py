"""Who imports whom: no circles, in the core or in a domain."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ALLOWED = "gossamer.kernels", "gossamer.errors", "gossamer.paths"
PACKAGES = [
    Path(spec.origin).parent
    for name in ("gossamer", "gossamer_vision", "gossamer_speech", "gossamer_nlp", "gossamer_rl")
    if (spec := find_spec(name)) and spec.origin
]


def modules() -> dict[str, Path]:
    """The name and file of every module."""
    found = {}
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(statements: list[ast.stmt], typing: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run with the module, and with `typing` those for type checkers alone."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from imported(statement.body if typing else statement.orelse, typing)
        elif isinstance(statement, ast.If | ast.Try):
            parts = [statement.body, statement.orelse, *(h.body for h in getattr(statement, "handlers", []))]
            for part in parts:
                yield from imported(part, typing)


def graph(typing: bool) -> dict[str, set[str]]:
    """For each module the modules that it imports; a package's submodules do not wait for the package."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        names = set()
        for statement in imported(ast.parse(path.read_text()).body, typing):
            if isinstance(statement, ast.Import):
                names |= {alias.name for alias in statement.names}
            else:
                assert statement.level == 0, f"{path} imports relatively"
                inner = {f"{statement.module}.{alias.name}" for alias in statement.names}
                names |= {part if part in known else str(statement.module) for part in inner}
        found[name] = {other for other in names & set(known) if not name.startswith(other + ".")}
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Some circle, or nothing."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            found = search(other, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    return next(filter(None, (search(name, []) for name in sorted(edges))), [])


@pytest.mark.parametrize("typing", [False, True], ids=["at run time", "for type checkers too"])
def test_no_module_imports_what_imports_it(typing):
    edges = graph(typing)
    assert "gossamer.kernels.layout" in edges["gossamer.kernels.geometry"]
    assert circle(edges) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_core_imports_no_domain_and_no_domain_another():
    for name, others in graph(True).items():
        roots = {other.split(".")[0] for other in others}
        assert roots <= {"gossamer", name.split(".")[0]}, name


def test_kernels_know_neither_torch_nor_masking():
    for path in (PACKAGES[0] / "kernels").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] != "torch", path
                assert not name.startswith("gossamer.") or name.startswith(ALLOWED), path
