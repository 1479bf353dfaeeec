"""Decoding with a cache against transformers' own."""

from typing import Any

import pytest
import torch

import gossamer as gs

pytest.importorskip("transformers", reason="transformers is not installed")

import transformers

from gossamer.integrations.decoding import CHUNK, Decoder


def gpt2() -> Any:
    sizes: Any = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 60}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


def llama() -> Any:
    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 64, "vocab_size": 60, "max_position_embeddings": 64}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, bos_token_id=1, eos_token_id=2))


@pytest.mark.parametrize("make", [gpt2, llama])
def test_a_decoder_goes_on_as_the_model_does(make: Any):
    torch.manual_seed(0)
    model = make().eval()
    gs.sparsify(model, 0.8, pattern=gs.Block(4, 1), exclude=("lm_head",))
    decoder, before = Decoder(model, length=48), model.config._attn_implementation
    assert before != "gossamer"
    ids = torch.randint(60, (2, CHUNK + 7))
    with torch.no_grad():
        for end, part in zip((CHUNK + 3, CHUNK + 4, CHUNK + 7), ids.split([CHUNK + 3, 1, 3], 1), strict=True):
            expected = model(input_ids=ids[:, :end]).logits[:, -1]
            torch.testing.assert_close(decoder(part), expected, atol=1e-4, rtol=1e-4)
        with pytest.raises(gs.InputError, match="batch of 1, unlike"):
            decoder(ids[:1])
        decoder.reset()
        words = model.generate(input_ids=ids, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
    torch.testing.assert_close(decoder.generate(ids, 8), words[:, ids.shape[1] :])
    with pytest.raises(gs.InputError, match=r"20 tokens after 30 do not fit a length of 48"):
        decoder(ids[:, :20])


def test_what_cannot_be_decoded_is_refused():
    with pytest.raises(gs.InputError, match="causal language model"):
        Decoder(torch.nn.Linear(2, 2), length=8)
    with pytest.raises(gs.InputError, match="64 positions"):
        Decoder(gpt2().eval(), length=65)
