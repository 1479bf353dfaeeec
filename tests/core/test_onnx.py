"""Exported files against ONNX Runtime."""

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.engine import compile as compile_model
from gossamer.errors import InputError
from gossamer.onnx import export_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")


class Everything(nn.Module):
    """One of each kind of operation that the networks below lack."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.Conv2d(4, 8, 1)
        self.norm, self.last, self.linear = nn.BatchNorm2d(16), nn.LayerNorm(16), nn.Linear(16, 6)
        self.first = nn.LayerNorm([4, 4])

    def forward(self, x):
        y = nn.functional.leaky_relu(self.a(x), 0.2)
        one, two = y.chunk(2, 1)
        y = torch.cat([self.b(one * 2 - two / 3).sigmoid(), nn.functional.hardswish(y)], 1)
        y = nn.functional.relu6(self.norm(nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)))
        y = nn.functional.adaptive_avg_pool2d(nn.functional.pad(y, (1, 2), value=0.5), (4, 4))
        y = y * nn.functional.hardsigmoid(y.mean((2, 3), keepdim=True)) + nn.functional.gelu(y, approximate="tanh")
        y = self.first(y).permute(0, 2, 3, 1)
        y = nn.functional.silu(self.linear(nn.functional.gelu(self.last(y)))).flatten(1, 2)
        return y.softmax(-1), y[:, 1]


def prepared(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter).mul_(torch.rand_like(parameter) < 0.2)
    return model.eval()


def outputs(path, x: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})


MODELS = {
    "everything": Everything,
    "resnet": lambda: zoo.ResNet(zoo.resnet.BasicBlock, [1, 1, 1, 1]),
    "shufflenet": lambda: zoo.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 64]),
    "convnext": lambda: zoo.ConvNeXt([zoo.convnext.CNBlockConfig(16, None, 2)]),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_agrees(name, sparse, tmp_path):
    model = prepared(MODELS[name]())
    size = export_onnx(model, tmp_path / "model.onnx", torch.zeros(1, 3, 32, 32), sparse=sparse)
    assert size == (tmp_path / "model.onnx").stat().st_size
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for y, wanted in zip(outputs(tmp_path / "model.onnx", x), expected, strict=True):
        assert wanted.std() > 0
        np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_sparse_initializers_make_a_smaller_file(tmp_path):
    model = nn.Sequential(nn.Linear(256, 256)).eval()
    with torch.no_grad():
        model[0].weight.mul_(torch.rand(256, 256) < 0.1)
    x = torch.randn(2, 256)
    dense = export_onnx(model, tmp_path / "dense.onnx", x)
    assert export_onnx(model, tmp_path / "sparse.onnx", x, sparse=True) < 0.35 * dense
    (tensor,) = onnx.load(tmp_path / "sparse.onnx").graph.sparse_initializer
    assert len(tensor.indices.dims) == 1 and tensor.indices.dims[0] == int((model[0].weight != 0).sum())


def test_an_engine_is_exported_without_an_example(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    export_onnx(compile_model(model, x), tmp_path / "model.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(outputs(tmp_path / "model.onnx", x)[0], model(x), rtol=1e-5, atol=1e-6)


class OpenLength(nn.Module):
    """A sequence's ends repeated, a convolution over it, its steps as rows and as words of four."""

    def __init__(self):
        super().__init__()
        self.over_time, self.linear = nn.Conv1d(6, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        x = torch.cat([x[:, :1], x, x[:, -2:], x[:, -1:]], 1)
        y = self.over_time(x.transpose(1, 2)).relu().transpose(1, 2)[:, 1:]
        return self.linear(y.unflatten(2, (2, 4)).flatten(2)), y[:, -1]


def test_open_sizes_stay_open(tmp_path):
    model = prepared(OpenLength())
    frames = {"x": {1: torch.export.Dim("frames", min=4, max=500)}}
    export_onnx(model, tmp_path / "model.onnx", torch.randn(1, 20, 6), dynamic=frames)
    (told,) = onnx.load(tmp_path / "model.onnx").graph.input
    assert [d.dim_param or d.dim_value for d in told.type.tensor_type.shape.dim] == ["batch", "x_1", 6]
    for batch, length in ((1, 4), (1, 20), (3, 41), (2, 77)):
        x = torch.randn(batch, length, 6)
        for y, wanted in zip(outputs(tmp_path / "model.onnx", x), model(x), strict=True):
            np.testing.assert_allclose(y, wanted.detach(), rtol=1e-4, atol=1e-5)


def test_what_depends_on_an_open_size_is_named(tmp_path):
    rolled = nn.Sequential(nn.Linear(6, 6), Rolled()).eval()
    with pytest.raises(InputError, match="roll depends on a size that dynamic opens"):
        export_onnx(rolled, tmp_path / "m.onnx", torch.randn(1, 20, 6), dynamic={"input": {1: torch.export.Dim.AUTO}})
    engine = compile_model(nn.Linear(4, 3).eval(), torch.randn(2, 4))
    with pytest.raises(InputError, match="an engine is given"):
        export_onnx(engine, tmp_path / "m.onnx", dynamic={})
    assert not list(tmp_path.iterdir())


class Rolled(nn.Module):
    def forward(self, x):
        return x.roll(1, 1)


def test_what_cannot_be_exported_is_named(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, 1) + float(torch.ones(1).sum())

    with pytest.raises(InputError, match="cumsum"):
        export_onnx(Odd().eval(), tmp_path / "model.onnx", torch.zeros(1, 3))
    with pytest.raises(InputError, match="example"):
        export_onnx(nn.Linear(2, 2).eval(), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="PyTorch code"):
        export_onnx(nn.Linear(2, 2).double().eval(), tmp_path / "model.onnx", torch.zeros(1, 2).double())
    assert not list(tmp_path.iterdir())
