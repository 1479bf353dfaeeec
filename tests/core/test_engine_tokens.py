"""Networks of tokens, and inputs and outputs of every kind: small random ones against PyTorch, files and ONNX."""

import copy
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import gossamer
from gossamer import engine, onnx
from gossamer.errors import InputError

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**SIZES, vocab_size=60, max_position_embeddings=20)
    return transformers.BertModel(config)


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20, "vocab_size": 60}
    config = transformers.GPT2Config(**sizes, use_cache=False, bos_token_id=1, eos_token_id=2)
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {**SIZES, "num_key_value_heads": 1, "vocab_size": 60, "max_position_embeddings": 20}
    config = transformers.LlamaConfig(**sizes, use_cache=False, bos_token_id=1, eos_token_id=2)
    return transformers.LlamaModel(config)


class Tagger(nn.Module):
    """An embedding, two layers of a recurrence in both directions, and a linear map of every step."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]):
        super().__init__()
        self.embedding, self.last = nn.Embedding(50, 8), nn.Linear(24, 5)
        self.recurrence = kind(8, 12, 2, batch_first=True, bidirectional=True)

    def forward(self, ids):
        y, state = self.recurrence(self.embedding(ids))
        return self.last(y), (state[0] if isinstance(state, tuple) else state).transpose(0, 1)


class Upwards(nn.Module):
    """What a U-Net's way up is made of."""

    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), nn.GroupNorm(2, 6)
        self.other, self.last = nn.InstanceNorm2d(6), nn.RMSNorm(6)

    def forward(self, x):
        y = nn.functional.silu(self.norm(self.up(x)))
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear") + self.other(
            nn.functional.interpolate(y, scale_factor=2.0)
        )
        return self.last(y.flatten(2).transpose(1, 2))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


class Last(nn.Module):
    """Linear maps over the last axis of images whose planes do not fill whole cache lines, one of them with a sum."""

    def __init__(self):
        super().__init__()
        self.norm, self.first, self.last = nn.LayerNorm(5), nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x):
        y = x.roll((1, 2), (1, 2))
        return y + self.last(nn.functional.gelu(self.first(self.norm(y))))


def wired() -> nn.Module:
    paths = [nn.Conv2d(2, 3, 1), nn.Conv2d(1, 2, 3, padding=1)]
    return gossamer.nn.Branches([*paths, nn.Identity()], inputs=[[3, 0], [2], [1, 1]])


NETWORKS: dict[str, tuple[Any, Any]] = {
    "bert": (bert, IDS),
    "bert with a mask": (bert, {"input_ids": IDS, "attention_mask": MASK}),
    "gpt-2": (gpt2, IDS),
    "llama": (llama, IDS),
    "gpt-2 with a mask": (gpt2, {"input_ids": IDS, "attention_mask": MASK}),
    "vit": (lambda: zoo.VisionTransformer(16, 8, 1, 2, 16, 32), torch.randn(2, 3, 16, 16)),
    "swin": (lambda: zoo.SwinTransformer([2, 2], 16, [2], [2], [4, 4], num_classes=4), torch.randn(2, 3, 16, 16)),
    "last axis": (Last, torch.randn(2, 3, 6, 5)),
    "encoder": (encoder, torch.randn(2, 7, 16)),
    "gru": (lambda: Tagger(nn.GRU), IDS),
    "lstm": (lambda: Tagger(nn.LSTM), IDS),
    "upwards": (Upwards, torch.randn(2, 4, 5, 6)),
    "wired branches": (wired, torch.randn(2, 4, 5, 6)),
}


def called(function: Any, example: Any) -> Any:
    with torch.no_grad():
        return function(**example) if isinstance(example, dict) else function(example)


def close(one: Any, other: Any) -> None:
    one, other = ([x.detach() if isinstance(x, torch.Tensor) else x for x in tree_leaves(y)] for y in (one, other))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        if a is None:
            assert b is None
            continue
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_native_and_can_be_saved_and_exported(name: str, tmp_path: Path):
    torch.manual_seed(0)
    make, example = NETWORKS[name]
    model = make().eval()
    compiled: Any = gossamer.compile(model, example, strict=True)
    expected, found = called(model, example), called(compiled, example)
    assert type(found) is type(expected)
    close(found, expected)
    compiled.save(tmp_path / "engine")
    close(called(engine.load(tmp_path / "engine"), example), expected)
    onnx.export_onnx(compiled, tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx", providers=["CPUExecutionProvider"])
    inputs = dict(zip(compiled.graph.argument_names(), tree_leaves(example), strict=True))
    close(session.run(None, {key: value.numpy() for key, value in inputs.items()}), expected)


@dataclass
class Made:
    classes: torch.Tensor
    more: None = None


class Pair(NamedTuple):
    one: torch.Tensor
    two: torch.Tensor


class Arranged(nn.Module):
    """Takes a dict and a keyword, and returns what `how` says."""

    def __init__(self, how: Any):
        super().__init__()
        self.how, self.linear = how, nn.Linear(4, 4)

    def forward(self, x, *, scale=None):
        y = self.linear(x["image"])
        return self.how(y if scale is None else y * scale)


ARRANGED = {
    "ordered dict": lambda y: OrderedDict(a=y, b=y * 2),
    "dataclass": Made,
    "named tuple": lambda y: Pair(y, y * 2),
    "nested": lambda y: {"a": [y, (y * 2, None)], "b": 3},
}


@pytest.mark.parametrize("how", ARRANGED)
def test_inputs_and_outputs_are_arranged_as_the_models(how: str):
    model = Arranged(ARRANGED[how]).eval()
    x = {"image": torch.randn(2, 4)}
    compiled = gossamer.compile(model, (x,), strict=True)
    found, expected = compiled(x), model(x)
    assert type(found) is type(expected)
    close(vars(found) if how == "dataclass" else found, vars(expected) if how == "dataclass" else expected)
    with pytest.raises(InputError, match="takes image by name"):
        compiled({"picture": torch.randn(2, 4)})
    with pytest.raises(InputError, match="takes 1 inputs"):
        compiled(x, x)


def test_keywords_are_taken_by_name():
    model = Arranged(lambda y: y).eval()
    example = {"x": {"image": torch.randn(3, 4)}, "scale": torch.randn(3, 4)}
    compiled = gossamer.compile(model, example, strict=True)
    close(compiled(**example), model(**example))
    with pytest.raises(InputError, match="by name"):
        compiled(x=example["x"])


def test_other_dtypes_say_so():
    model = nn.Linear(4, 3).eval()
    with pytest.raises(InputError, match=r"torch\.bfloat16.*stays|stays.*torch\.bfloat16"):
        gossamer.compile(model.bfloat16(), torch.zeros(2, 4, dtype=torch.bfloat16), strict=True)
    compiled = gossamer.compile(model.float(), torch.zeros(2, 4))
    with pytest.raises(InputError, match="bfloat16"):
        compiled(torch.zeros(2, 4, dtype=torch.bfloat16))
    with pytest.raises(InputError, match="int64, not float32"):
        compiled(torch.zeros(2, 4, dtype=torch.int64))


def test_norms_by_the_root_of_the_mean_square_are_found():
    compiled: Any = gossamer.compile(llama().eval(), IDS, strict=True)
    operations = [node.operation for node in compiled.graph.nodes]
    assert operations.count("rms_norm") == 3 and "mean" not in operations


def test_a_part_that_stays_pytorch_warns_once_or_is_an_error():
    model = nn.Sequential(nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 4)).eval()
    with pytest.warns(UserWarning, match=r"1 \(softplus\): stays PyTorch code") as found:
        compiled: Any = gossamer.compile(model, torch.zeros(2, 4))
    assert len(found) == 1
    close(compiled(torch.ones(2, 4)), model(torch.ones(2, 4)))
    with pytest.raises(InputError, match=r"1 \(softplus\): stays"):
        gossamer.compile(model, torch.zeros(2, 4), strict=True)
    with pytest.raises(InputError, match="cannot be saved"):
        pickle.dumps(compiled)


@pytest.mark.parametrize("make", [torch.zeros, torch.ones, torch.randn])
def test_the_model_answers_where_the_engine_would_err(make: Any, monkeypatch: pytest.MonkeyPatch):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4, elementwise_affine=False)).eval()
    traced = engine.trace

    def wrong(*arguments: Any) -> Any:
        graph = traced(*arguments)
        graph.tensors["0.weight"] = -graph.tensors["0.weight"]
        return graph

    monkeypatch.setattr(engine, "trace", wrong)
    with pytest.warns(UserWarning, match="answer to the example is not the model's"):
        compiled = gossamer.compile(model, make(2, 4))
    x = torch.randn(2, 4)
    assert isinstance(compiled, engine.Whole)
    close(compiled(x), model(x))
    with pytest.raises(InputError, match="not the model's"):
        gossamer.compile(model, make(2, 4), strict=True)


def test_a_token_beyond_the_embedding_is_refused():
    compiled = gossamer.compile(Tagger(nn.GRU).eval(), IDS)
    with pytest.raises(InputError, match="holds 50, but the embedding has rows 0 to 49"):
        compiled(torch.full((2, 7), 50).numpy())


def test_an_engine_is_copied_pickled_and_takes_no_inputs():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)).eval()
    x = torch.randn(2, 3, 6, 6)
    compiled: Any = gossamer.compile(model, x)
    expected = compiled(x)
    close(copy.deepcopy(compiled)(x), expected)
    close(pickle.loads(pickle.dumps(compiled))(x), expected)
    assert compiled(x[:0]).shape == (0, 5)
    assert compiled(x[:0].numpy()).shape == (0, 5)


def test_the_report_accounts_for_a_whole_call():
    compiled = gossamer.compile(encoder().eval(), torch.randn(1, 7, 16))
    report = compiled.report()
    assert {"attention", "layer_norm"} <= report.rest.keys()
    assert report.call_us > 0 and report.eager_us > 0
    assert "whole call" in str(report) and "between operations" in str(report)


def test_the_better_one_is_kept():
    model = nn.Sequential(nn.Linear(4, 4)).eval()
    x = torch.randn(2, 4)
    compiled: Any = gossamer.compile(model, x)
    assert compiled.report().kept == ("engine" if compiled._eager is None else "eager")
    expected = model(x)
    compiled.keep(model)
    assert compiled.report().kept == "eager"
    close(compiled(x), expected)
    close(compiled(x.numpy()), expected)
    with pytest.raises(InputError, match="has shape"):
        compiled(torch.randn(2, 5))


def test_a_sparse_sequence_of_many_tokens_is_an_image():
    torch.manual_seed(0)
    model = encoder().eval()
    gossamer.sparsify(model, 0.8, include=("*linear*",), distribution="uniform")
    x = torch.randn(2, 70, 16)
    compiled: Any = gossamer.compile(model, x, strict=True)
    assert "conv2d" in {node.operation for node in compiled.graph.nodes}
    close(called(compiled, x), called(model, x))
    close(called(compiled, x[:1]), called(model, x[:1]))


@pytest.mark.parametrize("mask", [None, "keys", "pairs", "constant", "causal"])
def test_attention_between_sparse_layers_stays_an_image(mask: str | None, tmp_path: Path):
    class Attention(nn.Module):
        """Two heads of queries that share one of keys, between linear maps."""

        def __init__(self):
            super().__init__()
            self.norm, self.last = nn.RMSNorm(16), nn.Linear(16, 16)
            self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)

        def forward(self, x, seen):
            x = self.norm(self.last(x))
            q, k, v = (f(x).unflatten(2, (-1, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
            masks = {"keys": seen[:, None, None], "pairs": seen[:, None, None] & seen[:, None, :, None]}
            added = constant if mask == "constant" else masks.get(mask or "")
            y = nn.functional.scaled_dot_product_attention(q, k, v, added, 0.0, mask == "causal", enable_gqa=True)
            return x + self.last(y.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    constant = torch.where(torch.rand(70, 70) < 0.3, -torch.inf, 0.0)
    model = Attention().eval()
    gossamer.sparsify(model, 0.8, include=("*",), distribution="uniform")
    x, seen = torch.randn(2, 70, 16), torch.rand(2, 70) < 0.8
    compiled: Any = gossamer.compile(model, (x, seen), strict=True)
    operations = {node.operation for node in compiled.graph.nodes}
    assert "attend" in operations and "attention" not in operations and "linear" not in operations
    expected = model(x, seen).nan_to_num(0.0)  # a query that sees no key
    close(compiled(x, seen).nan_to_num(0.0), expected)
    compiled.save(tmp_path / "engine")
    close(np.nan_to_num(engine.load(tmp_path / "engine")(x.numpy(), seen.numpy())), expected)
    onnx.export_onnx(compiled, tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx", providers=["CPUExecutionProvider"])
    inputs = {"x": x.numpy(), "seen": seen.numpy()}
    used = {key: inputs[key] for key in (one.name for one in session.get_inputs())}
    if mask not in ("pairs",):  # ONNX gives no number where no key is seen
        close(session.run(None, used)[0], expected)
