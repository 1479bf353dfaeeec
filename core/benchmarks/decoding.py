"""Decoding word by word with a cache of keys and values, batch 1: the engine against PyTorch, in one process.

    pip install "gossamer[integrations]"
    python core/benchmarks/decoding.py [--models gpt2 llama] [--threads 1] [--sparsity 0.9] [--sparse-head]

`gpt2` is GPT-2 small; `llama` has 12 layers of width 768 as TinyLlama's family shapes them, with 4 heads of keys for 12
of queries. Weights and masks are random; every linear layer is sparse but the last, of 50,257 words, which is tied to
the embedding; with `--sparse-head` that one is sparse, too, and tied no more. After a prompt of 64 tokens, each runtime
takes 63 turns of one token; prints the median tokens a second.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from layers import machine
from networks import PATTERNS

import gossamer as gs
from gossamer.integrations.decoding import Decoder

PROMPT, WORDS = 64, 64


def model(name: str, sparse_head: bool) -> Any:
    """A model in evaluation mode with random weights."""
    import transformers

    torch.manual_seed(0)
    if name == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(tie_word_embeddings=not sparse_head)).eval()
    sizes: Any = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 4}
    sizes |= {"intermediate_size": 2048, "vocab_size": 50257, "max_position_embeddings": 1024}
    config = transformers.LlamaConfig(**sizes, tie_word_embeddings=not sparse_head)
    return transformers.LlamaForCausalLM(config).eval()


def eager(network: Any, ids: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One word at a time by PyTorch with transformers' cache."""
    state = network(input_ids=ids, use_cache=True)
    held = [state.past_key_values, state.logits[:, -1]]

    def step() -> torch.Tensor:
        word = held[1].argmax(1, keepdim=True)
        new = network(input_ids=word, past_key_values=held[0], use_cache=True)
        held[:] = new.past_key_values, new.logits[:, -1]
        return word

    return step


def compiled(network: Any, ids: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One word at a time by the engine."""
    decoder = Decoder(network, length=PROMPT + WORDS)
    scores = [decoder(ids)]

    def step() -> torch.Tensor:
        word = scores[0].argmax(1, keepdim=True)
        scores[0] = decoder(word)
        return word

    return step


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2"], choices=["gpt2", "llama"])
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--sparse-head", action="store_true", help="make the last layer sparse, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    print(machine())
    print(f"{options.threads} threads, batch 1, {options.sparsity:.0%} sparse; tokens a second\n")
    print("| model | pattern | PyTorch | engine | ratio |\n|" + "---|" * 5)
    for name in options.models:
        for pattern in options.patterns:
            network = model(name, options.sparse_head)
            generator = torch.Generator().manual_seed(0)
            exclude = () if options.sparse_head else ("lm_head",)
            sparse: Any = {"pattern": PATTERNS[pattern], "distribution": "uniform", "exclude": exclude}
            gs.sparsify(network, options.sparsity, score="random", generator=generator, **sparse)
            ids = torch.randint(50257, (1, PROMPT), generator=generator)
            steps, times = [eager(network, ids), compiled(network, ids)], ([], [])
            for _ in range(WORDS - 1):
                words = []
                for step, taken in zip(steps, times, strict=True):
                    before = time.perf_counter()
                    words.append(step())
                    taken.append(time.perf_counter() - before)
                assert torch.equal(*words), "the engine chose another word"
            rates = [1 / statistics.median(taken) for taken in times]
            print(f"| {name} | {pattern} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[1] / rates[0]:.2f}× |", flush=True)


if __name__ == "__main__":
    main()
