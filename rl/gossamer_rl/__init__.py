"""Agents for sparse rewards, their networks dense or sparse; `load(path)` gives a trained policy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer_rl.policy import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'gossamer_rl' has no attribute {name!r}")
    from gossamer_rl.policy import load

    return load
