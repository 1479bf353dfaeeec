"""Time trained networks on one core: PyTorch, torch.compile and ONNX Runtime on every weight, the engine on the living.

gossamer vision latency model.gossamer … --batches 1 64
"""

import copy
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from tyro.conf import Positional, arg

import gossamer as gs
from gossamer.measure import latency
from gossamer.threads import using_threads
from gossamer_vision.classifier import Classifier, load

Call = Callable[[], Tensor]
WARM_UP = 3
CALLS = 5


@dataclass(frozen=True)
class Options:
    """What to time."""

    models: Positional[Annotated[tuple[Path, ...], arg(metavar="MODEL …")]]
    """files that training wrote with --save"""
    batches: tuple[int, ...] = (1, 64)
    """images at a time"""
    rounds: int = 40
    """turns of each runtime, of five timed calls each"""
    inductor: bool = True
    """time torch.compile too, which takes a minute to start"""


def dense_runtimes(classifier: Classifier, images: Tensor, inductor: bool) -> dict[str, Call]:
    """The network on `images` [n, channels, h, w] by every runtime that is installed and takes zeros as any weight."""
    network = classifier.network
    last = images.contiguous(memory_format=torch.channels_last)
    network_last = copy.deepcopy(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    calls: dict[str, Call] = {"PyTorch": lambda: network(images), "channels last": lambda: network_last(last)}
    if inductor:
        compiled = torch.compile(copy.deepcopy(network_last), dynamic=False)
        with suppress(TorchDynamoException), torch.inference_mode():  # where there is no C++ compiler
            compiled(last)
            calls["torch.compile"] = lambda: compiled(last)
    with suppress(ModuleNotFoundError):
        calls["ONNX Runtime"] = onnx_runtime(classifier, images)
    return calls


def onnx_runtime(classifier: Classifier, images: Tensor) -> Call:
    """The network in ONNX Runtime, on as many threads as torch; raises `ModuleNotFoundError` where it is missing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        gs.export_onnx(classifier.network, path, torch.zeros(1, *classifier.architecture["shape"]))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


@torch.inference_mode()
def medians(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """The median milliseconds of each call, in turns, so that what slows the machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(WARM_UP if turn == 0 else 1):
                call()
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                if turn:
                    times[name].append(time.perf_counter() - start)
    return {name: 1000 * median(own) for name, own in times.items()}


def timed(classifier: Classifier, batch: int, rounds: int, inductor: bool = True) -> dict[str, float]:
    """Milliseconds of a batch by each dense runtime, and compiled; raises `RuntimeError` where their outputs differ."""
    images = torch.randn(batch, *classifier.architecture["shape"], generator=torch.Generator().manual_seed(0))
    calls = dense_runtimes(classifier, images, inductor)
    engine = gs.compile(classifier.network, images, masks=classifier.masks)
    calls["compiled"] = lambda: engine(images)
    with torch.inference_mode():
        expected = calls["PyTorch"]()
        for name, call in calls.items():
            if not torch.allclose(call(), expected, rtol=1e-3, atol=1e-3):
                raise RuntimeError(f"{name} computes other outputs than PyTorch")
    return medians(calls, rounds)


def milliseconds(network: nn.Module, example: Tensor, masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The median milliseconds of one image on one thread, by PyTorch (eager) and by the engine (compiled)."""
    engine = gs.compile(network.eval(), example, masks=masks)
    with using_threads(1):
        return {"eager": latency(lambda: network(example)), "compiled": latency(lambda: engine(example))}


def main(options: Options) -> None:
    """The command: a row for each network and batch size."""
    table = None
    with using_threads(1):
        for path in options.models:
            classifier = load(path)
            for batch in options.batches:
                times = timed(classifier, batch, options.rounds, options.inductor)
                table = table or Table("network", "batch", *times, "ratio", box=box.MARKDOWN)
                ratio = min(own for name, own in times.items() if name != "compiled") / times["compiled"]
                table.add_row(path.stem, str(batch), *(f"{own:.3f}" for own in times.values()), f"{ratio:.2f}")
    if table:
        Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("vision", "latency")
