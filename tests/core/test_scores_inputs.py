"""Scores on models and batches as people have them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import gossamer as gs
from gossamer.scores import Score
from gossamer.scores.batches import feed

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
IDS = torch.arange(24).reshape(3, 8)
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}
SIZES = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, n_positions=8, **SIZES))


def llama() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=1, **SIZES))


def encoder() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


CRITERIA: dict[str, Score] = {
    **{kind.__name__: kind([BATCH]) for kind in (gs.SNIP, gs.Taylor, gs.Fisher, gs.Movement, gs.GraSP, gs.Wanda)},
    "batch encodings": gs.SNIP([transformers.BatchEncoding(BATCH)]),
    "model outputs": gs.SNIP([transformers.utils.ModelOutput(BATCH)]),
    "SynFlow": gs.SynFlow(BATCH, iterations=3),
    "SynFlow of ids": gs.SynFlow(IDS, iterations=3),
}


@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", CRITERIA)
def test_a_language_model_is_pruned_by_every_score_on_a_tokenizers_batches(name: str, make) -> None:
    model = make()
    masking = gs.sparsify(model, 0.5, score=CRITERIA[name], distribution="uniform")
    assert masking.sparsity == pytest.approx(0.5, abs=0.001)
    assert "magnitude" not in name and any(
        not torch.equal(mask, gs.sparsify(make(), 0.5, distribution="uniform").masks[key])
        for key, mask in masking.masks.items()
    )


def test_a_data_loader_of_pairs_gives_the_loss_both_and_the_model_the_first() -> None:
    x, y = torch.randn(12, 6), torch.randn(12, 3)
    loader, batches = DataLoader(TensorDataset(x, y), batch_size=4), list(zip(x.split(4), y.split(4), strict=True))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean()

    for of in (lambda b: gs.SNIP(b, loss), gs.Wanda):
        masks = []
        for given in (loader, batches):
            torch.manual_seed(0)
            masks.append(gs.sparsify(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), 0.5, score=of(given)).masks)
        assert all(torch.equal(masks[0][name], mask) for name, mask in masks[1].items())


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        return x, y, mask


def test_what_a_model_is_fed_of_a_batch() -> None:
    x, y, z = torch.zeros(3, 1).unbind(0)
    for batch in ((x, y, z), [x, y, z], {"x": x, "y": y, "labels": z}):
        assert feed(Two(), batch) == (x, y, None)
    assert feed(Two(), {"x": x, "y": y, "mask": z}) == (x, y, z)
    assert feed(nn.Identity(), x) is x
    with pytest.raises(gs.InputError, match="a batch is a str"):
        feed(nn.Identity(), "x")


@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 7}])
def test_wanda_on_attention_by_hand(sizes: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True, **sizes)
    batch = {"query": torch.randn(2, 3, 4), "key": torch.randn(2, 5, sizes.get("kdim", 4))}
    batch["value"] = torch.randn(2, 5, sizes.get("vdim", 4))
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight"] if sizes else ["in_proj_weight"]
    weights = {name: model.get_parameter(name) for name in (*names, "out_proj.weight")}
    found = gs.Wanda([batch])(model, weights, None)
    norms = [batch[name].flatten(0, 1).norm(dim=0) for name in ("query", "key", "value")]
    expected = [w.detach().abs() * norm for w, norm in zip([weights[n] for n in names], norms, strict=False)]
    if not sizes:
        expected = [torch.cat([w * n for w, n in zip(weights[names[0]].detach().abs().chunk(3), norms, strict=True)])]
    for name, scores in zip(names, expected, strict=True):
        assert torch.allclose(found[name], scores, atol=1e-5)
    parts = [weights[n] for n in names] if sizes else weights[names[0]].chunk(3)
    biases = model.in_proj_bias.chunk(3)
    inputs = [batch[name] for name in ("query", "key", "value")]
    q, k, v = (
        nn.functional.linear(*t).unflatten(-1, (2, 2)).transpose(1, 2) for t in zip(inputs, parts, biases, strict=True)
    )
    mixed = (q @ k.mT / 2**0.5).softmax(-1) @ v
    norm = mixed.transpose(1, 2).reshape(-1, 4).norm(dim=0)
    assert torch.allclose(found["out_proj.weight"], weights["out_proj.weight"].detach().abs() * norm, atol=1e-5)


def test_wanda_sees_every_layer_of_an_encoder_in_evaluation() -> None:
    masking = gs.sparsify(encoder().eval(), 0.5, score=gs.Wanda([torch.randn(2, 5, 16)]), distribution="uniform")
    assert len(masking.masks) == 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_wanda_of_transposed_and_conv1d_weights_by_hand() -> None:
    model = nn.Sequential(nn.ConvTranspose1d(4, 6, 1, groups=2, bias=False))
    x = torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1)
    weight = model[0].weight.detach().abs()  # (in 4, out / groups 3, 1): input k has the norm k + 1
    found = gs.Wanda([x])(model, {"0.weight": model[0].weight}, None)["0.weight"]
    assert torch.allclose(found, weight * torch.tensor([1.0, 2, 3, 4])[:, None, None])
    block = gpt2().transformer.h[0].mlp
    hidden = torch.randn(3, 16)
    found = gs.Wanda([hidden])(block, {"c_fc.weight": block.c_fc.weight}, None)["c_fc.weight"]
    assert torch.allclose(found, block.c_fc.weight.detach().abs() * hidden.norm(dim=0)[:, None], atol=1e-6)


def test_synflow_flows_through_attention_and_norms_and_conserves_a_layers_flow() -> None:
    for model, example in ((encoder(), torch.randn(2, 5, 16)), (llama(), IDS)):
        weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
        for scores in gs.SynFlow(example)(model, weights, None).values():
            assert scores.any(1).float().mean() > 0.9  # also of queries and keys
        assert gs.sparsify(model, 0.9, score=gs.SynFlow(example), distribution="global").sparsity > 0.899
    embedding = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1, bias=False))
    scores = gs.SynFlow(torch.tensor([[0, 1]]))(embedding, dict(embedding.named_parameters()), None)
    rows, head = embedding[0].weight.detach().abs().double(), embedding[1].weight.detach().abs().double()
    assert torch.allclose(scores["0.weight"], 2 * rows * head)  # two tokens; every row, seen or not
    assert torch.allclose(scores["1.weight"], 2 * rows.sum(0) * head)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.SNIP([{"input_ids": IDS}]), "a batch gave no loss; pass loss"),
        (lambda: gs.SNIP([BATCH], lambda model, batch: model(**batch).logits), r"a tensor of shape \(3, 8, 32\)"),
        (lambda: gs.SNIP(BATCH), "batches of SNIP is a dict; pass a list of batches"),
        (lambda: gs.Wanda(IDS), "batches of Wanda is a Tensor"),
        (lambda: gs.GraSP(None), "batches of GraSP is a NoneType"),
        (lambda: gs.Fisher([("text", IDS)]), "a batch holds a str"),
    ],
)
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.sparsify(gpt2(), 0.5, score=make())
