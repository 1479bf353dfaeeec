"""Sparse autoencoder features for speech: learned without labels, pooled over a word, read by a linear recogniser.

import gossamer_speech
recogniser = gossamer_speech.load("model.gossamer")          # what `gossamer train speech … --save` kept
features = gossamer_speech.SparseSpeechFeatures()            # a transformer of scikit-learn
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer_speech.recogniser import load as load
    from gossamer_speech.transformer import SparseSpeechFeatures as SparseSpeechFeatures

_HOMES = {"load": "recogniser", "SparseSpeechFeatures": "transformer"}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer_speech' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gossamer_speech.{_HOMES[name]}"), name)
