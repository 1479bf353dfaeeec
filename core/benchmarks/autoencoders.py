"""Time steps of training a TopK autoencoder beside SAELens and dictionary_learning, on one core.

pip install sae-lens scikit-learn && pip install --no-deps dictionary-learning einops
python core/benchmarks/autoencoders.py

dictionary_learning's package imports language models; its trainer is loaded without them, and otherwise as it is. All
see the same batches from the same weights, with the same learning rate; steps are taken in turn, medians compared.
SAELens is its training module under its own losses and Adam, without its activation store. Encoding is compared with
scikit-learn's orthogonal matching pursuit on the same dictionary.
"""

import importlib
import importlib.util
import statistics
import sys
import time
import types
from dataclasses import dataclass

import torch
import tyro

from gossamer import InputError
from gossamer.nn import SparseAutoencoder, Squared, TopK, explained_variance


@dataclass(frozen=True)
class Options:
    """What is trained."""

    inputs: int = 200
    codes: int = 4096
    active: int = 32
    batch: int = 1024
    steps: int = 30
    learning_rate: float = 1e-3


def peer(options: Options, model: SparseAutoencoder):
    """dictionary_learning's trainer, its autoencoder with the weights of `model`."""
    found = importlib.util.find_spec("dictionary_learning")
    if not (found and found.submodule_search_locations):
        raise InputError("dictionary_learning is not installed: pip install --no-deps dictionary-learning einops")
    package = types.ModuleType("dictionary_learning")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["dictionary_learning"] = package
    trainer = importlib.import_module("dictionary_learning.trainers.top_k").TopKTrainer(
        steps=10 * options.steps,
        activation_dim=options.inputs,
        dict_size=options.codes,
        k=options.active,
        layer=0,
        lm_name="none",
        lr=options.learning_rate,
        warmup_steps=1,
        device="cpu",
    )
    with torch.no_grad():
        trainer.ae.encoder.weight.copy_(model.encoder.weight)
        trainer.ae.decoder.weight.copy_(model.decoder.weight)
    return trainer


def lens(options: Options, model: SparseAutoencoder):
    """SAELens's training module with the weights of `model`, and the function that takes a step."""
    try:
        topk, sae = (importlib.import_module(f"sae_lens.saes.{name}") for name in ("topk_sae", "sae"))
    except ImportError as error:
        raise InputError(f"SAELens cannot be imported ({error}): pip install sae-lens") from error
    theirs = topk.TopKTrainingSAE(topk.TopKTrainingSAEConfig(options.inputs, options.codes, k=options.active))
    with torch.no_grad():
        theirs.W_enc.copy_(model.encoder.weight.T)
        theirs.W_dec.copy_(model.decoder.weight.T)
        theirs.b_dec.copy_(model.decoder.bias)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=options.learning_rate)

    def update(step: int, x: torch.Tensor) -> None:
        loss = theirs.training_forward_pass(sae.TrainStepInput(x, {}, None, step, False)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return theirs, update


def encoding(options: Options, model: SparseAutoencoder, x: torch.Tensor) -> tuple[float, float]:
    """Milliseconds that a code of `model` and one of scikit-learn's OMP take, medians of five and of one run."""
    from sklearn.decomposition import sparse_encode

    def seconds(call) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    with torch.no_grad():
        ours = statistics.median(seconds(lambda: model.sparse_code(x)) for _ in range(5))
    atoms, few = model.decoder.weight.detach().T.numpy(), x[:100].numpy()
    theirs = seconds(lambda: sparse_encode(few, atoms, algorithm="omp", n_nonzero_coefs=options.active))
    return 1000 * ours / len(x), 1000 * theirs / len(few)


def main(options: Options) -> None:
    """Print milliseconds a step and the variance explained after the same steps; then those of encoding."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(options.codes, options.inputs, generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)

    def batch() -> torch.Tensor:
        chosen = torch.randint(options.codes, (options.batch, 8), generator=generator)
        return (torch.rand(options.batch, 8, 1, generator=generator) * atoms[chosen]).sum(1)

    model = SparseAutoencoder(options.inputs, options.codes, TopK(options.active), generator)
    theirs, (sae, update) = peer(options, model), lens(options, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, fused=True)

    def own(step: int, x: torch.Tensor) -> None:
        loss, _, _ = Squared()(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.normalize()

    steps = {"gossamer": own, "dictionary_learning": theirs.update, "SAELens": update}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in range(options.steps):
        x = batch()
        for name, take in steps.items():
            start = time.perf_counter()
            take(step, x)
            times[name].append(time.perf_counter() - start)
    x = batch()
    with torch.no_grad():
        explained = {"gossamer": model.sparse(x)[0], "dictionary_learning": theirs.ae(x), "SAELens": sae(x)}
    for name, seconds in times.items():
        ratio = statistics.median(b / a for a, b in zip(times["gossamer"][3:], seconds[3:], strict=True))
        print(
            f"{name}: {1000 * statistics.median(seconds[3:]):.1f} ms a step, {ratio:.2f} times gossamer's, "
            f"{explained_variance(x, explained[name]):.4f} of the variance explained"
        )
    ours, pursuit = encoding(options, model, x)
    print(f"encoding: {ours:.4f} ms a row, OMP {pursuit:.2f} ms, {pursuit / ours:.0f} times")


if __name__ == "__main__":
    main(tyro.cli(Options))
