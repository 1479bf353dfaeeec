"""A folder of files as documents: text, Markdown, HTML, PDF, source code, JSONL and CSV."""

import csv
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from gossamer import InputError

KINDS = """
.txt .text .md .markdown .rst .org .adoc .tex .log .py .pyi .ipynb .js .ts .jsx .tsx .java .kt .scala .c .h .cc .cpp
.hpp .cs .go .rs .rb .php .swift .m .r .jl .lua .pl .sh .bash .zsh .sql .toml .yaml .yml .ini .cfg .json .xml
"""
TEXT = frozenset(KINDS.split())
ROWS = frozenset((".jsonl", ".csv", ".tsv"))
HTML = frozenset((".html", ".htm", ".xhtml"))
LARGEST = 64 * 2**20  # bytes of a file that is read as one document
Document = dict[str, Any]
Warn = Callable[[str], None]


def paths(folder: Path) -> list[Path]:
    """The files below a folder that can be read, in order; hidden ones, and those in hidden folders, are left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        own = path.relative_to(folder).parts
        if path.suffix.lower() in TEXT | ROWS | HTML | {".pdf"} and not any(part.startswith(".") for part in own):
            found.append(path)
    return [path for path in found if path.is_file()]


def read_folder(folder: Path, warn: Warn = lambda line: None) -> Iterator[Document]:
    """The documents of all files below a folder; what cannot be read is told and passed over."""
    for path in paths(folder):
        yield from read_file(path, folder, warn)


def read_file(path: Path, folder: Path, warn: Warn = lambda line: None) -> Iterator[Document]:
    """The documents of a file: one, or one for each line of JSONL and CSV.

    A document has "id" (the path below `folder`, and the line), "title", "text" and "path".
    """
    name = path.relative_to(folder).as_posix()
    kind = path.suffix.lower()
    try:
        if kind not in ROWS and path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST // 2**20} MiB")
        if kind == ".pdf":
            title, text = pdf(path)
        elif kind in ROWS:
            if not is_utf8(path):
                warn(f"{name} is not all UTF-8; what is not is read as \ufffd")
            for line, title, text in (json_rows if kind == ".jsonl" else csv_rows)(path, warn):
                yield {"id": f"{name}:{line}", "title": title, "text": text, "path": name}
            return
        else:
            content, told = decoded(path)
            if told:
                warn(f"{name} {told}")
            title, text = html(content) if kind in HTML else titled(content, kind)
    except (OSError, ValueError, InputError) as error:
        warn(f"{name} is left out: {error}")
        return
    if text.strip() or title.strip():
        yield {"id": name, "title": title or Path(name).stem, "text": text, "path": name}


def decoded(path: Path) -> tuple[str, str]:
    """A file's text, and what is to be told of it: UTF-8, UTF-16 with a byte order mark, or else Windows-1252."""
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace"), ""
    if b"\0" in content[:4096]:
        raise ValueError("it is not text")
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        return content.decode("cp1252", "replace"), f"is not UTF-8 (byte {error.start}), and read as Windows-1252"


def is_utf8(path: Path) -> bool:
    """Whether a file is UTF-8 from beginning to end."""
    try:
        with open(path, encoding="utf-8") as file:
            while file.read(2**20):
                pass
    except UnicodeDecodeError:
        return False
    return True


def titled(text: str, kind: str) -> tuple[str, str]:
    """The title, which is the first heading of Markdown and the like, and the text without it."""
    first, _, rest = text.lstrip().partition("\n")
    if kind in (".md", ".markdown", ".org", ".adoc") and first.startswith(("# ", "* ", "= ")):
        return first[2:].strip(), rest
    return "", text


class _Page(HTMLParser):
    """The title and the visible text of a page."""

    HIDDEN = frozenset(("script", "style", "template", "noscript", "svg"))
    BREAKS = frozenset(("p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre"))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title, self.parts, self.hidden, self.in_title = "", [], 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count hidden elements, and break lines at blocks."""
        self.hidden += tag in self.HIDDEN
        self.in_title = tag == "title"
        if tag in self.BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """Leave hidden elements and the title."""
        self.hidden = max(0, self.hidden - (tag in self.HIDDEN))
        self.in_title = self.in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        """Keep what is visible."""
        if self.in_title:
            self.title += data
        elif not self.hidden:
            self.parts.append(data)


def html(content: str) -> tuple[str, str]:
    """The title and the visible text of a page."""
    page = _Page()
    page.feed(content)
    page.close()
    lines = (" ".join(line.split()) for line in "".join(page.parts).split("\n"))
    return " ".join(page.title.split()), "\n".join(line for line in lines if line)


def pdf(path: Path) -> tuple[str, str]:
    """The title, where the file gives one, and the text of a PDF."""
    try:
        import pypdf
        from pypdf.errors import PyPdfError
    except ModuleNotFoundError:
        raise InputError('PDF files need pypdf; type: pip install "gossamer[nlp]"') from None
    try:
        reader = pypdf.PdfReader(path)
        title = str((reader.metadata and reader.metadata.title) or "")
        return title, "\n".join(page.extract_text() for page in reader.pages)
    except (PyPdfError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"not a readable PDF ({error})") from error


def json_rows(path: Path, warn: Warn) -> Iterator[tuple[int, str, str]]:
    """Line number, title and text of each object of a JSONL file: its "title" and "text", or all its texts."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                warn(f"{path.name}, line {number} is left out: {error}")
                continue
            if not isinstance(entry, dict):
                warn(f"{path.name}, line {number} is left out: not an object")
                continue
            yield number, *columns({str(key): value for key, value in entry.items()})


def csv_rows(path: Path, warn: Warn) -> Iterator[tuple[int, str, str]]:
    """Line number, title and text of each row of a CSV file with a header: its "title" and "text", or all columns."""
    csv.field_size_limit(2**31 - 1)
    dialect = "excel-tab" if path.suffix.lower() == ".tsv" else "excel"
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, dialect=dialect)
        try:
            for row in reader:
                yield reader.line_num, *columns({str(key): value for key, value in row.items() if key is not None})
        except csv.Error as error:
            warn(f"{path.name}, line {reader.line_num} and what follows is left out: {error}")


def columns(entry: dict[str, Any]) -> tuple[str, str]:
    """The title and the text of a row: under those names, the text being all other texts where there is none."""
    title = next((str(entry[key]) for key in ("title", "Title", "name") if entry.get(key)), "")
    if isinstance(entry.get("text"), str):
        return title, entry["text"]
    others = (
        value for key, value in entry.items() if key not in ("title", "Title", "name") and not key.startswith("_")
    )
    return title, "\n".join(value for value in others if isinstance(value, str))
