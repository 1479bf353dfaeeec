"""Write a domain of your own: a folder that works at once, tests included, to be changed piece by piece.

gossamer new weather
pip install -e weather
pytest weather
gossamer compare --domain weather
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tyro.conf import Positional

from gossamer import domains
from gossamer.errors import InputError
from gossamer.paths import refuse_unwritable, write_atomically


@dataclass(frozen=True)
class Options:
    """What it is called."""

    name: Positional[str]
    """its name, in small letters: the folder's, the package gossamer_NAME's, the domain's"""
    to: Path = Path(".")
    """the folder that the new one goes into"""

    def __post_init__(self) -> None:
        from gossamer.cli import COMMANDS

        if not self.name.isidentifier() or not self.name.islower() or not self.name.isascii():
            raise InputError(f"name is {self.name!r}; it must be small letters, digits and _, a letter first.")
        if self.name in (*COMMANDS, *domains.names()):
            raise InputError(f"name is {self.name!r}, which is a command or a domain already; take another.")


def main(options: Options) -> None:
    """Write the files; `InputError` where the folder is there already."""
    home = options.to / options.name
    if home.exists():
        raise InputError(f"{home} is there already; take another name, or another folder by --to.")
    template = Path(str(files("gossamer").joinpath("template")))
    written = []
    for source in sorted(template.rglob("*.tpl")):
        path = home / str(source.relative_to(template)).removesuffix(".tpl").replace("NAME", options.name)
        refuse_unwritable(path)
        write_atomically(path, source.read_text(encoding="utf-8").replace("NAME", options.name).encode())
        written.append(path)
    print("\n".join(f"wrote {path}" for path in written))
    print(f"now: pip install -e {home} && pytest {home} && gossamer compare --domain {options.name}")
