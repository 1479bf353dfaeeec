"""Sparse convolutional networks for image classification; `load(path)` gives a trained one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer_vision.classifier import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'gossamer_vision' has no attribute {name!r}")
    from gossamer_vision.classifier import load

    return load
