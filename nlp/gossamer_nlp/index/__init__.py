"""Index a folder of your own files (text, Markdown, HTML, PDF, source, JSONL, CSV), and learn from them what counts.

gossamer nlp index FOLDER
gossamer nlp index FOLDER --into notes.index --language german

The same command goes on where it was stopped, and later takes up what has changed.
"""

from gossamer_nlp.index.command import Options, main
from gossamer_nlp.index.index import Index
from gossamer_nlp.index.state import Hit, Match

__all__ = ["Hit", "Index", "Match", "Options", "main"]
