"""Whole networks at 224×224: the engine against dense runtimes on the same weights, one thread, in one process.

    pip install "gossamer[vision,bench]"
    python core/benchmarks/networks.py [--networks resnet50 resnet18 mobilenet_v2] [--batch 1] [--sparsity 0.9]

Prints the median milliseconds of PyTorch eager (default and channels-last), torch.compile, ONNX Runtime, OpenVINO where
it is installed (`pip install openvino`) and the engine, the engine's ratio to the fastest of the others, its compile
time, and its weights' memory as a share of the dense ones.
DeepSparse, which computes sparsely too, is measured after them in a process of its own, on the same weights, where
`--deepsparse` names the Python of an environment that has it (`pip install deepsparse==1.8.0`, Python 3.8 to 3.11).
Weights, masks and the statistics of batch norms are random: what is measured is time, and that all runtimes agree.
"""

import argparse
import copy
import importlib.util
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from layers import machine, medians

import gossamer as gs
from gossamer import engine, patterns
from gossamer.onnx import export_onnx

PATTERNS = {"Block(4,1)": patterns.Block(4, 1), "unstructured": patterns.Unstructured()}


def network(name: str, pattern: patterns.Pattern, sparsity: float) -> torch.nn.Module:
    """A torchvision network in evaluation mode with random weights, masks and batch norm statistics."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            state = module.state_dict()
            state["running_mean"].uniform_(-0.1, 0.1, generator=generator)
            state["running_var"].uniform_(0.5, 1.5, generator=generator)
            state["weight"].uniform_(0.5, 1.5, generator=generator)
    gs.sparsify(model, sparsity, pattern=pattern, distribution="uniform", score="random", generator=generator)
    return model


def onnx_runtime(
    model: torch.nn.Module, x: torch.Tensor | dict[str, torch.Tensor]
) -> Callable[[], torch.Tensor] | None:
    """A call of ONNX Runtime on the dense model, of one input or of several by name; None where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, x)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    own = x if isinstance(x, dict) else {session.get_inputs()[0].name: x}
    feed = {one.name: own[one.name].numpy() for one in session.get_inputs()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def openvino(model: torch.nn.Module, x: torch.Tensor | dict[str, torch.Tensor]) -> Callable[[], torch.Tensor] | None:
    """A call of OpenVINO on the dense model, in float32; None where it is not installed.

    Its decompression of sparse weights is for int8 on processors with AMX, and has no part in this.
    """
    if importlib.util.find_spec("openvino") is None or importlib.util.find_spec("onnx") is None:
        return None
    from openvino import Core  # pyright: ignore[reportMissingImports]

    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, x)
        core = Core()
        made = core.read_model(path)
        given = x if isinstance(x, dict) else {made.inputs[0].any_name: x}
        feed = {one.any_name: given[one.any_name].numpy() for one in made.inputs}
        made.reshape({name: array.shape for name, array in feed.items()})
        request = core.compile_model(
            made, "CPU", hints | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        ).create_infer_request()
    return lambda: torch.from_numpy(request.infer(feed)[0])


def runtimes(model: torch.nn.Module, x: torch.Tensor, compiled: bool) -> dict[str, Callable[[], torch.Tensor]]:
    """The dense runtimes as calls."""
    last = x.contiguous(memory_format=torch.channels_last)
    model_last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calls = {"eager": lambda: model(x), "channels last": lambda: model_last(last)}
    if compiled:
        inductor = torch.compile(copy.deepcopy(model))
        calls["torch.compile"] = lambda: inductor(x)
    peers = {"ONNX Runtime": onnx_runtime(model, x), "OpenVINO": openvino(model, x)}
    return calls | {name: call for name, call in peers.items() if call}


def deepsparse(
    python: str, export: Callable[[str], object], inputs: list[torch.Tensor], expected: torch.Tensor
) -> float:
    """DeepSparse's milliseconds on what `export` writes to a path, in the environment of that Python."""
    script = Path(__file__).with_name("deepsparse_time.py")
    with tempfile.TemporaryDirectory() as folder:
        path, source, target = (str(Path(folder) / name) for name in ("model.onnx", "x.npz", "y.npy"))
        export(path)
        np.savez(source, *(x.numpy() for x in inputs))
        repeats, threads = "30" if len(inputs[0]) == 1 else "8", str(torch.get_num_threads())
        command = [python, str(script), path, source, target, repeats, threads]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        agree(torch.from_numpy(np.load(target)), expected, "DeepSparse")
    return float(ran.stdout.split()[-1])


def agree(y: torch.Tensor, expected: torch.Tensor, runtime: str) -> None:
    """Raise AssertionError unless the two are equal but for rounding."""
    torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()), msg=runtime)


def row(name: str, pattern: str, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds by runtime, and the engine's compile seconds and its weights' share of the dense memory."""
    model = network(name, PATTERNS[pattern], options.sparsity)
    x = torch.randn(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
    calls = runtimes(model, x, not options.no_compile)
    start = time.perf_counter()
    compiled = engine.compile(model, x)
    seconds = time.perf_counter() - start
    calls["engine"] = lambda: compiled(x)
    expected = calls["eager"]()
    for runtime, call in calls.items():
        agree(call(), expected, runtime)
    times = dict(zip(calls, (1000 * t for t in medians(list(calls.values()), options.repeats)), strict=True))
    dense = sum(parameter.nbytes for parameter in model.parameters())
    memory = compiled.bytes / dense if isinstance(compiled, engine.Engine) else 1.0
    if options.deepsparse:
        times["DeepSparse"] = deepsparse(options.deepsparse, lambda path: export_onnx(model, path, x), [x], expected)
    return times | {"compile": seconds, "memory": memory}


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "resnet18", "mobilenet_v2"])
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--size", type=int, default=224, help="height and width")
    parser.add_argument("--repeats", type=int, default=4, help="turns of each runtime, of five timed calls each")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--deepsparse", metavar="PYTHON", help="measure DeepSparse too, by this Python")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(machine())
    print(f"batch {options.batch}, {options.size}×{options.size}, {options.sparsity:.0%} sparse; milliseconds")
    for name in options.networks:
        for pattern in options.patterns:
            found = row(name, pattern, options)
            seconds, memory, ours = found.pop("compile"), found.pop("memory"), found.pop("engine")
            theirs = found.pop("DeepSparse", None)
            if name == options.networks[0] and pattern == options.patterns[0]:
                heads = [*found, *(["DeepSparse"] if theirs else []), "engine", "to the fastest dense"]
                heads += [*(["to DeepSparse"] if theirs else []), "compiled in", "weights' memory"]
                print("| network | pattern | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 2))
            cells = [f"{t:.1f}" for t in (*found.values(), *([theirs] if theirs else []), ours)]
            cells += [f"{t / ours:.2f}×" for t in (min(found.values()), *([theirs] if theirs else []))]
            cells = [name, pattern, *cells, f"{seconds:.1f} s", f"{memory:.1%}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
