"""Engines in files: one safetensors file with the graph as JSON in its header, and never code.

A weight that is sparse enough is stored as its non-zero values with a bitmap of where they lie, in row-major order.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

from gossamer.engine.graph import Graph, Node
from gossamer.engine.program import Engine, build
from gossamer.errors import InputError
from gossamer.results import write_atomically

FORMAT = "gossamer engine 1"
HEADER_LIMIT = 100_000_000


def save(graph: Graph, path: str | Path) -> None:
    """Write the graph atomically. Raises InputError where a node is PyTorch code."""
    for node in graph.nodes:
        if node.operation == "torch":
            raise InputError(
                f"{node.layer or node.name} stays PyTorch code ({node.attributes['call']}) and cannot be saved: "
                "engines are stored without code"
            )
    stored: dict[str, np.ndarray] = {}
    sparse: dict[str, list[int]] = {}
    for name, tensor in sorted(graph.tensors.items()):
        nonzero = tensor != 0
        if tensor.ndim > 1 and np.count_nonzero(nonzero) < 0.95 * tensor.size:
            sparse[name] = list(tensor.shape)
            stored[name + "/values"], stored[name + "/bitmap"] = tensor[nonzero], np.packbits(nonzero)
        else:
            stored[name] = np.ascontiguousarray(tensor)
    document = {
        "inputs": {name: list(shape) for name, shape in graph.inputs.items()},
        "nodes": [[n.operation, n.name, n.inputs, n.tensors, n.attributes, n.layer] for n in graph.nodes],
        "output": _written(graph.output),
        "sparse": sparse,
    }
    text = json.dumps(document, separators=(",", ":"))  # a bound or a padding may be infinite
    write_atomically(Path(path), _file(stored, text))


def load(path: str | Path, *, batch: int = 1) -> Engine:
    """Read an engine of `Engine.save`; its kernels are chosen anew here, by measuring them at this batch size.

    Needs NumPy and Numba alone: torch is not imported. Raises InputError where the file is missing, damaged or made to
    harm: an unknown operation, shapes that do not fit, tensors that are missing or too many, bytes that were changed.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the path of a file of Engine.save") from error
    try:
        graph = _read(content)
        graph.shapes(batch)
    except InputError as error:
        raise InputError(f"{path} is damaged or no engine's file: {error}. Save it again") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(f"{path} is damaged or no engine's file ({error!r}). Save it again") from error
    return build(graph, batch)


def _file(tensors: dict[str, np.ndarray], text: str) -> bytes:
    record = json.dumps({"format": FORMAT, "sha256": _digest(tensors, text), "graph": text})
    return write_tensors(tensors, {"engine": record})  # one key: safetensors writes several in any order


def _digest(tensors: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data if tensor.size else b"")
    return digest.hexdigest()


def _read(content: bytes) -> Graph:
    length = int.from_bytes(content[:8], "little")
    if length > min(HEADER_LIMIT, len(content)):
        raise InputError(f"its header of {length} bytes is not all there")
    record = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["engine"])
    if record["format"] != FORMAT:
        raise InputError(f"its format is {record['format']!r}, not {FORMAT!r}")
    stored = read_tensors(content)
    if record["sha256"] != _digest(stored, record["graph"]):
        raise InputError("its checksum does not match: bytes were changed since it was saved")
    document = json.loads(record["graph"])
    tensors = {name: _dense(stored, name, shape) for name, shape in document["sparse"].items()}
    tensors |= stored
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise InputError(f"tensor {name!r} is {tensor.dtype}, not float32")
    inputs = {name: tuple(shape) for name, shape in document["inputs"].items()}
    if not all(type(size) is int and size > 0 for shape in inputs.values() for size in shape):
        raise InputError(f"the inputs have the shapes {inputs}")
    nodes = [_node(fields) for fields in document["nodes"]]
    names = [*inputs, *(node.name for node in nodes)]
    if len(set(names)) < len(names):
        raise InputError("two values have one name")
    used = {name for node in nodes for name in node.tensors.values()}
    if used != set(tensors):
        raise InputError(f"tensors {sorted(used ^ set(tensors))[:3]} are missing or read by nobody")
    return Graph(inputs, nodes, tensors, _restored(document["output"]))


def _node(fields: Any) -> Node:
    operation, name, inputs, tensors, attributes, layer = fields
    texts = [operation, name, layer, *inputs, *tensors, *tensors.values()]
    if not all(type(text) is str for text in texts) or type(attributes) is not dict or type(inputs) is not list:
        raise InputError(f"node {str(fields)[:80]} is not well-formed")
    if operation == "torch":
        raise InputError("operation 'torch' is unknown: files hold no code")
    return Node(operation, name, inputs, tensors, attributes, layer)


def _dense(stored: dict[str, np.ndarray], name: str, shape: list[int]) -> np.ndarray:
    """Take a sparse tensor's parts out of what is stored and return it whole."""
    values, bitmap = stored.pop(name + "/values"), stored.pop(name + "/bitmap")
    if not all(type(size) is int and size > 0 for size in shape):
        raise InputError(f"tensor {name!r} has the shape {shape}")
    size = math.prod(shape)
    if bitmap.dtype != np.uint8 or bitmap.shape != (-(-size // 8),) or values.dtype != np.float32 or values.ndim != 1:
        raise InputError(f"tensor {name!r} does not have the bitmap and values of the shape {shape}")
    where = np.unpackbits(bitmap)
    if np.count_nonzero(where[size:]) or np.count_nonzero(where) != len(values):
        raise InputError(f"tensor {name!r} has {len(values)} values and another number of places for them")
    tensor = np.zeros(size, np.float32)
    tensor[where[:size].astype(bool)] = values
    return tensor.reshape(shape)


def _written(template: Any) -> Any:
    """Return an output template in JSON: a name, or [kind, parts]."""
    if isinstance(template, str):
        return template
    if isinstance(template, dict):
        return ["dict", [[key, _written(part)] for key, part in template.items()]]
    return [type(template).__name__, [_written(part) for part in template]]


def _restored(written: Any) -> Any:
    if type(written) is str:
        return written
    kind, parts = written
    if kind == "dict":
        return {str(key): _restored(part) for key, part in parts}
    if kind not in ("list", "tuple"):
        raise InputError(f"an output of kind {kind!r}")
    return (list if kind == "list" else tuple)(_restored(part) for part in parts)
