"""What masks and RigL add to a step: ResNet-18 at 90% on the CPU, 64 images of 64 × 64, an update every 100 steps.

    python core/benchmarks/rigl_overhead.py --threads 1

Steps with and without the masking take turns, so that both meet the same load of the machine, and processor time is
counted, which that load disturbs less than the clock. The update, one step in a hundred, is timed by itself and counts
for a hundredth. Prints the medians and their share of the step without masks.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
import tyro
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

import gossamer as gs


def milliseconds(call: Callable[[], object]) -> float:
    """The processor time of a call, which a busy machine disturbs less than the clock."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1000


def main(batch: int = 64, side: int = 64, rounds: int = 10, every: int = 100, threads: int = 1) -> None:
    """Measure and print.

    Args:
        batch: Images in a batch.
        side: Height and width of an image.
        rounds: How many steps of each kind.
        every: Steps between two updates.
        threads: PyTorch's threads.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    masking = gs.sparsify(model, 0.9, score="random")
    x, y = torch.randn(batch, 3, side, side), torch.randint(10, (batch,))
    times: dict[str, list[float]] = {"plain": [], "masked": [], "due": [], "update": [], "idle": []}

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    step()
    for _ in range(rounds):
        masking.detach()
        times["plain"].append(milliseconds(step))
        method = gs.RigL(masking.attach(optimizer), every=every, until=10**9)
        step()  # the first looks at the moments
        times["masked"].append(milliseconds(step))
        times["idle"].append(milliseconds(method.step))
        masking.steps = method.seen = every - 1
        method.due = lambda step: True
        masking.collect(True)
        times["due"].append(milliseconds(step))
        times["update"].append(milliseconds(method.step))
        masking.steps = 0
    found = {name: median(values) for name, values in times.items()}
    hooks, update = found["masked"] - found["plain"], found["due"] - found["masked"] + found["update"]
    added = hooks + found["idle"] + update / every
    print(f"step without masks {found['plain']:.1f} ms; masks add {hooks:.2f} ms ({hooks / found['plain']:.2%})")
    print(f"an update and its dense gradients {update:.1f} ms, {update / every:.2f} ms a step at every {every} steps")
    print(f"RigL beyond the optimizer: {added:.2f} ms a step, {added / found['plain']:.2%}")


if __name__ == "__main__":
    tyro.cli(main)
