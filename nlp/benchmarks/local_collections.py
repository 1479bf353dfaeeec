"""Collections to check a method on, from what a Debian system holds: four folders in BEIR's format.

python nlp/benchmarks/local_collections.py FOLDER
gossamer train nlp beir --data-dir FOLDER/man-seealso --method expanded

man-known: a manual page's one line finds the page. man-seealso: it finds the pages that its SEE ALSO names.
debian-known: a package's synopsis finds its description (`apt-get -o Acquire::Languages=en update` fetches those).
debian-tags: two of debtags' tags find the packages that people gave both. Queries are told into development and test
by their hash; what phrases and neighbours count was chosen with an eye on the development queries of such collections.
"""

import gzip
import hashlib
import itertools
import random
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from gossamer import InputError
from gossamer_nlp.beir import write_beir
from gossamer_nlp.data import Collection, Query

LISTS = Path("/var/lib/apt/lists")
PAGES = Path("/usr/share/man")
MOST, QUERIES = 12_000, 2_000  # documents of a collection, and known items that are asked for
TAGGED = "field works-with use works-with-format protocol sound science hardware web mail network security admin game "
TAGGED += "office junior culture filetransfer biology devel x11"
TOPICS = frozenset(TAGGED.split())  # debtags' facets that say what a package is about
REQUESTS = "de ds if ie el nr TH ne ft so in ad na hy nh sp ti ta"
BARE = frozenset(REQUESTS.split())  # roff's requests without text


@dataclass(frozen=True)
class Options:
    """Where to."""

    folder: Positional[Path]
    """the folder for the collections"""


def collection(name: str, documents: dict[str, str], asked: dict[str, tuple[str, list[str]]]) -> Collection:
    """Documents by id, and queries by id: their text, and what is relevant; half of them development, half test."""
    numbers = {key: i for i, key in enumerate(documents)}
    parts: dict[str, list[Query]] = {"train": [], "development": [], "test": []}
    for key, (text, relevant) in asked.items():
        half = "test" if hashlib.sha256(key.encode()).digest()[-1] % 2 else "development"
        parts[half].append(Query(key, text, {numbers[found]: 1.0 for found in relevant}))
    texts = tuple(("", text) for text in documents.values())
    queries = {split: tuple(own) for split, own in parts.items()}
    return Collection(name, ("title", "text"), tuple(documents), texts, queries, "", {})


def sections(page: str) -> dict[str, str]:
    """The text of a manual page's sections, without roff's requests."""
    page = re.sub(r"(?m)^[.']\s*\\\".*$", "", page)
    page = re.sub(r"\\f\[?[A-Z]+\]?|\\f.|\\[&|^,/]|\\s[-+]?\d", "", page)
    for code, letter in (("\\-", "-"), ("\\(aq", "'"), ("\\e", "\\"), ("\\(en", "-"), ("\\(em", "-"), ("\\ ", " ")):
        page = page.replace(code, letter)
    page = re.sub(r"\\\*\(..|\\\*.|\\\(..|\\\[[^\]]*\]", "", page)
    found: dict[str, list[str]] = {}
    own: list[str] = []
    for line in page.split("\n"):
        if title := re.match(r"\.\s*S[Hh]\s+\"?([^\"]*)", line):
            own = found.setdefault(title[1].strip().upper(), [])
        elif request := re.match(r"[.']\s*([A-Za-z]{1,3}\d?)\b\s*(.*)", line):
            if request[1] not in BARE:
                own.append(("- " if request[1] == "Nd" else "") + request[2].replace('"', ""))
        elif not line.startswith((".", "'")):
            own.append(line)
    return {title: "\n".join(lines) for title, lines in found.items()}


def manual() -> Iterator[Collection]:
    """The two collections of manual pages."""
    pages, left_out = {}, {"NAME", "SEE ALSO", "AUTHOR", "AUTHORS", "COPYRIGHT", "SYNOPSIS", "REPORTING BUGS"}
    for path in sorted(PAGES.glob("man[1-8]/*.gz")):
        parts = sections(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        line = re.match(r".*?\s+[-–]+\s+(.*)", " ".join(parts.get("NAME", "").split()))
        body = "\n".join(text for title, text in parts.items() if title not in left_out)[:20_000]
        if line and len(line[1].split()) >= 3 and len(body.split()) >= 20:
            named = re.findall(r"([\w.+:\-]+)\s*\(\d\w*\)", " ".join(parts.get("SEE ALSO", "").split()))
            pages.setdefault(body[:200], (path.name.removesuffix(".gz"), line[1], body, named))
    kept = list(pages.values())
    random.Random(0).shuffle(kept)
    kept = kept[:MOST]
    lines = Counter(line.lower() for _, line, _, _ in kept)
    alone = [(name, line) for name, line, _, _ in kept if lines[line.lower()] == 1][:QUERIES]
    known = {f"q-{name}": (line, [name]) for name, line in alone}
    yield collection("man-known", {name: body for name, _, body, _ in kept}, known)
    by_name = {name.rpartition(".")[0]: name for name, _, _, _ in kept}
    asked = {}
    for name, line, _, named in kept:
        relevant = sorted({by_name[other] for other in named if other in by_name} - {name})
        if len(relevant) >= 3:
            asked[f"q-{name}"] = (line, relevant)
    yield collection("man-seealso", {name: f"{line}. {body}" for name, line, body, _ in kept}, asked)


def stanzas(pattern: str) -> Iterator[dict[str, str]]:
    """The entries of apt's lists whose files match, field by field."""
    paths = sorted(LISTS.glob(pattern))
    if not paths:
        raise InputError(f"{LISTS} holds no {pattern}; run: apt-get -o Acquire::Languages=en update")
    content = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", *map(str, paths)], capture_output=True, check=True)
    for text in content.stdout.decode("utf-8", "replace").split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in text.split("\n"):
            if line.startswith((" ", "\t")) and key:
                fields[key] += "\n" + line[1:]
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        yield fields


def packages() -> Iterator[Collection]:
    """The two collections of Debian's packages, one of each source."""
    texts = {
        own["Package"]: own.get("Description-en", "")
        for own in stanzas("*main_i18n_Translation-en*")
        if "Package" in own
    }
    seen, kept = set(), []
    for own in stanzas("*main_binary-*_Packages*"):
        name = own.get("Package", "")
        synopsis, _, text = texts.get(name, "").partition("\n")
        text = "\n".join("" if line == "." else line for line in text.split("\n"))
        text = re.sub(r"\n\s*\n(This package|This is the)[^\n]*(contains|provides|is)[\s\S]*$", "", text)
        source = own.get("Source", name).split(" ")[0]
        if len(text.split()) >= 20 and not seen & {source, text[:80]}:
            seen |= {source, text[:80]}
            tags = [tag.strip() for tag in own.get("Tag", "").replace("\n", "").split(",") if tag.strip()]
            kept.append((name, synopsis, text, [tag for tag in tags if tag.partition("::")[0] in TOPICS]))
    random.Random(0).shuffle(kept)
    known = {f"q-{name}": (synopsis, [name]) for name, synopsis, _, _ in kept[:QUERIES]}
    yield collection("debian-known", {name: text for name, _, text, _ in kept[:MOST]}, known)
    tagged = [entry for entry in kept if entry[3]][:MOST]
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, _, _, tags in tagged:
        for pair in itertools.combinations(sorted(set(tags)), 2):
            holders[pair].append(name)
    used: Counter[str] = Counter()
    asked = {}
    for pair in sorted(holders, key=lambda pair: hashlib.sha256(" ".join(pair).encode()).digest()):
        if 6 <= len(holders[pair]) <= 40 and max(used[tag] for tag in pair) < 4:
            used.update(pair)
            text = " ".join(re.split(r"[:\-]+", " ".join(tag.partition("::")[2] for tag in reversed(pair))))
            asked["+".join(pair)] = (text, holders[pair])
    yield collection("debian-tags", {name: f"{synopsis}. {text}" for name, synopsis, text, _ in tagged}, asked)


def main(options: Options) -> None:
    """Write the folders."""
    for own in itertools.chain(manual(), packages()):
        write_beir(own, options.folder / own.name)
        counts = [len(own.queries[split]) for split in ("development", "test")]
        print(f"{own.name}: {len(own.ids):,} documents, {counts[0]} development and {counts[1]} test queries")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
