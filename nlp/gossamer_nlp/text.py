"""Text as terms: how words and identifiers are cut, and which section of a docstring a line belongs to."""

import re

PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
IDENTIFIER = re.compile(r"\w+")
FIELDS = (
    "lead",
    "description",
    "parameters",
    "returns",
    "examples",
    "code",
    "notes",
    "see also",
    "references",
    "other",
)
TITLES = {
    "explanation": "description",
    "arg": "parameters",
    "argument": "parameters",
    "keyword arg": "parameters",
    "attribute": "parameters",
    "parameter": "parameters",
    "return": "returns",
    "yield": "returns",
    "example": "examples",
    "note": "notes",
    "see also": "see also",
    "reference": "references",
    "raise": "other",
    "warning": "other",
    "method": "other",
}
TITLE = re.compile(rf"\s*:?({'|'.join(TITLES)})s?\s*:{{0,2}}\s*", re.IGNORECASE)
PROMPT = re.compile(r"\s*(>>>|\.\.\. )")


def terms(text: str) -> list[str]:
    """The lower-case pieces of words and identifiers: `sparse_csrMatrix2` gives sparse, csr, matrix, 2."""
    return [piece.lower() for piece in PIECE.findall(text)]


def sections(text: str) -> list[tuple[str, str]]:
    """The text of a docstring by field, in the order of `FIELDS`; fields without text are left out.

    Headings as NumPy, Google and Sphinx style write them open a field; lines with an interpreter's prompt are `code`;
    the first paragraph is the `lead`, and what follows it without a heading is `description`.
    """
    lines: dict[str, list[str]] = {field: [] for field in FIELDS}
    field = "lead"
    for line in text.splitlines():
        title = TITLE.fullmatch(line)
        if title:
            field = TITLES[title[1].lower()]
        elif field == "lead" and not line.strip() and lines["lead"]:
            field = "description"
        else:
            lines["code" if PROMPT.match(line) else field].append(line)
    found = ((field, "\n".join(own).strip()) for field, own in lines.items())
    return [(field, own) for field, own in found if own]


def anonymous(query: str, own: set[str]) -> str:
    """The query without the words of which a piece is akin to one of `own`, the pieces of its item's own name."""
    return " ".join(
        word
        for word in IDENTIFIER.findall(query)
        if not any(akin(piece, other) for piece in terms(word) for other in own)
    )


def akin(a: str, b: str) -> bool:
    """Whether two words are likely forms of one: equal, or equal in their first max(4, shorter − 2) letters.

    So "sort" also hides "sorts" and "sorting", "compute" hides "computation", and "fft" hides itself alone.
    """
    prefix = max(4, min(len(a), len(b)) - 2)
    return a == b or (len(a) >= 4 and len(b) >= 4 and a[:prefix] == b[:prefix])
