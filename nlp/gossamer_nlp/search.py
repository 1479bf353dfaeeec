"""Search an index, and see why each document matched.

gossamer nlp search FOLDER "how do I sort a list"
gossamer nlp search FOLDER --explain          # asks for queries until an empty one
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from gossamer.errors import at_least
from gossamer_nlp.config import WEIGHT

if TYPE_CHECKING:
    from gossamer_nlp.index.index import Index


@dataclass(frozen=True)
class Options:
    """What is searched for, and where."""

    folder: Positional[Path]
    """the folder that was indexed, or the index's own"""
    query: Positional[str] = ""
    """what to search for; without it queries are asked for, until an empty one"""
    k: int = 5
    """documents to show, at most"""
    meaning: float = WEIGHT
    """in an index with an encoder, what the meaning of the whole query counts beside its words, together 1"""
    explain: bool = False
    """show what each term of the query adds to the score"""

    def __post_init__(self) -> None:
        at_least(1, k=self.k)
        at_least(0, meaning=self.meaning)


def main(options: Options) -> int:
    """Print the best documents; exit status 1 where a query finds none, as grep does."""
    from gossamer_nlp.index.command import place
    from gossamer_nlp.index.index import Index

    index, console = Index.open(place(options.folder)), Console(soft_wrap=True, highlight=False)
    if options.query:
        return show(index, options.query, options, console)
    while True:
        try:
            query = console.input("[bold]search:[/] ").strip()
        except EOFError:
            return 0
        if not query:
            return 0
        index.refresh()
        show(index, query, options, console)


def show(index: "Index", query: str, options: Options, console: Console) -> int:
    """Print the hits of one query; 1 where there are none."""
    from gossamer_nlp.snippets import snippet

    terms = set(index.model.analyzer.terms(query))
    hits = index.search(query, options.k, meaning=options.meaning)
    for rank, hit in enumerate(hits, 1):
        title = str(hit.fields.get("title") or "")
        console.print(Text.assemble(f"{rank}. ", (hit.id, "bold"), f"  {title}" if title else "", f"  {hit.score:.3f}"))
        passage = snippet(str(hit.fields.get("text") or ""), terms, index.model.analyzer)
        line, last = Text("   … " if passage.before else "   "), 0
        for start, end in passage.places:
            line.append(" ".join(passage.text[last:start].split("\n")))
            line.append(passage.text[start:end], "bold yellow" if console.is_terminal else "bold")
            last = end
        line.append(" ".join(passage.text[last:].split("\n")) + (" …" if passage.after else ""))
        console.print(line)
        if options.explain:
            parts = index.explain(query, hit.id, meaning=options.meaning)
            console.print(
                "   " + " + ".join(f"{p.term} {p.score:.3f}{'' if p.literal else ' (related)'}" for p in parts)
            )
    if not hits:
        console.print("nothing found: no document has a word of the query")
    return 0 if hits else 1


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("nlp", "search")
