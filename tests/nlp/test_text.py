"""How text is cut into terms, in any script."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer_nlp.text import LONGEST, Analyzer

ENGLISH = Analyzer()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Running runs", ["run", "run"]),
        ("sparse_csrMatrix2", ["spars", "csr", "matrix", "2", "sparse_csrmatrix2"]),
        ("HTTPServer's N-D", ["http", "server", "httpserver", "s", "n", "d"]),
        ("C++ and C# and C", ["c++", "and", "c#", "and", "c"]),
        ("__init__ ___", ["init"]),
        ("e\u0301te\u0301", ["été"]),
        ("ﬁsh Ｆｕｌｌ", ["fish", "full"]),
        ("全文検索", ["全文", "文検", "検索"]),
        ("犬", ["犬"]),
        ("한국어 사전", ["한국", "국어", "사전"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("", []),
        (" \u2028 …!", []),
    ],
)
def test_terms(text: str, terms: list[str]):
    assert ENGLISH.terms(text) == terms


def test_stems_by_language_or_none():
    assert Analyzer("german").terms("Überschwemmungen") == Analyzer("german").terms("Überschwemmung")
    russian = Analyzer("russian")
    assert russian.terms("книгами") == russian.terms("книга")
    assert Analyzer("none").terms("Überschwemmungen Running") == ["überschwemmungen", "running"]
    with pytest.raises(gs.InputError, match=r"'englsh' \(did you mean 'english'\?\)"):
        Analyzer("englsh")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_terms_the_same_by_spans(text: str):
    terms = ENGLISH.terms(text)
    spans = list(ENGLISH.spans(text))
    assert [term for _, _, own in spans for term in own] == terms
    assert all(0 <= start < end <= len(text) for start, end, _ in spans)
    assert all(term for term in terms)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_is_cut_as_other_text_is(text: str):
    """A word of another script, a space away, changes the pattern that is used, and nothing else."""
    assert ENGLISH.terms(text + " ж")[:-1] == ENGLISH.terms(text)


def test_a_word_of_megabytes_counts_by_its_start():
    assert ENGLISH.terms("x" * 2_000_000) == ENGLISH.terms("x" * LONGEST)
    assert len(ENGLISH.terms("aB" * 1_000_000)) == LONGEST // 2 + 2
