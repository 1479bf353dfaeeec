"""Models that nobody here wrote: each reaches its sparsity, says what it left dense, trains, is kept and copied."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer.measure import measure
from gossamer.scores.batches import feed

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TOKENS = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IDS = torch.arange(3, 35).reshape(2, 16)
TEXT = {"input_ids": IDS}
Made = tuple[nn.Module, Any]


def gpt2() -> Made:
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=16, **TOKENS)
    return transformers.GPT2LMHeadModel(config), TEXT


def bert() -> Made:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, **TOKENS)), TEXT


def llama() -> Made:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **TOKENS)), TEXT


def mixtral() -> Made:
    config = transformers.MixtralConfig(**SMALL, **TOKENS, num_key_value_heads=1, num_local_experts=4)
    return transformers.MixtralForCausalLM(config), TEXT


def gpt_oss() -> Made:
    config = transformers.GptOssConfig(**SMALL, **TOKENS, head_dim=16, num_key_value_heads=1, num_local_experts=4)
    return transformers.GptOssForCausalLM(config), TEXT


def t5() -> Made:
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, vocab_size=96))
    return model, {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}


def bart() -> Made:
    sizes = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in (("layers", 1), ("ffn_dim", 64))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32}
    config = transformers.BartConfig(d_model=32, **sizes, **heads, decoder_start_token_id=2, **TOKENS)
    return transformers.BartForConditionalGeneration(config), {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}


def mamba() -> Made:
    config = transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **TOKENS)
    return transformers.MambaForCausalLM(config), TEXT


def mamba2() -> Made:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1}
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**sizes, chunk_size=8, **TOKENS)), TEXT


def vit() -> Made:
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def clip() -> Made:
    text = transformers.CLIPTextConfig(**SMALL, **TOKENS, max_position_embeddings=16)
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=32, patch_size=8)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return transformers.CLIPModel(config), {**TEXT, "pixel_values": torch.randn(2, 3, 32, 32)}


def wav2vec2() -> Made:
    sizes = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 16}
    config = transformers.Wav2Vec2Config(**SMALL, **sizes, num_conv_pos_embedding_groups=4, vocab_size=32)
    return transformers.Wav2Vec2ForCTC(config), {"input_values": torch.randn(2, 400)}


def whisper() -> Made:
    sizes = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in (("layers", 1), ("ffn_dim", 64))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": 16}
    config = transformers.WhisperConfig(
        d_model=32, num_mel_bins=8, max_target_positions=16, decoder_start_token_id=1, **sizes, **heads, **TOKENS
    )
    model = transformers.WhisperForConditionalGeneration(config)
    return model, {"input_features": torch.randn(2, 8, 32), "decoder_input_ids": IDS[:, :5]}


def convnext() -> Made:
    model = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(16, 16, 32, 32), num_classes=10)
    return model, torch.randn(2, 3, 32, 32)


def resnet26d() -> Made:
    return timm.create_model("resnet26d", num_classes=10, channels=(16, 32, 64, 128), stem_width=8), torch.randn(
        2, 3, 32, 32
    )


def efficientvit() -> Made:
    return timm.create_model("efficientvit_m0", num_classes=10, img_size=64), torch.randn(2, 3, 64, 64)


def ssdlite() -> Made:
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3, width_mult=0.25)
    return model.eval(), ([torch.rand(3, 64, 64)],)


def transformer() -> Made:
    x = torch.randn(2, 5, 32)
    return nn.Transformer(32, 2, 1, 1, 64, batch_first=True), (x, x)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.head = (
            nn.Embedding(96, 32),
            nn.LSTM(32, 32, 2, bidirectional=True),
            nn.Linear(64, 96),
        )

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0])


def lstm() -> Made:
    return Tagger(), IDS


class Separable(nn.Sequential):
    """A convolution, its norm and SiLU, as YOLO's heads and backbones repeat them."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class Yolo(nn.Module):
    """A backbone of split and joined bottlenecks, a pyramid of two scales, and a head a scale."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.down = Separable(3, width, 3, 2), Separable(width, 2 * width, 3, 2)
        self.split = Separable(2 * width, 2 * width)
        self.bottleneck = nn.Sequential(Separable(width, width, 3), Separable(width, width, 3))
        self.joined, self.deep = Separable(3 * width, 2 * width), Separable(2 * width, 4 * width, 3, 2)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.heads = nn.ModuleList([nn.Conv2d(4 * width, 15, 1), nn.Conv2d(4 * width, 15, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.split(self.down(self.stem(x)))
        one, other = x.chunk(2, 1)
        shallow = self.joined(torch.cat([one, other, other + self.bottleneck(other)], 1))
        deep = self.deep(shallow)
        maps = (torch.cat([shallow, self.up(deep)], 1), deep)
        return [head(x).flatten(2) for head, x in zip(self.heads, maps, strict=True)]


def yolo() -> Made:
    return Yolo(), torch.randn(2, 3, 32, 32)


class Unet(nn.Module):
    """Diffusers' denoiser as it is called: an image, the step, and a text's states."""

    def __init__(self) -> None:
        super().__init__()
        diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
        down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
        sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2}
        self.net = diffusers.UNet2DConditionModel(
            sample_size=8, down_block_types=down, up_block_types=up, cross_attention_dim=16, **sizes
        )

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.net(x, 3, text).sample


def unet() -> Made:
    return Unet(), (torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        geometric = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is not installed")
        self.gcn, self.gat = geometric.GCNConv(16, 32), geometric.GATConv(32, 16, heads=2)
        self.sage, self.head = geometric.SAGEConv(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.head(self.sage(self.gat(self.gcn(x, edges).relu(), edges).relu(), edges).relu())


def graph() -> Made:
    return Graph(), (torch.randn(12, 16), torch.randint(12, (2, 40)))


# share of each model's parameters that default masking covers: the rest is embeddings, norms, first and depthwise convs
COVERED: dict[Callable[[], Made], float] = {gpt2: 0.84, bert: 0.45, llama: 0.87, t5: 0.91, mamba: 0.74, vit: 0.68}
COVERED |= {convnext: 0.80, resnet26d: 0.99, efficientvit: 0.96, transformer: 0.94, lstm: 0.76, wav2vec2: 0.90}
COVERED |= {mixtral: 0.93, gpt_oss: 0.91, bart: 0.75, mamba2: 0.7, clip: 0.7, whisper: 0.8, ssdlite: 0.88, yolo: 0.9}
COVERED |= {unet: 0.9, graph: 0.9}
# what torch.compile is tried on: one of each kind that it takes in a few seconds
COMPILED = {lstm, yolo}


def numbers(output: Any) -> list[Tensor]:
    """The tensors of real numbers in what a model gives."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    parts = output.values() if hasattr(output, "values") else output if isinstance(output, list | tuple) else ()
    return [tensor for part in parts for tensor in numbers(part)]


def trained(model: nn.Module, batch: Any, masking: gs.Masking) -> None:
    """Three steps of an optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    masking.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(F.mse_loss(y, torch.ones_like(y)) for y in numbers(feed(model, batch)) if y.requires_grad)
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("make", COVERED, ids=lambda make: make.__name__)
def test_every_family_is_sparse_as_asked_names_what_is_dense_trains_and_is_kept(make, tmp_path) -> None:
    torch.manual_seed(0)
    model, batch = make()
    counted = make not in (graph, ssdlite)  # their tensors are of nodes, and of single images, not of batches
    dense = measure(model, batch).flops if counted else 0
    masking = gs.sparsify(model, 0.9)
    assert masking.sparsity == pytest.approx(0.9, abs=0.001)

    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    zero = sum(int((~mask).sum()) for mask in masking.values()) / sum(p.numel() for p in weights.values())
    assert masking.model_sparsity == pytest.approx(zero)
    assert masking.model_sparsity >= 0.9 * COVERED[make]
    table = str(masking)
    assert f"{masking.model_sparsity:.2%} of the whole model is zero" in table
    rows = {layer.parameter: layer for layer in masking.layers}
    for name in weights.keys() - masking.keys():
        told = rows[name].kept_dense if name in rows else name.rpartition(".")[2]
        assert told and told in table.replace("\n", ""), name

    if make is not ssdlite:  # its losses want boxes
        trained(model, batch, masking)
    for name, mask in masking.items():
        assert not model.get_parameter(name)[~mask].any(), name
        assert make is ssdlite or not torch.equal(model.get_parameter(name), weights[name]), name

    model.eval()
    gs.save(model, tmp_path / "model", masks=masking)
    other = make()[0].eval()
    masks = gs.load(tmp_path / "model", other)
    assert masks.keys() == masking.keys() and all(torch.equal(masks[name], masking[name]) for name in masks)
    twin = copy.deepcopy(model)
    assert all(torch.equal(masking.to(twin)[name], mask) for name, mask in masking.items())
    with torch.no_grad():
        expected = numbers(feed(model, batch))
        for same in (other, twin):
            found = numbers(feed(same, batch))
            assert expected and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        if make in COMPILED:
            found = numbers(feed(torch.compile(model, backend="aot_eager"), batch))
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))

    if counted:
        cost = measure(model, batch, masking)
        assert 0 < cost.flops < 0.75 * dense and not cost.left_out
        assert cost.parameters - cost.nonzeros >= sum(int((~mask).sum()) for mask in masking.values())
