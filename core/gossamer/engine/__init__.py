"""The engine: a trained, masked network as a fused, sparse, fast program for the CPU.

`compile(model, example)` makes an `Engine`; `engine.save(path)` stores it, and `load(path)` runs it again with NumPy
and Numba alone: this package does not import torch before `compile` is called.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gossamer.engine.choice import Report, Row, torch_row
from gossamer.engine.graph import Graph
from gossamer.engine.program import Engine, Whole, build
from gossamer.engine.storage import load
from gossamer.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["Engine", "Report", "Row", "Whole", "compile", "load", "trace"]


def compile(
    model: "torch.nn.Module", example: Any, *, masks: "Mapping[str, torch.Tensor] | None" = None
) -> "Engine | Whole":
    """Compile a model in evaluation mode into a fused program whose sparse layers run as sparse kernels.

    `example` is an input, or a tuple of them: float32 with the batch first, which may have another size at each call.
    Weights that are zero are the pattern; `masks` (parameter name -> bool tensor) sets further weights to zero. Batch
    norms are folded into weights, activations and residual additions into the kernels, and each layer becomes sparse
    only where that was measured to be faster at the example's batch size. Calls outside the engine's list of
    operations stay PyTorch code, if need be the whole model, whose `reason` then says why. Where the example is on a
    GPU, all of it does, with linear layers that are 2:4 sparse as PyTorch's semi-structured tensors.

    Raises InputError where the model is in training mode, the example is no tensor, or a mask fits no parameter.
    """
    import torch

    from gossamer.engine.capture import NotCapturedError
    from gossamer.engine.dense import DenseLayer
    from gossamer.engine.gpu import compile_on_gpu
    from gossamer.engine.join import join_sums

    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is a {type(model).__name__}; compile takes a torch.nn.Module")
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise InputError(f"example is {example!r:.60}; give an input of the model, or a tuple of them, as tensors")
    model = _masked(model, masks) if masks else model
    if inputs[0].is_cuda:
        _check_evaluation(model)
        return compile_on_gpu(model, inputs)
    try:
        graph = trace(model, inputs)
    except NotCapturedError as reason:
        whole = Whole(model, Report(), str(reason))
        whole.report().append(torch_row("model", lambda: whole(*inputs)))
        return whole
    with torch.no_grad():
        return build(join_sums(graph), len(inputs[0]), DenseLayer)


def trace(model: "torch.nn.Module", example: Any) -> Graph:
    """Return the model's folded graph.

    Raises InputError where the model is in training mode, and NotCapturedError where it cannot be written as a graph.
    """
    from gossamer.engine.capture import capture
    from gossamer.engine.channels import move_channels_first
    from gossamer.engine.fold import fold

    _check_evaluation(model)
    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    return fold(move_channels_first(capture(_with_dense_layers(model), inputs)))


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
        if name not in parameters or parameters[name].shape != mask.shape:
            shape = tuple(mask.shape)
            raise InputError(f"mask {name!r} of shape {shape} fits no parameter: use the names of named_parameters()")
        with torch.no_grad():
            parameters[name].mul_(mask.to(parameters[name].dtype))
    return model
