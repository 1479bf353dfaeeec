"""TREC's files: runs (query Q0 document rank score tag) and judgements (query 0 document relevance)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gossamer import InputError

Run = Mapping[str, Mapping[str, float]]  # the score, or the relevance, of documents by query
TAG = "gossamer"


def write_run(path: str | Path, run: Run, tag: str = TAG) -> None:
    """Write a run: each query's documents by falling score, ranks from 1; no id may hold a space."""
    lines = []
    for query, scores in run.items():
        order = sorted(scores, key=lambda name: (-scores[name], name))
        for rank, name in enumerate(order, 1):
            lines.append(f"{_word(query)} Q0 {_word(name)} {rank} {scores[name]:.9g} {_word(tag)}\n")
    _write(path, lines)


def write_judgements(path: str | Path, judgements: Run) -> None:
    """Write judgements, whose relevance is a whole number."""
    lines = []
    for query, relevance in judgements.items():
        for name, value in relevance.items():
            if value != int(value):
                raise InputError(f"the relevance of {name!r} to {query!r} is {value}; TREC's files hold whole numbers.")
            lines.append(f"{_word(query)} 0 {_word(name)} {int(value)}\n")
    _write(path, lines)


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """The scores of a run by query and document; `InputError` names a line that is none, or repeats a document."""
    return _read(path, 6, lambda parts: (parts[0], parts[2], float(parts[4])), "query Q0 document rank score tag")


def read_judgements(path: str | Path) -> dict[str, dict[str, float]]:
    """The relevance by query and document; `InputError` names a line that is none, or repeats a document."""
    return _read(path, 4, lambda parts: (parts[0], parts[2], int(parts[3])), "query 0 document relevance")


def _read(
    path: str | Path, width: int, taken: Callable[[Sequence[str]], tuple[str, str, float]], what: str
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file of lines {what!r}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it.") from error
    for number, line in enumerate(content.split("\n"), 1):
        parts = line.split()
        if not parts:
            continue
        try:
            if len(parts) != width:
                raise ValueError(f"{len(parts)} parts, not {width}")
            query, name, value = taken(parts)
            if not abs(value) < float("inf"):
                raise ValueError(f"{value} is not finite")
            if name in found.setdefault(query, {}):
                raise ValueError(f"{name} stands there twice")
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not {what!r} ({error}); mend the line.") from error
        found[query][name] = value
    return found


def _word(name: str) -> str:
    if not name or name.split() != [name]:
        raise InputError(f"the id {name!r} is empty or holds a space, which TREC's files cannot hold; rename it.")
    return name


def _write(path: str | Path, lines: list[str]) -> None:
    from gossamer.paths import write_atomically

    write_atomically(Path(path), "".join(lines).encode())
