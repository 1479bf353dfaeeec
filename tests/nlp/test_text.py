"""How text is cut into terms, and docstrings into sections."""

import pytest

from gossamer_nlp.text import akin, anonymous, sections, terms


def test_identifiers_fall_into_their_pieces():
    assert terms("sparse_csrMatrix2, HTTPServer's N-D") == [
        "sparse",
        "csr",
        "matrix",
        "2",
        "http",
        "server",
        "s",
        "n",
        "d",
    ]


def test_sections_of_numpy_google_and_sphinx_headings():
    text = """The lead,
of two lines.

More of it.

Parameters
----------
x : array

Returns:
    the sum

>>> total([1])
1

.. note::

    Kept with what it stands in.

See Also
--------
mean
"""
    found = dict(sections(text))
    assert found["lead"] == "The lead,\nof two lines."
    assert found["description"] == "More of it."
    assert "x : array" in found["parameters"]
    assert found["returns"].startswith("the sum")
    assert found["code"] == ">>> total([1])"
    assert found["see also"].endswith("mean")
    assert list(found) == ["lead", "description", "parameters", "returns", "code", "see also"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("sort", "sorted", True),
        ("compute", "computation", True),
        ("compute", "compare", False),
        ("fft", "fft", True),
        ("fft", "ffts", False),
        ("sort", "sum", False),
        ("linear", "linalg", False),
    ],
)
def test_forms_of_one_word(a: str, b: str, same: bool):
    assert akin(a, b) is same
    assert akin(b, a) is same


def test_anonymous_queries_keep_nothing_of_the_name():
    own = set(terms("numpy.linalg.matrix_power"))
    assert anonymous("Raise a square matrix to the (integer) power `n`.", own) == "Raise a square to the integer n"
    assert anonymous("Powers of matrices", own) == "of"
