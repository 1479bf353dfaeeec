"""The engine's graph: a list of nodes from a fixed list of operations, and the tensors that they read."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain, count
from typing import Any

import numpy as np

from gossamer.engine.node import Node
from gossamer.engine.operations import OPERATIONS, Shape
from gossamer.errors import InputError


@dataclass
class Graph:
    """A program in topological order.

    `inputs` maps each input's name to its shape without the batch dimension, which comes first and stays open; `kinds`
    holds the dtypes of those that are not float32. `output` is the name of a value, None, a number, or a list, tuple,
    dict or `Structure` of such templates; `arguments` is the template of ([positional …], {keyword: …}), None where
    each input is an argument.
    """

    inputs: dict[str, Shape]
    nodes: list[Node]
    tensors: dict[str, np.ndarray]
    output: Any
    kinds: dict[str, str] = field(default_factory=dict)
    arguments: Any = None

    def outputs(self) -> list[str]:
        """Return the names of the values that are returned, in order, each once."""
        return list(dict.fromkeys(_leaves(self.output)))

    def argument_names(self) -> list[str]:
        """Return the names of the inputs in the order of the arguments."""
        return list(self.inputs) if self.arguments is None else _leaves(self.arguments)

    def readers(self) -> dict[str, list[Node]]:
        """Return, for every value, the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in self.inputs}
        for node in self.nodes:
            found[node.name] = []
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def shapes(self, batch: int) -> dict[str, Shape]:
        """Return the shape of every value at this batch size, checking that all of them fit.

        Raises InputError naming the node whose inputs, tensors or attributes do not fit.
        """
        shapes: dict[str, Shape] = {name: (batch, *shape) for name, shape in self.inputs.items()}
        for node in self.nodes:
            torch_shape = node.attributes["shape"] if node.operation == "torch" else None
            shapes[node.name] = torch_shape(batch) if torch_shape else self.shape(node, shapes)
        for name in self.outputs():
            if name not in shapes:
                raise InputError(f"the output {name!r} is not among the graph's values")
        return shapes

    def shape(self, node: Node, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape of a node's value, given those of what it reads.

        Raises InputError naming the node where its inputs, tensors or attributes do not fit.
        """
        operation = OPERATIONS.get(node.operation)
        if operation is None:
            raise InputError(
                f"operation {node.operation!r} of node {node.name!r} is unknown; known: {', '.join(OPERATIONS)}"
            )
        try:
            inputs = [shapes[name] for name in node.inputs]
            tensors = {role: self.tensors[name].shape for role, name in node.tensors.items()}
            return operation.infer(inputs, tensors, node.attributes)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(f"node {node.name!r} ({node.operation}) does not fit its inputs: {error!r}") from error

    def value_kinds(self) -> dict[str, str]:
        """Return the dtype of every value, by NumPy's names. Raises InputError where an operation does not take one."""
        kinds = {name: self.kinds.get(name, "float32") for name in self.inputs}
        for node in self.nodes:
            if node.operation == "torch":
                kinds[node.name] = node.attributes["kind"]
                continue
            found = OPERATIONS[node.operation].kind([kinds[name] for name in node.inputs], node.attributes)
            if found is None:
                taken = [kinds[name] for name in node.inputs]
                raise InputError(f"node {node.name!r} ({node.operation}) does not take inputs of {', '.join(taken)}")
            kinds[node.name] = found
        return kinds

    def prune(self) -> None:
        """Drop the nodes and tensors that no output needs."""
        needed = set(self.outputs())
        kept = []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        used = {name for node in self.nodes for name in node.tensors.values()}
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}


def unused(name: str, taken: Container[str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    return next(new for new in chain([name], (f"{name}.{n}" for n in count(2))) if new not in taken)


@dataclass(frozen=True)
class Structure:
    """A part of a template that is made by calling `kind` with keywords: a dataclass, a named tuple, an odd dict."""

    kind: Callable[..., Any]
    parts: dict[str, Any]


def template_of(value: Any, name: Callable[[Any, str], Any], path: str = "") -> Any:
    """Return a value as a template, each leaf replaced by `name(leaf, its path)`."""
    if type(value) in (list, tuple):
        return type(value)(template_of(part, name, f"{path}.{place}") for place, part in enumerate(value))
    if type(value) is dict:
        return {key: template_of(part, name, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, dict):
        found = dict(value.items())
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        found = value._asdict()  # type: ignore[attr-defined]
    elif is_dataclass(value) and not isinstance(value, type):
        found = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    else:
        return name(value, path.removeprefix("."))
    return Structure(type(value), {key: template_of(part, name, f"{path}.{key}") for key, part in found.items()})


def _parts(template: Any) -> list[Any]:
    if isinstance(template, Structure | dict):
        return list((template.parts if isinstance(template, Structure) else template).values())
    return list(template) if isinstance(template, list | tuple) else []


def _leaves(template: Any) -> list[str]:
    if isinstance(template, str):
        return [template]
    return [leaf for part in _parts(template) for leaf in _leaves(part)]


def renamed(template: Any, name: Callable[[str], Any]) -> Any:
    """Return the template with each name replaced by `name(it)`."""
    if isinstance(template, str):
        return name(template)
    if isinstance(template, Structure):
        return Structure(template.kind, {key: renamed(part, name) for key, part in template.parts.items()})
    if isinstance(template, dict):
        return {key: renamed(part, name) for key, part in template.items()}
    return type(template)(renamed(part, name) for part in template) if _parts(template) else template


def fill(template: Any, values: dict[str, Any]) -> Any:
    """Return the value that the template stands for, each name replaced by its value."""
    if isinstance(template, str):
        return values[template]
    if isinstance(template, Structure):
        return template.kind(**{key: fill(part, values) for key, part in template.parts.items()})
    if isinstance(template, dict):
        return {key: fill(part, values) for key, part in template.items()}
    return type(template)(fill(part, values) for part in template) if _parts(template) else template


def match(template: Any, value: Any, path: str = "") -> dict[str, Any]:
    """Return the values of a template's names. Raises InputError where the value is not made as the template is."""
    if isinstance(template, str):
        return {template: value}
    if isinstance(template, Structure):
        template, value = template.parts, value if isinstance(value, dict) else getattr(value, "__dict__", value)
    if isinstance(template, dict):
        if not isinstance(value, dict) or set(value) != set(template):
            names = ", ".join(map(str, template)) or "nothing"
            given = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise InputError(f"{path or 'the call'} takes {names} by name, not {given or 'nothing'}")
        pairs = [(part, value[key], str(key)) for key, part in template.items()]
    elif isinstance(template, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(template):
            given = len(value) if isinstance(value, list | tuple) else type(value).__name__
            raise InputError(f"{path or 'the network'} takes {len(template)} inputs, not {given}")
        pairs = [(part, one, f"{path}[{place}]") for place, (part, one) in enumerate(zip(template, value, strict=True))]
    elif value is not template and value != template:
        raise InputError(f"{path} is {value!r}, but the network was compiled with {template!r}")
    else:
        return {}
    found: dict[str, Any] = {}
    for part, one, where in pairs:
        found |= match(part, one, where)
    return found


def interpret(graph: Graph, *inputs: np.ndarray) -> Any:
    """Run the graph with the plain NumPy references: the oracle of the engine."""
    values: dict[str, np.ndarray] = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        if node.operation == "torch":
            import torch

            call = node.attributes["bind"](len(inputs[0]))
            with torch.no_grad():
                values[node.name] = call(*map(torch.from_numpy, arrays)).numpy()
        else:
            tensors = {role: graph.tensors[name] for role, name in node.tensors.items()}
            values[node.name] = OPERATIONS[node.operation].run(arrays, tensors, node.attributes)
    return fill(graph.output, values)
