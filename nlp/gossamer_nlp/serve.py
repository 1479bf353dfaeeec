"""Search an index in the browser: a page on 127.0.0.1, for this machine alone.

gossamer nlp serve FOLDER
gossamer nlp serve FOLDER --port 8080
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from gossamer import InputError
from gossamer.errors import at_least, within
from gossamer_nlp.config import WEIGHT

if TYPE_CHECKING:
    from gossamer_nlp.index.index import Index

HOST = "127.0.0.1"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; form-action 'self'; base-uri 'none'"


@dataclass(frozen=True)
class Options:
    """What is served."""

    folder: Positional[Path]
    """the folder that was indexed, or the index's own"""
    port: int = 8321
    """of the page: http://127.0.0.1:PORT"""
    k: int = 10
    """documents on a page"""
    meaning: float = WEIGHT
    """in an index with an encoder, what the meaning of the whole query counts beside its words, together 1"""

    def __post_init__(self) -> None:
        within(0, 65535, port=self.port)
        at_least(1, k=self.k)
        at_least(0, meaning=self.meaning)


def main(options: Options) -> None:
    """Serve the page until Ctrl-C."""
    server = made(options)
    print(f"http://{HOST}:{server.effective_port}  (Ctrl-C stops)", flush=True)
    try:
        server.run()
    finally:
        server.close()


def made(options: Options) -> Any:
    """The server, which listens already; its `run` answers."""
    from gossamer_nlp.index.command import place
    from gossamer_nlp.index.index import Index

    index = Index.open(place(options.folder))
    try:
        from waitress.server import create_server

        application = app(index, options.k, options.meaning)
    except ModuleNotFoundError as error:
        raise InputError(f'the page needs {error.name}; type: pip install "gossamer[nlp]"') from error
    try:
        return create_server(application, host=HOST, port=options.port, threads=4)
    except OSError as error:
        raise InputError(f"port {options.port} cannot be used ({error.strerror}); name another --port.") from error


def app(index: "Index", k: int, meaning: float = WEIGHT) -> Any:
    """The page as a WSGI application: `/` with `?q=`, and the same as JSON below `/api`."""
    import base64
    import hashlib

    import bottle

    page = (Path(__file__).parent / "page.html.tpl").read_text(encoding="utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    policy = POLICY.format(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode())
    application = bottle.Bottle()

    @application.hook("before_request")
    def refuse_others() -> None:  # a page elsewhere whose name points here must not read the documents
        if bottle.request.get_header("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            raise bottle.HTTPError(403, "this page is for 127.0.0.1 alone")

    def asked() -> str:
        return bottle.request.query.getunicode("q", "").strip()[:10_000]  # pyright: ignore[reportAttributeAccessIssue]

    @application.get("/")  # pyright: ignore[reportCallIssue]
    def search() -> str:
        query = asked()
        start = time.perf_counter()
        found = answers(index, query, k, meaning) if query else []
        bottle.response.set_header("Content-Security-Policy", policy)
        milliseconds = 1000 * (time.perf_counter() - start)
        return bottle.template(page, query=query, found=found, milliseconds=milliseconds, count=len(index))

    @application.get("/api")  # pyright: ignore[reportCallIssue]
    def api() -> dict[str, Any]:
        return {"hits": answers(index, asked(), k, meaning)}

    return application


def answers(index: "Index", query: str, k: int, meaning: float) -> list[dict[str, Any]]:
    """The hits of a query: id, title, score, its passage in pieces (text, highlighted), and what each term adds."""
    from gossamer_nlp.snippets import snippet

    index.refresh()
    terms, found = set(index.model.analyzer.terms(query)), []
    for hit in index.search(query, k, meaning=meaning):
        passage = snippet(str(hit.fields.get("text") or ""), terms, index.model.analyzer)
        pieces, last = [], 0
        for start, end in passage.places:
            pieces += [(passage.text[last:start], False), (passage.text[start:end], True)]
            last = end
        pieces.append((passage.text[last:] + (" …" if passage.after else ""), False))
        if passage.before:
            pieces.insert(0, ("… ", False))
        try:
            why = index.explain(query, hit.id, meaning=meaning)
            parts = [(match.term, match.score, match.literal) for match in why]
        except InputError:  # deleted since
            parts = []
        title = str(hit.fields.get("title") or hit.id)
        found.append({"id": hit.id, "title": title, "score": hit.score, "passage": pieces, "terms": parts})
    return found


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("nlp", "serve")
