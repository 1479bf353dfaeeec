"""Sparse embeddings for retrieval: models, an index of your own files that survives a crash, and its measurements.

index = gossamer_nlp.Index.create("notes.index")
index.add([{"id": "a", "title": "Cats", "text": "They purr."}])
index.search("why do cats purr", k=3)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer_nlp.index import Hit, Index, Match
    from gossamer_nlp.model import Lexical, load
    from gossamer_nlp.text import Analyzer

__all__ = ["Analyzer", "Hit", "Index", "Lexical", "Match", "load"]

_HOMES = {
    "Analyzer": "text",
    "Hit": "index.state",
    "Index": "index.index",
    "Lexical": "model",
    "Match": "index.state",
    "load": "model",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer_nlp' has no attribute {name!r}")
    try:
        return getattr(import_module(f"gossamer_nlp.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from gossamer import InputError

        raise InputError(f'{name} needs {error.name}; type: pip install "gossamer[nlp]"') from error
