"""Gossamer: sparse neural networks that are really lighter.

Names are imported when first used, so that `import gossamer` and `gossamer --help` do not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from gossamer import nn as nn
    from gossamer.dynamic import GMP as GMP
    from gossamer.dynamic import SET as SET
    from gossamer.dynamic import SNFS as SNFS
    from gossamer.dynamic import GraNet as GraNet
    from gossamer.dynamic import Method as Method
    from gossamer.dynamic import RigL as RigL
    from gossamer.dynamic import SRigL as SRigL
    from gossamer.engine import Engine as Engine
    from gossamer.engine import compile as compile
    from gossamer.errors import InputError as InputError
    from gossamer.files import load as load
    from gossamer.files import save as save
    from gossamer.latency import Budget as Budget
    from gossamer.latency import budget as budget
    from gossamer.lottery import find_ticket as find_ticket
    from gossamer.masking import Masking as Masking
    from gossamer.oneshot import SparseGPT as SparseGPT
    from gossamer.oneshot import prune_blocks as prune_blocks
    from gossamer.onnx import export_onnx as export_onnx
    from gossamer.patterns import Block as Block
    from gossamer.patterns import Channel as Channel
    from gossamer.patterns import FanIn as FanIn
    from gossamer.patterns import NofM as NofM
    from gossamer.patterns import Pattern as Pattern
    from gossamer.patterns import Unstructured as Unstructured
    from gossamer.results import Result as Result
    from gossamer.scores import SNIP as SNIP
    from gossamer.scores import Fisher as Fisher
    from gossamer.scores import GraSP as GraSP
    from gossamer.scores import Movement as Movement
    from gossamer.scores import Score as Score
    from gossamer.scores import SynFlow as SynFlow
    from gossamer.scores import Taylor as Taylor
    from gossamer.scores import Wanda as Wanda
    from gossamer.sparsity import sparsify as sparsify

_HOMES = {
    "InputError": "errors",
    "Result": "results",
    "Pattern": "patterns",
    "Unstructured": "patterns",
    "NofM": "patterns",
    "Block": "patterns",
    "FanIn": "patterns",
    "Channel": "patterns",
    "Score": "scores",
    "SNIP": "scores",
    "GraSP": "scores",
    "SynFlow": "scores",
    "Wanda": "scores",
    "Movement": "scores",
    "Taylor": "scores",
    "Fisher": "scores",
    "Masking": "masking",
    "sparsify": "sparsity",
    "find_ticket": "lottery",
    "prune_blocks": "oneshot",
    "SparseGPT": "oneshot",
    "Method": "dynamic",
    "SET": "dynamic",
    "RigL": "dynamic",
    "SNFS": "dynamic",
    "GraNet": "dynamic",
    "GMP": "dynamic",
    "SRigL": "dynamic",
    "save": "files",
    "load": "files",
    "Engine": "engine",
    "compile": "engine",
    "Budget": "latency",
    "budget": "latency",
    "export_onnx": "onnx",
}
__all__ = ["nn", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "nn":
        return importlib.import_module("gossamer.nn")
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gossamer.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "nn"})
