"""Files of models and engines: as small as their non-zeros, never code, and never trusted when they are read.

`container` is the one format of both (safetensors with a checksum), `parts` how a sparse tensor is told from its live
values and where they lie: both need NumPy alone. `coding` narrows values, `models` fills an `nn.Module`: both use torch
and are imported when first used.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.errors import InputError, a_path
from gossamer.files import container
from gossamer.files.container import Damage

if TYPE_CHECKING:
    from gossamer.files.coding import Values as Values
    from gossamer.files.models import from_bytes as from_bytes
    from gossamer.files.models import load as load
    from gossamer.files.models import save as save
    from gossamer.files.models import size as size
    from gossamer.files.models import to_bytes as to_bytes

FORMAT = "gossamer 1"
_HOMES = dict.fromkeys(("from_bytes", "load", "save", "size", "to_bytes"), "models") | {"Values": "coding"}
__all__ = ["FORMAT", "about", "description", "read", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def about(path: str | Path) -> dict[str, Any]:
    """What `save(…, about=…)` said of the model in a file; {} where it said nothing.

    The whole file is checked; neither a model nor torch is needed. Raises `InputError` where it cannot be read, is
    damaged or no file of `gossamer.save`.
    """
    content = read(path, "gossamer.save")
    try:
        return description(container.unpack(content)[1])
    except Damage as damage:
        raise InputError(damage.of(str(path), "gossamer.save")) from damage


def description(metadata: dict[str, str]) -> dict[str, Any]:
    """The description in a file's metadata; raise `Damage` where they are not those of a file of `gossamer.save`."""
    if metadata.keys() - {"about"} != {"sha256", "format", "coded", "tied"} or metadata["format"] != FORMAT:
        raise Damage(f"its format is {str(metadata.get('format'))[:40]!a}, not {FORMAT!r}")
    return container.parse(metadata.get("about", "{}"))


def read(path: str | Path, writer: str) -> bytes:
    """The bytes of a file that `writer` wrote; raise `InputError` where it cannot be read."""
    a_path(path=path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Give the path of a file of {writer}.") from error


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer.files' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gossamer.files.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
