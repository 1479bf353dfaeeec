"""Engines in files: the container and the parts of `gossamer.files`, with the graph as JSON in its header.

The header's metadata, all strings: `sha256`, `format`, `coded` (JSON: what is in parts) and `graph` (JSON).
"""

import json
import math
import operator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.engine.graph import Graph, Structure
from gossamer.engine.node import Node
from gossamer.engine.open_graph import OpenGraph, OpenSize
from gossamer.engine.operations import LARGEST
from gossamer.errors import InputError, a_path
from gossamer.files import container, parts
from gossamer.files import read as read_content
from gossamer.files.container import Damage, Entry
from gossamer.files.parts import Parts
from gossamer.paths import write_atomically

FORMAT = "gossamer engine 2"
OPEN_FORMAT = "gossamer engine 3"
"""The format of graphs with open sizes, whose document says how they depend on these."""
WRITER = "Engine.save"


def write(stored: Graph | OpenGraph, path: str | Path) -> None:
    """Write the graph, none of whose nodes is PyTorch code, atomically."""
    a_path(path=path)
    graph = stored.graph if isinstance(stored, OpenGraph) else stored
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
    if isinstance(stored, OpenGraph):
        document["open"] = _open_written(stored)
    text = json.dumps(document, separators=(",", ":"))  # a bound or a padding may be infinite
    metadata = {"format": FORMAT if stored is graph else OPEN_FORMAT, "coded": parts.describe(coded), "graph": text}
    write_atomically(Path(path), container.pack(entries, metadata))


def read(path: str | Path) -> Graph | OpenGraph:
    """Return the graph of a file of `write`, checked whole.

    Raises InputError where the file is missing, damaged or made to harm: an unknown operation, shapes that do not fit,
    tensors that are missing or too many, bytes that were changed.
    """
    content = read_content(path, WRITER)
    try:
        return _graph(content)
    except (Damage, InputError) as error:
        raise InputError(Damage(str(error)).of(str(path), WRITER)) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise InputError(Damage(repr(error)).of(str(path), WRITER)) from error


def _graph(content: bytes) -> Graph | OpenGraph:
    entries, metadata = container.unpack(content)
    if metadata.keys() != {"sha256", "format", "coded", "graph"} or metadata["format"] not in (FORMAT, OPEN_FORMAT):
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
    opened = _open_restored(graph, document["open"]) if metadata["format"] == OPEN_FORMAT else None
    shaped = opened.shaped(opened.example) if opened else graph
    shaped.shapes(1)  # before any tensor takes memory
    shaped.value_kinds()
    graph.tensors = {name: one.array() for name, one in stored.items()}
    return opened or graph


def _open_written(graph: OpenGraph) -> dict[str, Any]:
    return {
        "ranges": graph.ranges,
        "example": graph.example,
        "inputs": {name: _sizes_written(shape) for name, shape in graph.inputs.items()},
        "tensors": {name: _sizes_written(shape) for name, shape in graph.tensors.items()},
        "attributes": {
            node: {key: _sizes_written(value) for key, value in changed.items()}
            for node, changed in graph.attributes.items()
        },
    }


def _open_restored(graph: Graph, written: dict[str, Any]) -> OpenGraph:
    """Return the graph with its open sizes, checked at the example's."""
    ranges, example = [(least, most) for least, most in written["ranges"]], tuple(written["example"])
    inputs = {name: tuple(map(_size_restored, shape)) for name, shape in written["inputs"].items()}
    tensors = {name: tuple(map(_size_restored, shape)) for name, shape in written["tensors"].items()}
    attributes = {
        node: {key: _size_restored(value) for key, value in changed.items()}
        for node, changed in written["attributes"].items()
    }
    whole = all(
        type(least) is type(size) is int and type(most) in (int, float) and 0 < least <= size <= most
        for (least, most), size in zip(ranges, example, strict=True)
    )
    axes = [size for shape in inputs.values() for size in shape if isinstance(size, OpenSize)]
    if not whole or {size.of for size in axes} != {(place,) for place in range(len(ranges))}:
        raise Damage(f"the sizes {example} of {ranges} are not open in its inputs")
    if not all(size.factor > 0 for size in axes) or not set(tensors) <= set(graph.tensors):
        raise Damage("its open sizes are of no input or tensor")
    for node in graph.nodes:
        if not set(attributes.get(node.name, ())) <= set(node.attributes):
            raise Damage(f"node {node.name!a} has not the attributes {sorted(attributes[node.name])}")
    found = OpenGraph(graph, ranges, example, inputs, attributes, tensors)
    if list(found.shaped(example).inputs.items()) != list(graph.inputs.items()):
        raise Damage("its open inputs are not its inputs")
    return found


def _sizes_written(value: Any) -> Any:
    """Return a number or a list of them in JSON, an open size as a dict."""
    if isinstance(value, OpenSize):
        return {"of": value.of, "factor": value.factor.as_integer_ratio(), "offset": value.offset.as_integer_ratio()}
    return [_sizes_written(part) for part in value] if isinstance(value, list | tuple) else value


def _size_restored(written: Any) -> Any:
    if isinstance(written, list):
        return [_size_restored(part) for part in written]
    if not isinstance(written, dict):
        return written
    factor, offset = (Fraction(*map(operator.index, written[name])) for name in ("factor", "offset"))
    if not all(type(place) is int and place >= 0 for place in written["of"]):
        raise Damage(f"an open size depends on {written['of']}")
    return OpenSize(factor, offset, tuple(written["of"]))


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
