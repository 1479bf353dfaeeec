import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

import gossamer as gs
from gossamer.layers import Layer, Turn, find_layers, weights_of

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
TOKENS = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=16, **TOKENS)
    return transformers.GPT2LMHeadModel(config)


def test_a_tied_embedding_stays_dense_unless_it_is_named() -> None:
    model = gpt2()
    assert "dense: tied to the embedding transformer.wte" in str(gs.sparsify(copy.deepcopy(model), 0.5))
    for glob in ("lm_head", "transformer.wte", "*wte.weight"):
        masking = gs.sparsify(copy.deepcopy(model), 0.5, include=(glob,))
        assert list(masking.masks) == ["lm_head.weight"]
        assert (masking.model.transformer.wte.weight == 0).float().mean() == 0.5
    assert list(gs.sparsify(model, 0.5, include=("*wpe",)).masks) == ["transformer.wpe.weight"]


def test_projections_are_chosen_apart_by_their_own_names() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(8, 8, 2), "mha": nn.MultiheadAttention(8, 2), "cell": nn.GRUCell(8, 8)})
    hidden = ["lstm.weight_hh_l0", "lstm.weight_hh_l1", "cell.weight_hh"]
    assert list(gs.sparsify(model, 0.5, include=("*weight_hh*",)).masks) == hidden
    masking = gs.sparsify(model, 0.5, include=("mha*",), exclude=("*in_proj_weight",))
    assert list(masking.masks) == ["mha.out_proj.weight"]
    counts = gs.sparsify(model, 0.5, include=("mha*",), distribution={"*in_proj_weight": 0.75}).counts
    assert counts == {"mha.in_proj_weight": 48, "mha.out_proj.weight": 32}


def test_a_conv1d_of_transformers_and_transposed_convolutions_are_seen_with_outputs_first() -> None:
    torch.manual_seed(0)
    model = gpt2()
    masking = gs.sparsify(model, 0.5, pattern=gs.NofM(2, 4))
    weight = model.transformer.h[0].mlp.c_fc.weight  # (in 32, out 128)
    assert ((weight.T.reshape(128, 8, 4) != 0).sum(-1) == 2).all()
    layer = nn.ConvTranspose2d(8, 6, 3, groups=2)
    seen = next(iter(find_layers(nn.Sequential(layer), ("*",), (), gs.Unstructured())))
    turned = seen.turned(layer.weight)  # (out 6, in / groups 4, 3, 3)
    assert turned.shape == (6, 4, 3, 3)
    assert torch.equal(turned[4, 1], layer.weight[5, 1])  # output 4 is the second of group 1, whose inputs are 4 to 7
    assert torch.equal(seen.turned(turned), layer.weight)
    channels = gs.sparsify(nn.Sequential(layer, nn.Conv2d(6, 2, 1)), 0.5, pattern=gs.Channel(), include=("*",))
    x = torch.randn(1, 8, 4, 4)
    y = layer(x) - layer.bias[:, None, None]
    assert [bool(channel.any()) for channel in y[0]] == seen.turned(channels.masks["0.weight"]).any(3).any(2).any(
        1
    ).tolist()
    assert masking.sparsity == 0.5


def test_parametrized_weights_are_masked_underneath() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 8)))
    masking = gs.sparsify(model, 0.5, pattern=gs.FanIn())
    names = ["0.parametrizations.weight.original1", "2.parametrizations.weight.original"]
    assert list(masking.masks) == names
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    method = gs.RigL(masking.attach(optimizer), every=1, until=9)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        method.step()
        assert not model[0].weight[~masking.masks[names[0]]].any()
        assert not model[2].weight[~masking.masks[names[1]]].any()
    with pytest.raises(gs.InputError, match="row without weights, whose norm its parametrization divides by"):
        masking.update({names[0]: torch.zeros(8, 8, dtype=torch.bool)})
    assert masking.masks[names[0]].any(1).all()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_what_keeps_no_zeros_is_refused_by_name() -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(orthogonal(nn.Linear(4, 4)), nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))

    masking = gs.sparsify(model(), 0.5)
    assert list(masking.masks) == ["2.weight"]
    assert "dense: parametrized by _Orthogonal, which keeps no zeros" in str(masking)
    assert "dense: weight_norm by hooks" in str(masking)
    for include, name in ((("0", "2"), r"0\.weight"), (("1",), r"1\.weight"), (("*",), r"0\.weight")):
        with pytest.raises(gs.InputError, match=f"{name} is included, but it cannot be masked"):
            gs.sparsify(model(), 0.5, include=include)


class Experts(nn.Module):
    """What no kind of layer is known of, beside a linear layer of another library."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(4, 8, 8))
        self.scale = nn.Parameter(torch.ones(8))
        self.lin = Foreign()


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.out_channels = 8, 4
        self.weight = nn.Parameter(torch.randn(4, 8))


def test_a_parameter_of_no_known_layer_is_told_and_taken_by_its_own_name_alone() -> None:
    model = nn.ModuleDict({"experts": Experts()})
    for include in (None, ("*",), ("experts*",)):
        masking = gs.sparsify(copy.deepcopy(model), 0.5, include=include)
        assert list(masking.masks) == ["experts.lin.weight"]
        assert "of no layer known, include it by name: experts.gate_up_proj" in str(masking)
        assert "of one dimension: experts.scale" in str(masking)
    masking = gs.sparsify(model, 0.5, include=("*.gate_up_proj",), distribution="uniform")
    assert masking.counts == {"experts.gate_up_proj": 128}


def test_adapters_stay_dense() -> None:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(8, 8).requires_grad_(False)
            self.lora_A = nn.ModuleDict({"default": nn.Linear(8, 2, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 8, bias=False)})

    masking = gs.sparsify(nn.ModuleDict({"query": LoRA()}), 0.75)
    assert list(masking.masks) == ["query.base_layer.weight"]
    assert str(masking).count("dense: adapter") == 2


def test_quantized_numbers_are_no_weights_to_mask() -> None:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)
    model = nn.Sequential(layer, nn.Linear(4, 4))
    assert "dense: its numbers are torch.uint8" in str(gs.sparsify(model, 0.5))
    with pytest.raises(gs.InputError, match=r"0\.weight is included, but it cannot be masked: its numbers are"):
        gs.sparsify(model, 0.5, include=("0",))


def test_a_layer_without_groups_is_its_own_turn() -> None:
    tensor: Tensor = torch.arange(6).reshape(2, 3)
    assert Layer("", "w", tensor.shape).turned(tensor) is tensor
    assert weights_of(nn.Conv2d(2, 2, 1)) == {"weight": Turn()}
    assert weights_of(nn.ConvTranspose1d(4, 4, 1, groups=2)) == {"weight": Turn(2)}
    assert weights_of(nn.ReLU()) == {}
