"""One-shot pruning: a trained stack of blocks, such as a language model, pruned layer by layer from a little data."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError, check_sparsity, nearest, of_type
from gossamer.inputs import columns_of, watching
from gossamer.layers import Layer, find_layers, globs
from gossamer.masking import Masking
from gossamer.oneshot.blocks import Blocks, find_blocks
from gossamer.oneshot.solver import MagnitudeSolver, Solver
from gossamer.oneshot.sparsegpt import SparseGPT
from gossamer.oneshot.wanda import WandaSolver
from gossamer.patterns import Pattern, Unstructured, check_pattern
from gossamer.scores.batches import checked
from gossamer.scores.score import evaluating

__all__ = ["SOLVERS", "MagnitudeSolver", "Solver", "SparseGPT", "WandaSolver", "prune_blocks"]

SOLVERS: dict[str, Solver] = {"sparsegpt": SparseGPT(), "wanda": WandaSolver(), "magnitude": MagnitudeSolver()}


def prune_blocks(
    model: nn.Module,
    batches: Iterable[Any],
    sparsity: float,
    *,
    solver: str | Solver = "sparsegpt",
    pattern: Pattern | None = None,
    distribution: str | Mapping[str, float] = "uniform",
    blocks: str | None = None,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
) -> Masking:
    """Prune the layers of a model's repeated blocks in place, one block after the other, and return the masking.

    Every block sees what the blocks before it, already pruned, make of `batches` (a list of what `model` takes, or a
    DataLoader: some 128 sequences serve well). `solver` is "sparsegpt", which also adjusts the weights that stay
    (Frantar & Alistarh 2023), "wanda" (Sun et al. 2024) or "magnitude", or one with options, `SparseGPT(damping=0.1)`.
    What is held in memory beside the model is the statistics of one block and one block's outputs.

    `sparsity` in [0, 1) is every layer's, by `distribution` "uniform", or as "erk", "er" or a mapping of globs share it
    out; `pattern` is Unstructured() or NofM(n, m), and for wanda and magnitude any. `blocks` is a glob over the names
    of the blocks ("model.layers.*"); without it they are the children of every list whose modules are of one class.
    `include` and `exclude` choose among the layers in them as in `sparsify`; what is outside the blocks stays dense.

    Raises `InputError` for a model without such blocks, batches that do not reach a layer, layers whose inputs cannot
    be seen, and whatever `sparsify` refuses.
    """
    solver = _find_solver(solver)
    of_type(nn.Module, "a torch.nn.Module", model=model)
    of_type((str, type(None)), "a glob over names of blocks, such as 'model.layers.*'", blocks=blocks)
    check_sparsity(sparsity)
    chosen = check_pattern(Unstructured() if pattern is None else pattern, sparsity)
    if isinstance(distribution, str) and distribution in ("global", "lamp"):
        raise InputError(f"distribution is {distribution!r}, which compares layers before any is seen; use 'uniform'.")
    names = find_blocks(model, blocks)
    layers = [
        _inside(layer, names)
        for layer in find_layers(model, None if include is None else globs(include), globs(exclude), chosen)
    ]
    if all(layer.kept_dense for layer in layers):
        raise InputError(f"no layer in the blocks {names[0]}, … can be sparse; name others: blocks='encoder.layer.*'.")
    masking = Masking(model, layers, chosen, find_distribution(distribution))
    counts = masking.distribute(sparsity, {name: weight.detach() for name, weight in masking.weights.items()})
    given = list(checked(batches, "prune_blocks"))
    if not given:
        raise InputError("prune_blocks got no batches; pass a list of them (a used-up iterator is empty).")
    with evaluating(model, {}), torch.no_grad():
        run = Blocks(model, names, given)
        for block in run:
            inside = [name for name in masking.masked if name.startswith(f"{block}.")]
            _prune(masking, inside, counts, solver, run)
    return masking


def _prune(masking: Masking, names: list[str], counts: Mapping[str, int], solver: Solver, run: Blocks) -> None:
    """Prune the layers of the block at which `run` stands."""
    model, pattern = masking.model, masking.pattern
    seen: dict[str, dict[tuple[int, int], Tensor]] = {name: {} for name in names}

    def see(name: str, rows: slice, x: Tensor) -> None:
        x = columns_of(model, name, x, pattern).float()
        place = slice(*rows.indices(len(masking.layer(name).turned(masking.parts[name].mask))))
        statistic = seen[name].get((place.start, place.stop))
        seen[name][place.start, place.stop] = solver.observed(x, statistic)

    with watching(model, names, see):
        run.forward()
    for name in names:
        if not seen[name]:
            raise InputError(f"{name} saw no input: pass batches that reach the layer, or exclude it.")
        part, turned = masking.parts[name], masking.layer(name).turned
        weight = turned(part.weight)
        if sum(stop - start for start, stop in seen[name]) < len(weight):
            raise InputError(f"experts of {name} got no token of the batches: pass more, or exclude it.")
        matrix = pattern.matrix(weight)
        mask = torch.empty_like(matrix, dtype=torch.bool)
        quotas = _shared(counts[name], [stop - start for start, stop in seen[name]])
        for ((start, stop), statistic), quota in zip(seen.pop(name).items(), quotas, strict=True):
            solved, mask[start:stop] = solver.solve(matrix[start:stop].float(), statistic, pattern, quota)
            matrix[start:stop] = solved.to(matrix.dtype)
        part.parameter.copy_(turned(pattern.unmatrix(matrix, weight.shape)))
        masking.update({name: turned(pattern.unmatrix(mask, weight.shape))}, {name: counts[name]})
    run.keep()


def _shared(count: int, rows: list[int]) -> list[int]:
    """A count shared out over parts of so many rows."""
    ends = [round(count * sum(rows[: k + 1]) / sum(rows)) for k in range(len(rows))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _inside(layer: Layer, blocks: list[str]) -> Layer:
    """The layer, dense where it is in none of the blocks."""
    inside = any(layer.parameter.startswith(f"{name}.") for name in blocks)
    return layer if inside or layer.kept_dense else replace(layer, kept_dense="outside the blocks")


def _find_solver(solver: str | Solver) -> Solver:
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]
    if isinstance(solver, Solver):
        return solver
    near = nearest(solver, SOLVERS) if isinstance(solver, str) else ""
    raise InputError(f"solver is {solver!r}{near}; choose one of {', '.join(SOLVERS)}, or pass SparseGPT(…).")
