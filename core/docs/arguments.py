"""An extension of griffe: every function and class of the reference lists its arguments.

Type and default are the signature's; the description is the sentence of the docstring that first names the argument in
code quotes, so that nothing is written twice.
"""

import re

import griffe

SENTENCE = re.compile(r"(?<=[.;:])\s+(?=[A-Z`])|\n\n")


def described(name: str, text: str) -> str:
    """The first sentence of a text that names an argument."""
    sentences = (" ".join(sentence.split()) for sentence in SENTENCE.split(text))
    return next((sentence for sentence in sentences if re.search(rf"`{name}\b[^`]*`", sentence)), "")


def list_arguments(item: griffe.Function | griffe.Class) -> None:
    """Add a section of the arguments to a docstring that has none."""
    names = [p for p in item.parameters if p.name not in ("self", "cls") and not p.name.startswith("_")]
    if item.docstring is None or not names:
        return
    sections = item.docstring.parsed
    if any(section.kind is griffe.DocstringSectionKind.parameters for section in sections):
        return
    rows = [
        griffe.DocstringParameter(
            p.name, annotation=p.annotation, value=p.default, description=described(p.name, item.docstring.value)
        )
        for p in names
    ]
    sections.append(griffe.DocstringSectionParameters(rows, title="Arguments"))


class Arguments(griffe.Extension):
    """Lists the arguments of what is public."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Go through a package once it is read."""
        self.list_members(pkg)

    def list_members(self, parent: griffe.Module | griffe.Class) -> None:
        """Go through the members of a module or class."""
        for name, member in parent.members.items():
            if member.is_alias or (name.startswith("_") and name != "__init__"):
                continue
            if isinstance(member, griffe.Function | griffe.Class):
                list_arguments(member)
            if isinstance(member, griffe.Module | griffe.Class):
                self.list_members(member)
