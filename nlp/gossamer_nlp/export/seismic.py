"""The JSONL that Seismic reads (Bruch et al. 2024; `pip install pyseismic-lsr`): a document a line."""

import json
from pathlib import Path

from gossamer_nlp.export.exported import Exported


def write(found: Exported, path: Path) -> None:
    """Write {"id": …, "content": "", "vector": {term: value, …}} for each document that has a term.

    A query is {term: how often it stands there}, as `Exported.query` counts.
    """
    from gossamer.paths import writing_atomically

    with writing_atomically(path) as file:
        for name, columns, values in found.rows():
            if len(columns):
                vector = {found.terms[c]: round(v, 6) for c, v in zip(columns.tolist(), values.tolist(), strict=True)}
                line = json.dumps({"id": name, "content": "", "vector": vector}, ensure_ascii=False) + "\n"
                file.write(line.encode("utf-8", "replace"))
