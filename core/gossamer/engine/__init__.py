"""The engine: a trained, masked network as a fused, sparse, fast program for the CPU.

`compile(model, example)` makes an `Engine`; `engine.save(path)` stores it, and `load(path)` runs it again with NumPy
and Numba alone: this package does not import torch before `compile` is called.
"""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.engine.choice import LayerRow, Report, torch_row
from gossamer.engine.graph import Graph
from gossamer.engine.program import Engine, Whole, build
from gossamer.engine.saved import read
from gossamer.errors import InputError, of_type, whole
from gossamer.threads import using_threads

if TYPE_CHECKING:
    import torch

    from gossamer.engine.traced import TracedSizes

__all__ = ["Engine", "LayerRow", "Report", "Whole", "compile", "load", "trace"]


def compile(
    model: "torch.nn.Module",
    example: Any,
    *,
    masks: "Mapping[str, torch.Tensor] | None" = None,
    dynamic: Any = None,
    strict: bool = False,
) -> "Engine | Whole":
    """Compile a model in evaluation mode into a fused program whose sparse layers run as sparse kernels.

    `example` is what the model takes: an input, a tuple or list of them, or a dict of keywords; an input is a tensor of
    float32, int64, int32 or bool, or dicts, lists, dataclasses of such. The batch comes first and may have another size
    at each call. `dynamic` opens other sizes, as `dynamic_shapes` does in torch.export: by the argument's name, its
    open axes (`{"ids": {1: torch.export.Dim("tokens", max=512)}}`); the first call at a size plans it, a few
    plans are kept, and all share the packed weights. What the model returns comes back as it is made: tuples, dicts,
    dataclasses, model outputs.
    Weights that are zero are the pattern; `masks` (parameter name -> bool tensor) sets further weights to zero. Batch
    norms are folded into weights, activations and residual additions into the kernels, and each layer becomes sparse
    only where that was measured to be faster at the example's batch size; where a whole call is slower than the model's
    own in PyTorch, that one answers, as `report()` says. Calls outside the engine's list of
    operations stay PyTorch code, if need be the whole model, whose `reason` then says why: a warning names them once,
    and with `strict` they are an error. Where the example is on a GPU, all of it stays PyTorch code, with linear layers
    that are 2:4 sparse as PyTorch's semi-structured tensors.

    Raises InputError where the model is in training mode, the example holds no tensor, a mask fits no parameter,
    `dynamic` does not fit the arguments, or, with `strict`, a part would stay PyTorch code.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    from gossamer.engine.capture import NotCapturedError
    from gossamer.engine.dense import DenseLayer
    from gossamer.engine.gpu import compile_on_gpu
    from gossamer.engine.sizes import for_kernels
    from gossamer.scores.batches import failing

    of_type((Mapping, type(None)), "a masking, or a mapping of parameter names to masks", masks=masks)
    of_type(bool, "True or False", strict=strict)
    args, kwargs = _arguments(example)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is a {type(model).__name__}; compile takes a torch.nn.Module")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not tensors or any(isinstance(one, str | bytes) for one in args):
        raise InputError(f"example is {example!r:.60}; give what the model takes: a tensor, a tuple or a dict of them")
    model = _masked(model, masks) if masks else model
    _check_evaluation(model)
    if tensors[0].is_cuda:
        return compile_on_gpu(model, args)
    with torch.no_grad(), failing("the model"):
        model(*args, **kwargs)
    sizes = None
    try:
        if dynamic is None:
            graph = trace(model, example)
        else:
            graph, sizes = trace_open(model, example, dynamic)
    except NotCapturedError as reason:
        _stays("the model", str(reason), strict)
        kept = Whole(model, Report(), str(reason))
        with using_threads(1), failing("the model"):
            kept.report().append(torch_row("model", lambda: kept(*args, **kwargs)))
        return kept
    left = {node.layer or node.name: node.attributes["operator"] for node in graph.nodes if node.operation == "torch"}
    if left:
        parts = ", ".join(f"{layer} ({operator})" for layer, operator in list(left.items())[:5])
        _stays(parts + (f" and {len(left) - 5} more" if len(left) > 5 else ""), "no operations of the engine", strict)
    with torch.no_grad():
        engine = build(for_kernels(graph), len(tensors[0]), DenseLayer)
        if sizes is not None:
            sizes.share(engine._layers, graph)
            engine.sizes = sizes
        if not _agree(engine, model, args, kwargs):
            reason = "the engine's answer to the example is not the model's"
            _stays("the model", reason, strict)
            return Whole(copy.deepcopy(model), Report(), reason)
        if not engine.compare(model, args, kwargs):
            engine.keep(Whole(copy.deepcopy(model), engine.report(), "it is faster so"))
    return engine


def _agree(engine: Engine, model: "torch.nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether both answer the example alike; one value everywhere, which would hide much, gives way to noise."""
    import torch
    from torch.utils._pytree import tree_leaves, tree_map_only

    generator = torch.Generator().manual_seed(0)

    def noise(x: torch.Tensor) -> torch.Tensor:
        alike = x.is_floating_point() and x.numel() > 1 and bool((x == x.flatten()[0]).all())
        return torch.rand(x.shape, generator=generator, dtype=x.dtype) if alike else x

    args, kwargs = tree_map_only(torch.Tensor, noise, (args, kwargs))
    pairs = zip(tree_leaves(engine(*args, **kwargs)), tree_leaves(model(*args, **kwargs)), strict=True)
    return all(_is_close(one, other) for one, other in pairs if isinstance(other, torch.Tensor))


def _is_close(found: Any, expected: "torch.Tensor") -> bool:
    """Say whether outputs are equal but for what sums in another order may differ by."""
    import torch

    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    finite = expected[expected.isfinite()].abs() if expected.is_floating_point() else expected.new_zeros(1)
    scale = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0.02, atol=0.02 * scale, equal_nan=True)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the model is called with."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def _stays(what: str, reason: str, strict: bool) -> None:
    """Warn that a part stays PyTorch code, or raise InputError where that is not wanted."""
    message = f"{what}: stays PyTorch code ({reason}), which is not made faster, saved or exported"
    if strict:
        raise InputError(message + ". Compile without strict to run it so")
    warnings.warn(message, UserWarning, stacklevel=3)


def load(path: str | Path, *, batch: int = 1) -> Engine:
    """Read an engine of `Engine.save`; its kernels are chosen anew here, by measuring them at this batch size.

    Sizes that were open when it was compiled are open again.

    Needs NumPy and Numba alone: torch is not imported. Raises InputError where the file is missing, damaged or made to
    harm: an unknown operation, shapes that do not fit, tensors that are missing or too many, bytes that were changed.
    """
    from gossamer.engine.sizes import Sizes

    whole(1, batch=batch)
    found = read(path)
    return build(found, batch) if isinstance(found, Graph) else Sizes.build(found, batch)


def trace(model: "torch.nn.Module", example: Any) -> Graph:
    """Return the model's folded graph.

    Raises InputError where the model is in training mode, and NotCapturedError where it cannot be written as a graph.
    """
    from gossamer.engine.capture import capture
    from gossamer.engine.channels import move_channels_first
    from gossamer.engine.fold import fold

    _check_evaluation(model)
    return fold(move_channels_first(capture(_with_dense_layers(model), *_arguments(example))))


def trace_open(model: "torch.nn.Module", example: Any, dynamic: Any) -> "tuple[Graph, TracedSizes]":
    """Return the model's folded graph at the example's sizes, and what gives that of others; raises as `trace` does."""
    from gossamer.engine.traced import trace_sizes

    _check_evaluation(model)
    return trace_sizes(_with_dense_layers(model), *_arguments(example), dynamic)


def _with_dense_layers(model: "torch.nn.Module") -> "torch.nn.Module":
    """Return the model, or a copy in which the layers with sparse storage are dense ones with zeros."""
    import torch

    from gossamer.nn.storage import SparseWeight

    if not any(isinstance(module, SparseWeight) for module in model.modules()):
        return model
    holder = torch.nn.Sequential(copy.deepcopy(model))
    for module in list(holder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SparseWeight):
                dense: Any = child
                setattr(module, name, dense.to_dense().eval())
    return holder[0]


def _check_evaluation(model: "torch.nn.Module") -> None:
    if any(module.training for module in model.modules()):
        raise InputError("the model is in training mode: give model.eval()")


def _masked(model: "torch.nn.Module", masks: "Mapping[str, torch.Tensor]") -> "torch.nn.Module":
    """Return a copy of the model whose masked weights are zero."""
    import torch

    model = copy.deepcopy(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        of_type(torch.Tensor, "a boolean tensor", **{f"the mask of {name}": mask})
        if name not in parameters or parameters[name].shape != mask.shape:
            shape = tuple(mask.shape)
            raise InputError(f"mask {name!r} of shape {shape} fits no parameter: use the names of named_parameters()")
        with torch.no_grad():
            parameters[name].mul_(mask.to(parameters[name].dtype))
    return model
