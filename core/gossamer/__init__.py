"""Gossamer: sparse neural networks that are really lighter.

Names are imported when first used, so that `import gossamer` and `gossamer --help` do not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.errors import InputError as InputError
    from gossamer.results import Result as Result

_HOMES = {
    "InputError": "errors",
    "Result": "results",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gossamer.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
