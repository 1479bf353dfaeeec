"""`gossamer.engine.compile`: the networks that it takes, and what an engine answers."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.engine import Whole, choice, trace
from gossamer.engine import compile as compile_model
from gossamer.engine.graph import interpret
from gossamer.errors import InputError

zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*stays PyTorch code:UserWarning")


def randomize(model: nn.Module, density: float = 0.3) -> nn.Module:
    """Random batch norm statistics, and weights of which a part is zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.3, 1.0, generator=generator)
                module.weight.uniform_(0.7, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
        for parameter in model.parameters():
            if parameter.ndim in (2, 4):
                nn.init.kaiming_uniform_(parameter, generator=generator)
                parameter.mul_(torch.rand(parameter.shape, generator=generator) < density).div_(density**0.5)
            elif parameter.ndim == 3:  # ConvNeXt's layer scale, of one millionth
                parameter.fill_(0.5)
    return model.eval()


def agrees(model: nn.Module, engine, *inputs: torch.Tensor) -> None:
    """The engine's output is the model's, which is neither constant nor beyond float32."""
    with torch.no_grad():
        expected = model(*inputs)
    assert expected.isfinite().all() and expected.std() > 0
    torch.testing.assert_close(engine(*inputs), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class Bottleneck(nn.Sequential):
    """MobileNet V1: depthwise and pointwise convolutions."""

    def __init__(self):
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()]
        for inputs, outputs, stride in ((8, 16, 1), (16, 32, 2)):
            layers += [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs)]
            layers += [nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def efficientnet() -> nn.Module:
    blocks = [
        zoo.efficientnet.MBConvConfig(1, 3, 1, 8, 8, 1, 1, 1),
        zoo.efficientnet.MBConvConfig(4, 5, 2, 8, 16, 2, 1, 1),
    ]
    return zoo.EfficientNet(blocks, dropout=0.2, last_channel=32)


def mobilenet_v3() -> nn.Module:
    block = zoo.mobilenetv3.InvertedResidualConfig
    return zoo.MobileNetV3([block(16, 3, 32, 16, True, "RE", 2, 1, 1), block(16, 5, 48, 16, True, "HS", 1, 1, 1)], 32)


def vgg() -> nn.Module:
    model = zoo.VGG(zoo.vgg.make_layers([8, "M", 16, "M"], batch_norm=True), init_weights=False)
    model.classifier[0], model.classifier[3], model.classifier[6] = (
        nn.Linear(784, 32),
        nn.Linear(32, 32),
        nn.Linear(32, 10),
    )
    return model


def convnext() -> nn.Module:
    return zoo.ConvNeXt([zoo.convnext.CNBlockConfig(16, 32, 1), zoo.convnext.CNBlockConfig(32, None, 1)])


FAMILIES = {
    "resnet": lambda: zoo.ResNet(zoo.resnet.Bottleneck, [1, 1, 1, 1], width_per_group=16),
    "resnext": lambda: zoo.ResNet(zoo.resnet.Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=4),
    "vgg": vgg,
    "mobilenet_v1": Bottleneck,
    "mobilenet_v2": lambda: zoo.mobilenet_v2(width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 16, 2, 2]]),
    "mobilenet_v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "inception": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), zoo.inception.InceptionA(8, 4)),
    "densenet": lambda: zoo.DenseNet(8, (2, 3, 2), num_init_features=16),
    "convnext": convnext,
    "shufflenet": lambda: zoo.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 64]),
    "squeezenet": lambda: zoo.squeezenet1_1(num_classes=10),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family):
    model = randomize(FAMILIES[family]())
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    engine = compile_model(model, x[:1])
    assert not isinstance(engine, Whole) and not any(row.kind == "torch" for row in engine.report())
    for batch in (1, 3):
        agrees(model, engine, x[:batch])
    agrees(model, engine, x[1:2])  # buffers hold nothing of the call before


@pytest.fixture(scope="module")
def small():
    """A small residual network and its engine."""
    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten()))
    return model, compile_model(model, torch.zeros(1, 3, 6, 6))


def test_arrays_give_arrays_and_tensors_tensors(small):
    _, engine = small
    x = torch.randn(2, 3, 6, 6)
    y = engine(x.numpy())
    assert isinstance(y, np.ndarray) and isinstance(engine(x), torch.Tensor)
    np.testing.assert_array_equal(engine(x).numpy(), y)


def test_results_are_the_callers_own(small):
    _, engine = small
    first = engine(torch.ones(1, 3, 6, 6))
    kept = first.clone()
    engine(torch.zeros(1, 3, 6, 6))
    torch.testing.assert_close(first, kept, rtol=0, atol=0)


def test_layouts_of_the_input_do_not_matter(small):
    model, engine = small
    x = torch.randn(2, 3, 6, 6)
    agrees(model, engine, x.contiguous(memory_format=torch.channels_last))
    agrees(model, engine, x.flip(3))


def test_many_batch_sizes_are_planned_anew(small):
    model, engine = small
    for batch in (1, 2, 3, 4, 5, 6, 1):
        agrees(model, engine, torch.randn(batch, 3, 6, 6))
    assert len(engine._prepared) == 4


def test_calls_from_several_threads_do_not_mix(small):
    _, engine = small
    inputs = [torch.full((1, 3, 6, 6), float(i)) for i in range(8)]
    expected = [engine(x) for x in inputs]
    wrong = []

    def call(i: int) -> None:
        for _ in range(50):
            if not torch.equal(engine(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(small, threads):
    model, engine = small
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        agrees(model, engine, torch.randn(4, 3, 6, 6))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "x,message",
    [
        (torch.zeros(1, 3, 6, 7), "shape"),
        (torch.zeros(3, 6, 6), "shape"),
        (torch.zeros(1, 3, 6, 6).double(), "float32"),
    ],
)
def test_what_is_no_input_is_refused(small, x, message):
    with pytest.raises(InputError, match=message):
        small[1](x)


def test_the_number_of_inputs_is_checked(small):
    with pytest.raises(InputError, match="1 inputs, not 2"):
        small[1](torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 6, 6))


@pytest.mark.parametrize("example", [None, (), "image", [[1.0, 2.0]]])
def test_what_is_no_example_is_refused(example):
    with pytest.raises(InputError, match="give what the model takes"):
        compile_model(nn.Linear(2, 2).eval(), example)


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module"):
        compile_model(torch.relu, torch.zeros(1, 2))  # pyright: ignore[reportArgumentType]


def test_a_model_in_training_is_refused():
    with pytest.raises(InputError, match=r"model\.eval\(\)"):
        compile_model(nn.Linear(2, 2), torch.zeros(1, 2))


def test_batch_norm_activation_and_residual_are_folded():
    model = randomize(zoo.ResNet(zoo.resnet.BasicBlock, [1, 1, 1, 1]))
    engine = compile_model(model, torch.zeros(1, 3, 32, 32))
    operations = [node.operation for node in engine.graph.nodes]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert operations.count("conv2d") == convolutions == 12
    assert sorted(set(operations)) == ["conv2d", "linear", "max_pool2d", "mean", "reshape"]


def test_concatenations_and_channel_slices_copy_nothing():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = torch.cat([self.a(x), self.b(x)], 1)
            one, two = y.chunk(2, 1)
            return torch.cat([y, self.c(one) + two], 1)

    model = randomize(Parallel(), 0.9)
    engine = compile_model(model, torch.zeros(1, 3, 8, 8))
    agrees(model, engine, torch.randn(2, 3, 8, 8))
    program = next(iter(engine._prepared.values()))
    assert [node.operation for node in program.nodes] == ["conv2d"] * 3


def test_the_report_says_what_became_of_each_layer(monkeypatch):
    model = randomize(nn.Sequential(nn.Conv2d(16, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)), 1.0)
    with torch.no_grad():
        model[2].weight.mul_(torch.rand(16, 64, 3, 3).repeat_interleave(4, 0) < 0.02)
    report = compile_model(model, torch.zeros(1, 16, 30, 30)).report()
    dense, sparse = report
    assert (dense.name, dense.kind, dense.density) == ("0", "dense", 1.0) and dense.chosen_us == dense.dense_us
    assert (sparse.name, sparse.kind) == ("2", "sparse") and sparse.chosen_us < sparse.dense_us
    assert sparse.density == pytest.approx(float((model[2].weight != 0).float().mean()))
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["layer", "kind", "pattern"] and lines[3].startswith("all layers")
    assert [line.split()[0] for line in lines[4:]] == ["between", "whole"]


def test_a_layer_is_swapped_only_where_it_wins(monkeypatch):
    times = iter([1.0, 2.0, 3.0])  # the dense kernel, torch, the sparse kernel
    monkeypatch.setattr(choice, "measure", lambda step: next(times))
    (row,) = compile_model(randomize(nn.Sequential(nn.Linear(8, 8)), 0.1), torch.zeros(1, 8)).report()
    assert (row.kind, row.dense_us, row.chosen_us) == ("dense", 1.0, 1.0)


def test_masks_choose_what_is_kept():
    model = nn.Sequential(nn.Linear(6, 4)).eval()
    mask = torch.rand(4, 6) < 0.5
    x = torch.randn(2, 6)
    before = model[0].weight.clone()
    engine = compile_model(model, x, masks={"0.weight": mask})
    torch.testing.assert_close(engine(x), nn.functional.linear(x, before * mask, model[0].bias))
    assert torch.equal(model[0].weight, before)
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).eval()
    tied[1].weight = tied[0].weight
    square = torch.rand(6, 6) < 0.5
    torch.testing.assert_close(
        compile_model(tied, x, masks={"1.weight": square})(x), compile_model(tied, x, masks={"0.weight": square})(x)
    )
    with pytest.raises(InputError, match="fits no parameter"):
        compile_model(model, x, masks={"0.weight": mask.t()})


def test_layers_with_sparse_storage_are_taken():
    from gossamer.nn import SparseConv2d, SparseLinear

    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)))
    model[0], model[3] = SparseConv2d.from_dense(model[0]), SparseLinear.from_dense(model[3])
    engine = compile_model(model, torch.zeros(1, 3, 6, 6))
    assert [row.name for row in engine.report()] == ["0", "3"]
    agrees(model, engine, torch.randn(3, 3, 6, 6))
    layer = SparseLinear.from_dense(randomize(nn.Linear(8, 4))).eval()
    agrees(layer, compile_model(layer, torch.zeros(1, 8)), torch.randn(3, 8))


class Changes(nn.Module):
    """Operations in place, on values that others read before and after."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        y.relu_()
        w = y.add_(z)
        return w * 2 + y


class Views(Changes):
    """A change in place that a view of the tensor sees."""

    def forward(self, x):
        y = self.a(x)
        z = y[:, :2]
        y.relu_()
        return self.b(y)[:, :2] - z


class Twice(Changes):
    """One layer used twice, behind different batch norms."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.b = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.first(self.a(x)) - self.b(self.second(self.a(-x)).relu())


class Computed(Changes):
    """A weight that is computed from others."""

    def forward(self, x):
        return nn.functional.conv2d(x, self.a.weight * (self.a.weight > 0), self.a.bias)


class Sound(nn.Module):
    """A convolution over time."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 6, 5, 2, 2), nn.Conv1d(6, 4, 3, padding="same", groups=2)

    def forward(self, x):
        return self.b(nn.functional.gelu(self.a(x.flatten(2)))).mean(-1)


class Reflected(Changes):
    """Constants on the left of an operator, several to one node."""

    def forward(self, x):
        return 1 - self.a(x) / 2


class Doubled(nn.Module):
    """A weight and one computed from it, in a layer of the operation's name."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(40, 40)

    def forward(self, x):
        x = x.flatten(1)
        return nn.functional.linear(x, self.linear.weight * 2) + self.linear(x)


class Turned(Doubled):
    """A weight and its transpose."""

    def forward(self, x):
        return torch.addmm(self.linear.bias, x.flatten(1), self.linear.weight) + self.linear(x.flatten(1))


class Shared(nn.Module):
    """A layer of the operation's name before and behind a batch norm that is folded into it."""

    def __init__(self):
        super().__init__()
        self.conv2d, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.conv2d(self.norm(self.conv2d(x)))


class Gapped(nn.Module):
    """Pooling windows that reach over the edge."""

    def __init__(self):
        super().__init__()
        self.a, self.pool = nn.Conv2d(2, 4, 1), nn.MaxPool2d(3, 1, 1, dilation=2)

    def forward(self, x):
        return self.pool(self.a(x))


@pytest.mark.parametrize("kind", [Changes, Views, Twice, Computed, Sound, Reflected, Doubled, Turned, Shared, Gapped])
def test_meaning_is_kept(kind):
    model = randomize(kind(), 0.8)
    engine = compile_model(model, torch.zeros(1, 2, 4, 5))
    assert not isinstance(engine, Whole)
    agrees(model, engine, torch.randn(3, 2, 4, 5))


def test_parametrized_masks_are_folded():
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    prune.random_unstructured(model[0], "weight", 0.9)
    engine = compile_model(model, torch.zeros(1, 8))
    agrees(model, engine, torch.randn(3, 8))
    assert engine.report()[0].density == pytest.approx(0.1, abs=0.02)


def test_calls_outside_the_list_stay_torch():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(16, 3)

        def forward(self, x):
            return self.b(torch.sort(torch.cumsum(self.a(x), 3), 1)[0].amax(1).flatten(1))

    model = randomize(Odd(), 0.9)
    engine = compile_model(model, torch.zeros(1, 2, 4, 4))
    kinds = [row.kind for row in engine.report()]
    assert kinds.count("torch") == 3 and len(kinds) == 5
    assert all(row.dense_us == row.chosen_us > 0 for row in engine.report() if row.kind == "torch")
    for batch in (1, 3):
        agrees(model, engine, torch.randn(batch, 2, 4, 4))
    with pytest.raises(InputError, match="stays PyTorch code"):
        engine.save("never-written")


def test_sizes_that_follow_the_batch_reach_torch_code():
    class Expanded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.token = nn.Linear(4, 4), nn.Parameter(torch.randn(1, 1, 4))

        def forward(self, x):
            return torch.cat([self.token.expand(x.shape[0], -1, -1), self.a(x)], 1)

    model = randomize(Expanded(), 0.9)
    engine = compile_model(model, torch.zeros(1, 3, 4))
    for batch in (1, 5):
        agrees(model, engine, torch.randn(batch, 3, 4))


def test_a_model_that_cannot_be_traced_stays_whole():
    class Branch(nn.Module):
        def forward(self, x):
            return x * 2 if float(x.sum()) > 0 else x - 1

    engine = compile_model(Branch().eval(), torch.ones(1, 3))
    assert isinstance(engine, Whole) and [row.kind for row in engine.report()] == ["torch"]
    assert "torch.export" in engine.reason
    torch.testing.assert_close(engine(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    torch.testing.assert_close(engine(-torch.ones(2, 3)), torch.full((2, 3), -2.0))
    with pytest.raises(InputError, match="stays PyTorch code"):
        engine.save("never-written")


def test_inputs_that_never_meet():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x, y):
            return self.a(x), torch.sin(self.a(y))

    model = randomize(Apart(), 0.9)
    engine = compile_model(model, (torch.zeros(1, 3), torch.zeros(1, 3)))
    x, y = torch.randn(2, 5, 3).unbind()
    with torch.no_grad():
        torch.testing.assert_close(engine(x, y), model(x, y))


class Written(nn.Linear):
    def forward(self, x):
        return super().forward(x.add_(1))


class Wide(nn.Linear):
    def forward(self, x):
        return super().forward(x).softmax(1, dtype=torch.float64)


@pytest.mark.parametrize("kind", [Written, Wide])
def test_what_the_graph_cannot_say_stays_with_torch(kind):
    model = randomize(kind(3, 4), 0.9)
    engine = compile_model(model, torch.zeros(1, 3))
    assert isinstance(engine, Whole)
    with torch.no_grad():
        torch.testing.assert_close(engine(torch.ones(2, 3)), model(torch.ones(2, 3)))


def test_several_inputs_and_a_structure_of_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

        def forward(self, x, y):
            z = self.a(x) + self.b(y)
            return {"sum": z, "parts": (self.a(x).relu(), [z])}

    model = randomize(Two(), 0.9)
    x, y = torch.randn(2, 3), torch.randn(2, 2)
    engine = compile_model(model, (x, y))
    with torch.no_grad():
        torch.testing.assert_close(engine(x, y), model(x, y))


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
from torch import nn
from gossamer import engine, kernels
from gossamer.nn import SparseConv2d, SparseLinear
assert not kernels.available()
layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, groups=8)]
model, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 4)).eval(), torch.randn(3, 3, 14, 14)
compiled = engine.compile(model, x[:1])
compiled.save(sys.argv[1])
for each in (compiled, engine.load(sys.argv[1])):
    torch.testing.assert_close(each(x), model(x).detach(), rtol=1e-4, atol=1e-5)
for dense, sparse in ((model[0], SparseConv2d), (nn.Linear(14, 5), SparseLinear)):
    layer = sparse.from_dense(dense, torch.rand(dense.weight.shape) < 0.5)
    layer(x).sum().backward()
    torch.testing.assert_close(layer(x), layer.to_dense()(x))
    assert layer.values.grad.abs().sum() > 0
"""


def test_everything_runs_without_numba(tmp_path):
    command = [sys.executable, "-c", WITHOUT_NUMBA, str(tmp_path / "net.gossamer")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_weights_take_memory_in_proportion_to_their_non_zeros():
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(torch.rand(16, 64, 3, 3).repeat_interleave(4, 0) < 0.1)
    engine = compile_model(model, torch.zeros(1, 64, 28, 28))
    assert [row.kind for row in engine.report()] == ["sparse", "sparse"]
    dense = sum(parameter.nbytes for parameter in model.parameters())
    assert 0.1 * dense < engine.bytes < 0.16 * dense


@pytest.mark.parametrize("zeros,answer", [([0, 1], True), ([1, 3], True), ([2], False)])
def test_two_of_four_is_recognized(zeros, answer):
    from gossamer.engine.gpu import _is_two_of_four

    weight = torch.ones(32, 64, dtype=torch.float16)
    weight.view(-1, 4)[:, zeros] = 0
    assert _is_two_of_four(weight) is answer
    assert not _is_two_of_four(weight.float()) and not _is_two_of_four(weight[:31])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_of_four_on_a_gpu():
    model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)).half().cuda().eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.view(-1, 4)[:, :2] = 0
    x = torch.randn(128, 1024, device="cuda", dtype=torch.float16)
    engine = compile_model(model, x)
    assert [row.name for row in engine.report()] == ["0", "2"]
    with torch.no_grad():
        torch.testing.assert_close(engine(x), model(x), rtol=1e-2, atol=1e-2)


def test_the_reference_runs_what_stays_pytorch():
    class Cumulative(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, 1) * 2

    x = torch.arange(6.0).reshape(2, 3)
    graph = trace(Cumulative().eval(), x)
    assert [node.operation for node in graph.nodes] == ["torch", "scale_shift"]
    np.testing.assert_array_equal(interpret(graph, x.numpy()), [[0, 2, 6], [6, 14, 24]])


def test_an_example_that_the_model_does_not_take_is_refused_in_a_line(capfd) -> None:
    model = nn.Sequential(nn.Linear(8, 4)).eval()
    for example in (torch.ones(2, 9), torch.ones(2, 8).long(), {"x": torch.ones(2, 8)}):
        with pytest.raises(InputError, match="the model fails on a batch") as refused:
            compile_model(model, example)
        assert len(str(refused.value)) < 300
    assert capfd.readouterr() == ("", "")


class Doubtful(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_captured_is_named_by_its_line_and_nothing_else_is_printed(capfd) -> None:
    with pytest.raises(InputError, match=r"at test_engine.py:\d+: return x if x.sum\(\) > 0 else -x\)"):
        compile_model(Doubtful().eval(), torch.ones(3, 8), strict=True)
    assert capfd.readouterr() == ("", "")
