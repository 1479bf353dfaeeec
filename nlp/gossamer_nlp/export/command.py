"""The command that writes an index's vectors for another program."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from gossamer.errors import InputError

SUFFIXES = (".ciff", ".ciff.gz", ".jsonl", ".sql")


@dataclass(frozen=True)
class Options:
    """Which index, and the file."""

    folder: Positional[Path]
    """the folder that was indexed, or the index's own"""
    to: Positional[Path]
    """the file: .ciff or .ciff.gz (Lucene, PISA, …), .jsonl (Seismic) or .sql (PostgreSQL with pgvector)"""

    def __post_init__(self) -> None:
        if not self.to.name.endswith(SUFFIXES):
            raise InputError(f"to is {self.to}; its name must end in one of {', '.join(SUFFIXES)}.")


def main(options: Options) -> None:
    """Write the file."""
    from gossamer.paths import refuse_unwritable
    from gossamer_nlp.export import ciff, pgvector, seismic
    from gossamer_nlp.export.exported import of_index
    from gossamer_nlp.index.command import place
    from gossamer_nlp.index.index import Index

    refuse_unwritable(options.to)
    found = of_index(Index.open(place(options.folder)))
    write = {".jsonl": seismic.write, ".sql": pgvector.write}.get(options.to.suffix, ciff.write)
    write(found, options.to)
    print(f"{len(found):,} documents with {len(found.terms):,} dimensions in {options.to}")
