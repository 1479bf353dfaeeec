"""Engines in files: the container and the parts of `gossamer.files`, with the graph as JSON in its header.

The header's metadata, all strings: `sha256`, `format`, `coded` (JSON: what is in parts) and `graph` (JSON).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.engine.graph import Graph, Structure
from gossamer.engine.node import Node
from gossamer.engine.operations import LARGEST
from gossamer.errors import InputError, a_path
from gossamer.files import container, parts
from gossamer.files import read as read_content
from gossamer.files.container import Damage, Entry
from gossamer.files.parts import Parts
from gossamer.paths import write_atomically

FORMAT = "gossamer engine 2"
WRITER = "Engine.save"


def write(graph: Graph, path: str | Path) -> None:
    """Write the graph atomically. Raises InputError where a node is PyTorch code."""
    a_path(path=path)
    for node in graph.nodes:
        if node.operation == "torch":
            raise InputError(
                f"{node.layer or node.name} stays PyTorch code ({node.attributes['operator']}) and cannot be saved: "
                "engines are stored without code"
            )
    entries: dict[str, Entry] = {}
    coded: dict[str, Parts] = {}
    for name, tensor in sorted(graph.tensors.items()):
        alive = tensor != 0
        index = parts.smaller_index(alive, tensor.itemsize) if tensor.ndim > 1 else {}
        if index:
            made = {kind: Entry.of(part) for kind, part in {"values": tensor[alive], **index}.items()}
            coded[name] = Parts("F32", tensor.shape, True, made)
            entries |= {f"{name}.{kind}": entry for kind, entry in made.items()}
        else:
            entries[name] = Entry.of(tensor)
    document = {
        "inputs": {name: list(shape) for name, shape in graph.inputs.items()},
        "kinds": graph.kinds,
        "arguments": _written(graph.arguments),
        "nodes": [[n.operation, n.name, n.inputs, n.tensors, n.attributes, n.layer] for n in graph.nodes],
        "output": _written(graph.output),
    }
    text = json.dumps(document, separators=(",", ":"))  # a bound or a padding may be infinite
    metadata = {"format": FORMAT, "coded": parts.describe(coded), "graph": text}
    write_atomically(Path(path), container.pack(entries, metadata))


def read(path: str | Path) -> Graph:
    """Return the graph of a file of `write`, checked whole.

    Raises InputError where the file is missing, damaged or made to harm: an unknown operation, shapes that do not fit,
    tensors that are missing or too many, bytes that were changed.
    """
    content = read_content(path, WRITER)
    try:
        return _graph(content)
    except (Damage, InputError) as error:
        raise InputError(Damage(str(error)).of(str(path), WRITER)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(Damage(repr(error)).of(str(path), WRITER)) from error


def _graph(content: bytes) -> Graph:
    entries, metadata = container.unpack(content)
    if metadata.keys() != {"sha256", "format", "coded", "graph"} or metadata["format"] != FORMAT:
        raise Damage(f"its format is {str(metadata.get('format'))[:40]!a}, not {FORMAT!r}")
    stored = parts.gather(entries, metadata["coded"])
    for name, one in stored.items():
        if math.prod(one.shape) >= LARGEST:
            raise Damage(f"tensor {name!a} has the shape {one.shape}")
    document = container.parse(metadata["graph"], infinite=True)
    inputs = {name: tuple(shape) for name, shape in document["inputs"].items()}
    if not all(type(size) is int and size > 0 for shape in inputs.values() for size in shape):
        raise Damage(f"the inputs have the shapes {inputs}")
    nodes = [_node(fields) for fields in document["nodes"]]
    names = [*inputs, *(node.name for node in nodes)]
    if len(set(names)) < len(names):
        raise Damage("two values have one name")
    used = {name for node in nodes for name in node.tensors.values()}
    if used != set(stored):
        raise Damage(f"tensors {sorted(used ^ set(stored))[:3]} are missing or read by nobody")
    graph = Graph(inputs, nodes, _shapes_alone(stored), _restored(document["output"]))
    graph.kinds, graph.arguments = _kinds(document), _restored(document["arguments"])
    if graph.arguments is not None:
        positional, keywords = graph.arguments
        whole = type(positional) is list and type(keywords) is dict
        if not whole or sorted(graph.argument_names()) != sorted(inputs):
            raise Damage("its arguments are not its inputs")
    graph.shapes(1)  # before any tensor takes memory
    graph.value_kinds()
    graph.tensors = {name: one.array() for name, one in stored.items()}
    return graph


def _shapes_alone(stored: dict[str, Parts]) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.float32(0), one.shape) for name, one in stored.items()}


def _node(fields: Any) -> Node:
    operation, name, inputs, tensors, attributes, layer = fields
    texts = [operation, name, layer, *inputs, *tensors, *tensors.values()]
    if not all(type(text) is str for text in texts) or type(attributes) is not dict or type(inputs) is not list:
        raise Damage(f"node {str(fields)[:80]} is not well-formed")
    if operation == "torch":
        raise Damage("operation 'torch' is unknown: files hold no code")
    return Node(operation, name, inputs, tensors, attributes, layer)


def _written(template: Any) -> Any:
    """Return a template in JSON: a name, None, a number, or [kind, parts]; what is made by names becomes a dict."""
    if template is None or isinstance(template, str | int | float):
        return template
    if isinstance(template, dict | Structure):
        parts_of = template if isinstance(template, dict) else template.parts
        return ["dict", [[key, _written(part)] for key, part in parts_of.items()]]
    return [type(template).__name__, [_written(part) for part in template]]


def _restored(written: Any) -> Any:
    if written is None or type(written) in (str, int, float, bool):
        return written
    kind, inside = written
    if kind == "dict":
        return {str(key): _restored(part) for key, part in inside}
    if kind not in ("list", "tuple"):
        raise Damage(f"an output of kind {kind!r}")
    return (list if kind == "list" else tuple)(_restored(part) for part in inside)


def _kinds(document: dict[str, Any]) -> dict[str, str]:
    kinds = document["kinds"]
    if not set(kinds) <= set(document["inputs"]) or not set(kinds.values()) <= {"int64", "int32", "bool"}:
        raise Damage(f"the inputs have the dtypes {kinds}")
    return kinds
