"""Token models, batch 1: the engine against dense runtimes on the same weights, in one process.

    pip install "gossamer[nlp,bench]"
    python core/benchmarks/tokens.py [--models bert minilm vit] [--threads 1] [--sparsity 0.9] [--no-compile]

`bert` is BERT-base's encoder and `minilm` one of 6 layers of width 384, both on 128 tokens; `vit` is ViT-B/16 at
224×224. Weights and masks are random; every linear layer of the encoder is sparse. Prints the median milliseconds of
PyTorch eager, torch.compile, ONNX Runtime, OpenVINO where it is installed (`pip install openvino`), and of the engine
over both patterns, and its ratio to the fastest of them. With `--deepsparse PYTHON`, as in `networks.py`, DeepSparse's
are last, on the same weights in the form that it is fastest with: PyTorch's own export of plain attention.
"""

import argparse
import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from layers import machine, medians
from networks import PATTERNS, deepsparse, onnx_runtime, openvino

import gossamer as gs

TOKENS = 128


def model(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model in evaluation mode with random weights, and what it is called with."""
    import transformers

    torch.manual_seed(0)
    if name == "vit":
        made: Any = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
        return made.eval(), {"pixel_values": torch.randn(1, 3, 224, 224)}
    small: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    config = transformers.BertConfig(**(small if name == "minilm" else {}))
    made = transformers.BertModel(config, add_pooling_layer=False)
    ids = torch.randint(config.vocab_size, (1, TOKENS))
    return made.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def row(name: str, pattern: str, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds by runtime."""
    network, example = model(name)
    generator = torch.Generator().manual_seed(0)
    sparse = {"pattern": PATTERNS[pattern], "distribution": "uniform", "score": "random", "generator": generator}
    gs.sparsify(network, options.sparsity, **sparse)
    calls: dict[str, Callable[[], torch.Tensor]] = {"eager": lambda: network(**example).last_hidden_state}
    if not options.no_compile:
        inductor = torch.compile(copy.deepcopy(network))
        calls["torch.compile"] = lambda: inductor(**example).last_hidden_state
    peers = {"ONNX Runtime": onnx_runtime(network, example), "OpenVINO": openvino(network, example)}
    calls |= {name: call for name, call in peers.items() if call}
    compiled = gs.compile(network, example, strict=True)
    calls["engine"] = lambda: compiled(**example).last_hidden_state
    expected = calls["eager"]()
    for runtime, call in calls.items():
        torch.testing.assert_close(call(), expected, rtol=1e-3, atol=1e-3, msg=runtime)
    times = dict(zip(calls, (1000 * t for t in medians(list(calls.values()), options.repeats)), strict=True))
    if options.deepsparse:
        inputs = list(example.values())
        network.set_attn_implementation("eager")
        times["DeepSparse"] = deepsparse(
            options.deepsparse, lambda path: _export(network, path, example), inputs, expected
        )
    return times


def _export(network: torch.nn.Module, path: str, example: dict[str, torch.Tensor]) -> None:
    """Write the network's ONNX file as torch does by tracing."""

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.network(**dict(zip(example, inputs, strict=True))).last_hidden_state

    arguments = {"opset_version": 14, "input_names": list(example)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Hidden().eval(), tuple(example.values()), path, dynamo=False, **arguments)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["bert", "minilm", "vit"], choices=["bert", "minilm", "vit"])
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each runtime, of five timed calls each")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--deepsparse", metavar="PYTHON", help="measure DeepSparse too, by this Python")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    print(machine())
    print(f"{options.threads} threads, batch 1, {options.sparsity:.0%} sparse; milliseconds")
    for name in options.models:
        for pattern in options.patterns:
            found = row(name, pattern, options)
            ours, theirs = found.pop("engine"), found.pop("DeepSparse", None)
            sparse = {"DeepSparse": theirs} if theirs else {}
            if (name, pattern) == (options.models[0], options.patterns[0]):
                heads = ["model", "pattern", *found, *sparse, "engine", "to the fastest dense"]
                heads += [f"to {peer}" for peer in sparse]
                print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
            cells = [name, pattern, *(f"{t:.1f}" for t in (*found.values(), *sparse.values(), ours))]
            cells += [f"{t / ours:.2f}×" for t in (min(found.values()), *sparse.values())]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
