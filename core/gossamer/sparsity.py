"""Making a model sparse: which of its layers, how much of each, by which score and pattern."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from gossamer.distributions import Distribution
from gossamer.distributions import distribution as find_distribution
from gossamer.errors import InputError, check_sparsity, of_type
from gossamer.layers import find_layers, globs, plain
from gossamer.masking import Masking
from gossamer.patterns import Pattern, Unstructured
from gossamer.scores import Score, check_generator
from gossamer.scores import score as find_score


def sparsify(
    model: nn.Module,
    sparsity: float,
    *,
    pattern: Pattern | None = None,
    distribution: str | Mapping[str, float] | Distribution = "erk",
    score: str | Score = "magnitude",
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> Masking:
    """Make `model` sparse in place and return its masking.

    What can be sparse are the weights of linear layers (those of other libraries too, as transformers' Conv1D), of
    convolutions, transposed ones and embeddings, and the projections of MultiheadAttention and recurrent modules. A
    parametrized weight is masked underneath (`parametrizations.weight.original`, the direction of weight_norm).

    `sparsity` in [0, 1) is the share of the masked layers' weights that go, distributed over the layers by
    `distribution` and chosen by `score` under `pattern`. `include` and `exclude` are globs over the names of modules
    and parameters ("*.weight_hh_l0"). Without `include`, the first convolution, depthwise convolutions, embeddings and
    what is tied to them, and adapters (LoRA) stay dense. A parameter of no known layer is included by its own name
    alone, by a glob that does not match the module that holds it. Frozen weights are masked as the others. A score
    that asks for iterations is pruned in steps of equal ratio, as SynFlow needs. Random scores come from `generator`, a
    CPU generator. Layers of sparse storage (`gossamer.nn.SparseLinear`) keep the weights that they store, and
    `sparsity` concerns the others.

    Raises `InputError` for a sparsity outside [0, 1), a glob or a name that matches nothing, a pattern that cannot
    have that sparsity or does not fit a layer, an included weight whose zeros nothing keeps (orthogonal
    parametrizations, quantized numbers), and a model with nothing to mask.
    """
    model = plain(model)
    pattern = Unstructured() if pattern is None else pattern
    of_type(Pattern, "a pattern object such as gossamer.Block(4, 1)", pattern=pattern)
    check_sparsity(sparsity)
    check_generator(generator)
    find_score(score)
    if pattern.density is not None and isinstance(distribution, Mapping):
        raise InputError(f"{pattern} has one sparsity only, not one per layer; exclude the layers that stay dense.")
    layers = find_layers(model, None if include is None else globs(include), globs(exclude), pattern)
    masked = [layer for layer in layers if not layer.kept_dense]
    if not masked:
        reasons = dict.fromkeys(layer.kept_dense for layer in layers)
        told = f" ({'; '.join(reasons)})" if reasons else ""
        raise InputError(
            f"no layer of the model can be sparse{told}; include=('*',) takes what is kept dense by default."
        )
    for layer in masked:
        try:
            pattern.check(layer.turned(torch.empty(layer.shape, device="meta")).shape)
        except InputError as error:
            raise InputError(f"{layer.parameter}: {error}") from None
    masking = Masking(model, layers, pattern, find_distribution(distribution))
    masking.prune(score, sparsity, generator)
    return masking
