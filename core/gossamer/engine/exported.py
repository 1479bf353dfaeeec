"""Exported programs: models behind flat inputs and outputs, what their nodes are, and what is known before a run."""

import contextlib
import inspect
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.overrides import TorchFunctionMode

from gossamer.engine.graph import fill, template_of, unused
from gossamer.engine.operations import UNCHANGED, NotCapturedError

KINDS = {torch.float32: "float32", torch.int64: "int64", torch.int32: "int32", torch.bool: "bool"}
"""The dtypes of values."""
NEW = ("new_zeros", "new_ones", "new_full", "new_empty")
"""Operators that make a new tensor of the first argument's dtype."""
PREFIX = "model."


class Signature:
    """How a model's arguments and outputs are arranged.

    `arguments` is the template of what it takes, `parameters` the names of those by place, `tensors` its inputs by
    name, and `output`, after a call, the template of what it returned, its names places in a list of `count` tensors.
    """

    output: Any = None
    count = 0

    def __init__(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        parameters = list(inspect.signature(model.forward).parameters)
        first = [parameters[place] if place < len(parameters) else f"input{place}" for place in range(len(args))]
        self.parameters = first

        def place(value: Any, path: str) -> Any:
            if not isinstance(value, torch.Tensor):
                return _constant(value, "an input")
            name = unused(path.replace(".", "_"), self.tensors)
            self.tensors[name] = value
            return name

        positional = [template_of(value, place, name) for name, value in zip(first, args, strict=True)]
        self.arguments = (positional, template_of(dict(kwargs), place))


class Flat(torch.nn.Module):
    """A model that takes its tensors one by one and returns them as a list, however they are arranged."""

    def __init__(self, model: torch.nn.Module, signature: Signature) -> None:
        super().__init__()
        self.model, self.signature = model, signature

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Call the model, and note in the signature how it returns its outputs."""
        args, kwargs = fill(self.signature.arguments, dict(zip(self.signature.tensors, tensors, strict=True)))
        leaves: list[torch.Tensor] = []

        def place(value: Any, path: str) -> Any:
            if not isinstance(value, torch.Tensor):
                return _constant(value, "an output")
            leaves.append(value)
            return str(len(leaves) - 1)

        recurrent = any(isinstance(module, torch.nn.LSTM | torch.nn.GRU) for module in self.model.modules())
        with _Recurrent() if recurrent else contextlib.nullcontext():  # any mode hides constants from torch.export
            self.signature.output = template_of(self.model(*args, **kwargs), place)
        self.signature.count = len(leaves)
        return leaves


class _Recurrent(TorchFunctionMode):
    """Calls LSTMs and GRUs as operators of their own, for torch.export takes torch's apart, step by step."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._VF.lstm and isinstance(args[1], list | tuple):  # or else a packed sequence
            return torch.ops.gossamer.lstm(*args)
        if func is torch._VF.gru and isinstance(args[2], list | tuple):
            return torch.ops.gossamer.gru(*args)
        return func(*args, **(kwargs or {}))


@torch.library.custom_op("gossamer::lstm", mutates_args=())
def _lstm(
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    arguments = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    return torch._VF.lstm(input, hx, params, *arguments)  # type: ignore[attr-defined]


@_lstm.register_fake
def _(
    input: torch.Tensor, hx: Any, params: Any, has_biases: bool, num_layers: int, *rest: Any
) -> tuple[torch.Tensor, ...]:
    states = [torch.empty_like(state) for state in hx]
    *_, bidirectional, _ = rest
    features = hx[0].shape[2] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:2], features)), *states


@torch.library.custom_op("gossamer::gru", mutates_args=())
def _gru(
    input: torch.Tensor,
    hx: torch.Tensor,
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    arguments = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    return torch._VF.gru(input, hx, params, *arguments)  # type: ignore[attr-defined]


@_gru.register_fake
def _(input: torch.Tensor, hx: torch.Tensor, params: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    features = hx.shape[2] * (2 if arguments[4] else 1)
    return input.new_empty((*input.shape[:2], features)), torch.empty_like(hx)


def _constant(value: Any, what: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    raise NotCapturedError(f"{what} of type {type(value).__name__}, which holds no tensors that the engine knows")


def export(
    model: torch.nn.Module, signature: Signature, axes: Mapping[str, Mapping[int, Any]] | None = None
) -> torch.export.ExportedProgram:
    """Return the model as a program with an open batch size, and further open axes of inputs, as torch.export has them.

    Raises NotCapturedError where that cannot be.
    """
    for name, x in signature.tensors.items():
        if x.dtype not in KINDS or x.ndim < (2 if x.is_floating_point() else 1):
            raise NotCapturedError(f"input {name} is {x.dtype} of shape {tuple(x.shape)}, no batch of a known dtype")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise NotCapturedError(f"{name} is {parameter.dtype}, not torch.float32: convert the model by float()")
    several = tuple(torch.cat([x[:1], x[:1]]) for x in signature.tensors.values())  # batch 1 would be fixed
    shapes = tuple({0: torch.export.Dim.DYNAMIC, **(axes or {}).get(name, {})} for name in signature.tensors)
    try:
        return _exported(model, signature, several, shapes)
    except NotCapturedError:
        freer = tuple({axis: _of_any_name(size) for axis, size in shape.items()} for shape in shapes)
        if freer == shapes:
            raise
        program = _exported(model, signature, several, freer)
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        inputs = [values[str(name)].shape for name in program.graph_signature.user_inputs]
        if not all(_is_open(x[axis]) for x, shape in zip(inputs, freer, strict=True) for axis in shape):
            raise
        return program


def _is_open(size: int | torch.SymInt) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _of_any_name(size: Any) -> Any:
    """Return a named size as torch.export finds it: names want proofs that it sometimes cannot give."""
    if type(size) is not torch.export.Dim:
        return size
    return torch.export.Dim.AUTO(min=size.min, max=size.max if isinstance(size.max, int) else None)


def _exported(
    model: torch.nn.Module, signature: Signature, example: tuple[torch.Tensor, ...], shapes: tuple[Any, ...]
) -> torch.export.ExportedProgram:
    with _silence(), torch.no_grad():
        try:
            program = torch.export.export(Flat(model, signature), example, dynamic_shapes=(shapes,))
            if writes_through_views(program.graph):
                program = program.run_decompositions({})
            program.graph.eliminate_dead_code()
        except NotCapturedError:
            raise
        except Exception as error:
            raise NotCapturedError(f"torch.export: {_reason(error)}") from error
    return program


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep to itself what torch.export warns, logs and prints of a failure, whose reason is told otherwise."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    """The first line of an error of torch.export's, and the last line of code outside torch that led to it."""
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(own)]
    first = str(error).strip().split("\n")[0].strip()
    place = f", at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return first.removesuffix(".") + place


# Nodes --------------------------------------------------------------------------------------------------------------


def writes(node: torch.fx.Node) -> bool:
    """Say whether the call changes its first argument in place."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def writes_through_views(graph: torch.fx.Graph) -> bool:
    """Say whether an operation in place changes a tensor that other views see."""
    changed = [first_argument(node) for node in graph.nodes if writes(node)]
    return any(node.op == "placeholder" or _is_view(node) or any(map(_is_view, node.users)) for node in changed)


def _is_view(node: torch.fx.Node) -> bool:
    """Say whether the result may be the same memory as an input."""
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    aliases = any(result.alias_info is not None for result in node.target._schema.returns)
    return not writes(node) and (aliases or name_of(node) in UNCHANGED)


def name_of(node: torch.fx.Node) -> str:
    """Return the operator's name without its overload, and without the underscore of those that work in place."""
    if isinstance(node.target, torch._ops.OpOverload):
        name = node.target._schema.name.split("::")[1]
        return name if name.startswith("__") else name.rstrip("_")
    return str(node.target)


def first_argument(node: torch.fx.Node) -> torch.fx.Node:
    """Return the node that makes the first argument."""
    source = node.args[0]
    if not isinstance(source, torch.fx.Node):
        raise NotCapturedError(f"{name_of(node)} of {type(source).__name__}")
    return source


def named_arguments(node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by their names in the operator's schema, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        raise NotCapturedError(str(node.target))
    schema = node.target._schema.arguments
    named = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    named.update(zip((argument.name for argument in schema), args, strict=False))
    return named | dict(kwargs)


def run(node: torch.fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call what the node calls; what it would change in place is copied first."""
    if isinstance(node.target, str):
        raise NotCapturedError(node.target)
    if writes(node):
        args = (args[0].clone(), *args[1:])
    with torch.no_grad():
        return node.target(*args, **kwargs)


# What is known ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batched:
    """What is known but for the batch's size: its values for two inputs and for three."""

    two: torch.Tensor
    three: torch.Tensor

    def one(self) -> torch.Tensor | None:
        """What it holds for every input alike, with 1 as the batch's size; None where they differ."""
        axes = [axis for axis, (a, b) in enumerate(zip(self.two.shape, self.three.shape, strict=True)) if a != b]
        if len(axes) != 1 or (self.two.shape[axes[0]], self.three.shape[axes[0]]) != (2, 3):
            return None
        first = self.two.narrow(axes[0], 0, 1)
        alike = all(torch.equal(first.expand(whole.shape), whole) for whole in (self.two, self.three))
        return first.clone() if alike else None

    def is_batch_index(self) -> bool:
        """Whether it numbers the inputs of the batch."""
        pairs = ((self.two, 2), (self.three, 3))
        return all(
            whole.shape == (size,) + (1,) * (whole.ndim - 1) and torch.equal(whole.flatten(), torch.arange(size))
            for whole, size in pairs
        )


def size_at(symbols: Iterable[Any], batch: int) -> Callable[[Any], int]:
    """Return the function from a size, which may be a symbol, to its number at this batch size."""
    known = dict.fromkeys(symbols, batch)

    def size(value: Any) -> int:
        return int(value.node.expr.subs(known)) if isinstance(value, torch.SymInt) else int(value)

    return size


def evaluate(node: torch.fx.Node, args: Any, kwargs: Any, symbols: list[Any]) -> Any:
    """Return what a call on known values makes: a constant, or `Batched` where the batch's size shows."""
    if not any(isinstance(leaf, Batched | torch.SymInt) for leaf in pytree.tree_leaves((args, kwargs))):
        return run(node, args, kwargs)
    results = []
    for batch in (2, 3):
        size = size_at(symbols, batch)

        def known(leaf: Any, size: Callable[[Any], int] = size, batch: int = batch) -> Any:
            if isinstance(leaf, Batched):
                return leaf.two if batch == 2 else leaf.three
            return size(leaf) if isinstance(leaf, torch.SymInt) else leaf

        results.append(run(node, *pytree.tree_map(known, (args, kwargs))))
    return pytree.tree_map(_either, *results)


def _either(two: Any, three: Any) -> Any:
    if isinstance(two, torch.Tensor) and two.shape != three.shape:
        return Batched(two, three)
    if isinstance(two, torch.Tensor) and not torch.equal(two, three):
        raise NotCapturedError("a constant that depends on the batch's size")
    return two
