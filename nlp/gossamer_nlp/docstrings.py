"""The docstrings of installed packages, read from their source files (nothing is imported), without near-duplicates."""

import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gossamer.errors import InputError
from gossamer.paths import cache, write_atomically

EXTRACTION = 2  # of what this file extracts: a change of its rules makes cached copies old
SKIPPED = re.compile(r"(^|\.)(tests?|_?testing|conftest|externals?|_?vendor\w*|array_api_compat)(\.|$)")
SIGNATURE = re.compile(r"[\w.]+\(.*\)\s*(->.*|--)?", re.DOTALL)
ADDERS = ("add_newdoc", "add_docstr", "_add_docstr")
WORD = re.compile(r"\w+")
PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
SHINGLE = 4  # words in a row that near-duplicates are told by
ALIKE = 0.5  # the Jaccard similarity of shingles from which on a text counts as seen before
FIELDS = (
    "lead",
    "description",
    "parameters",
    "returns",
    "examples",
    "code",
    "notes",
    "see also",
    "references",
    "other",
)
TITLES = {
    "explanation": "description",
    "arg": "parameters",
    "argument": "parameters",
    "keyword arg": "parameters",
    "attribute": "parameters",
    "parameter": "parameters",
    "return": "returns",
    "yield": "returns",
    "example": "examples",
    "note": "notes",
    "see also": "see also",
    "reference": "references",
    "raise": "other",
    "warning": "other",
    "method": "other",
}
TITLE = re.compile(rf"\s*:?({'|'.join(TITLES)})s?\s*:{{0,2}}\s*", re.IGNORECASE)
PROMPT = re.compile(r"\s*(>>>|\.\.\. )")


class Docstring(NamedTuple):
    """One documented item: its package, module, qualified name, summary (one paragraph) and the text after it."""

    package: str
    module: str
    name: str
    summary: str
    rest: str


def corpus(packages: tuple[str, ...]) -> list[Docstring]:
    """The docstrings of the packages, in fixed order and without repetitions; kept in the cache.

    The cached copy is named by the packages' versions and carries the SHA-256 of its text; a damaged one is made anew.
    """
    installed = versions(packages)
    key = hashlib.sha256(json.dumps([EXTRACTION, installed]).encode()).hexdigest()[:16]
    path = cache("nlp") / f"docstrings-{key}.json"
    try:
        stored = json.loads(path.read_bytes())
        found = [Docstring(*entry) for entry in stored["docstrings"]]
        if fingerprint(found) == stored["sha256"]:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = distinct(item for package in packages for item in package_docstrings(package))
    content = json.dumps({"sha256": fingerprint(found), "docstrings": found})
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the next run some seconds
        write_atomically(path, content.encode())
    return found


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each package, by its import name; `InputError` where one is missing."""
    names = {"sklearn": "scikit-learn"}
    try:
        return {package: importlib.metadata.version(names.get(package, package)) for package in packages}
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f'the package {error.name}, part of the corpus, is not installed; type: pip install "gossamer[nlp]"'
        ) from error


def fingerprint(docstrings: list[Docstring]) -> str:
    """The SHA-256 of the whole text, as 64 hexadecimal digits."""
    return hashlib.sha256("\x1e".join("\x1f".join(item) for item in docstrings).encode()).hexdigest()


def distinct(items: Iterator[Docstring]) -> list[Docstring]:
    """The public items fit for search: a summary of 4 to 40 words and a rest of at least 20, neither seen before.

    A rest counts as seen where a kept one shares half of its runs of four words (Jaccard; Broder 1997).
    """
    summaries: set[str] = set()
    holders: dict[tuple[str, ...], list[int]] = {}
    sizes: list[int] = []
    kept = []
    for item in items:
        summary, rest = (WORD.findall(text.lower()) for text in (item.summary, item.rest))
        key = " ".join(summary)
        if not public(item.name) or not 4 <= len(summary) <= 40 or len(rest) < 20 or key in summaries:
            continue
        shingles = set(zip(*(rest[i:] for i in range(SHINGLE)), strict=False))
        shared = Counter(number for shingle in shingles for number in holders.get(shingle, ()))
        if any(count >= ALIKE * (len(shingles) + sizes[number] - count) for number, count in shared.items()):
            continue
        for shingle in shingles:
            holders.setdefault(shingle, []).append(len(kept))
        summaries.add(key)
        sizes.append(len(shingles))
        kept.append(item)
    return kept


def public(name: str) -> bool:
    """Whether the last part of a qualified name is public."""
    return not name.rpartition(".")[2].startswith("_")


def package_docstrings(package: str) -> Iterator[Docstring]:
    """All docstrings of a package that have a summary and a rest, file by file in the order of their paths."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f'there is no source of the package {package}; type: pip install "gossamer[nlp]"')
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        if SKIPPED.search(module):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # templates and files of another Python
            continue
        calls = ast.walk(tree) if any(name in source for name in ADDERS) else ()
        for name, text in (*documented(tree), *(pair for call in calls for pair in added(call))):
            summary, rest = split(text)
            if summary and rest:
                yield Docstring(package, module, name, summary, rest)


def documented(node: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Qualified name and docstring of every class and function, wherever a statement holds it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            continue
        inner = scope
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = (*scope, child.name)
            text = ast.get_docstring(child)
            if text:
                yield ".".join(inner), text
        yield from documented(child, inner)


def added(call: ast.AST) -> Iterator[tuple[str, str]]:
    """The name and docstring that a call attaches to compiled code, as NumPy, SciPy and torch do it.

    Forms: add_newdoc("module", "name", "text" or ("method", "text")) and add_docstr(torch.name, "text"[.format(…)]).
    """
    if not isinstance(call, ast.Call) or len(call.args) < 2:
        return
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called not in ADDERS:
        return
    *owner, last = call.args
    if isinstance(last, ast.Tuple) and len(last.elts) == 2:
        owner, last = [*owner, last.elts[0]], last.elts[1]
    if isinstance(last, ast.Call) and isinstance(last.func, ast.Attribute) and last.func.attr == "format":
        last = last.func.value
    if isinstance(last, ast.Constant) and isinstance(last.value, str):
        names = (str(part.value) if isinstance(part, ast.Constant) else ast.unparse(part) for part in owner)
        yield ".".join(names), inspect.cleandoc(last.value)


def split(text: str) -> tuple[str, str]:
    """The first paragraph that is not a signature, as one line, and all that follows it."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    while paragraphs and SIGNATURE.fullmatch(paragraphs[0].strip()):
        del paragraphs[0]
    if not paragraphs:
        return "", ""
    lines = paragraphs[0].strip().splitlines()
    if len(lines) > 1 and SIGNATURE.fullmatch(lines[0].strip()):
        del lines[0]
    return " ".join(" ".join(lines).split()), "\n\n".join(paragraphs[1:])


def sections(text: str) -> list[tuple[str, str]]:
    """The text of a docstring by field, in the order of `FIELDS`; fields without text are left out.

    Headings as NumPy, Google and Sphinx style write them open a field; lines with an interpreter's prompt are `code`;
    the first paragraph is the `lead`, and what follows it without a heading is `description`.
    """
    lines: dict[str, list[str]] = {field: [] for field in FIELDS}
    field = "lead"
    for line in text.splitlines():
        title = TITLE.fullmatch(line)
        if title:
            field = TITLES[title[1].lower()]
        elif field == "lead" and not line.strip() and lines["lead"]:
            field = "description"
        else:
            lines["code" if PROMPT.match(line) else field].append(line)
    found = ((field, "\n".join(own).strip()) for field, own in lines.items())
    return [(field, own) for field, own in found if own]


def anonymous(query: str, name: str) -> str:
    """The query without the words of which a piece is akin to a piece of `name`, its item's module and own name."""
    own = {piece.lower() for piece in PIECE.findall(name)}
    return " ".join(
        word
        for word in WORD.findall(query)
        if not any(akin(piece.lower(), other) for piece in PIECE.findall(word) for other in own)
    )


def akin(a: str, b: str) -> bool:
    """Whether two words are likely forms of one: equal, or equal in their first max(4, shorter − 2) letters.

    So "sort" also hides "sorts" and "sorting", "compute" hides "computation", and "fft" hides itself alone.
    """
    prefix = max(4, min(len(a), len(b)) - 2)
    return a == b or (len(a) >= 4 and len(b) >= 4 and a[:prefix] == b[:prefix])
