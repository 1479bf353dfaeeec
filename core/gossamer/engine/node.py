"""A node of the engine's graph."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Node:
    """One operation: it reads the values `inputs` and the constant `tensors` (role -> name) and makes the value `name`.

    `layer` is the module that it came from, for the report. A node of the operation "torch" is PyTorch code: of its
    attributes, `bind(batch)` makes the function from tensors to the result, `shape(batch)` its shape, and `operator`
    names it.
    """

    operation: str
    name: str
    inputs: list[str]
    tensors: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: str = ""
