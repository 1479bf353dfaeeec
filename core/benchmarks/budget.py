"""Densities by latency beside other distributions at the same speed, on a small network of digits.

    python core/benchmarks/budget.py [--speedup 3] [--seeds 3] [--loss]

A convolutional network is trained on half of scikit-learn's digits (enlarged to 32×32), then pruned over Block(4, 1) by
the weights' magnitudes to the speed asked, and trained on under its masks; the accuracy is that on the other half. The
uniform and the global densities are the lowest sparsity, of many, whose layers add up to no more than the budget.
"""

import argparse
import copy
from collections.abc import Callable, Mapping

import torch
from layers import machine
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import gossamer as gs
from gossamer.engine import Engine

PATTERN = gs.Block(4, 1)
EPOCHS, TUNING = 6, 3
SEARCHED = [k / 200 for k in range(100, 199)]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and classes to train on, and those to test on."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x = interpolate(torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, scale_factor=4.0)
    y, order = torch.tensor(classes), torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    first, last = order.chunk(2)
    return x[first], y[first], x[last], y[last]


def network() -> nn.Sequential:
    """Five convolutions of different costs and a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in [(1, 32, 1), (32, 64, 1), (64, 64, 2), (64, 128, 1), (128, 256, 2)]:
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, masking: gs.Masking | None = None) -> None:
    """Train by SGD with a cosine schedule."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4)
    if masking is not None:
        masking.attach(optimizer)
    batches = -(-len(x) // 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    model.train()
    for _ in range(epochs):
        for some in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(x[some]), y[some]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def sparse(model: nn.Module, distribution: str | Mapping[str, float], sparsity: float) -> tuple[nn.Module, gs.Masking]:
    """A sparse copy."""
    twin = copy.deepcopy(model)
    return twin, gs.sparsify(twin, sparsity, pattern=PATTERN, distribution=distribution)


def microseconds(model: nn.Module, example: Tensor) -> float:
    """The time of a call."""
    engine = gs.compile(model, example)
    assert isinstance(engine, Engine)
    return engine.report().call_us


def fastest(model: nn.Module, distribution: str, example: Tensor, limit: float) -> tuple[nn.Module, gs.Masking]:
    """The copy of the lowest sparsity whose call takes no more than the limit, by bisection."""
    low, high = 0, len(SEARCHED) - 1
    while low < high:
        middle = (low + high) // 2
        twin, _ = sparse(model, distribution, SEARCHED[middle])
        low, high = (low, middle) if microseconds(twin, example) <= limit else (middle + 1, high)
    return sparse(model, distribution, SEARCHED[low])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speedup", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--loss", action="store_true", help="weigh layers by the loss, not by their outputs' errors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y, test_x, test_y = digits()
    print(machine())
    print("| seed | densities | sparsity | µs a call | accuracy pruned | accuracy trained on |\n|" + "---|" * 6)
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        model = network()
        train(model, x, y, EPOCHS)
        example = x[:1]

        def loss(twin: nn.Module) -> float:
            with torch.no_grad():
                return float(cross_entropy(twin(x[:256]), y[:256]))

        found = gs.budget(model, x[:1], speedup=options.speedup, pattern=PATTERN, loss=loss if options.loss else None)
        made: dict[str, Callable[[], tuple[nn.Module, gs.Masking]]] = {
            "budget": lambda found=found, model=model: sparse(model, found, 0.9)
        }
        spent, _ = made["budget"]()
        limit = microseconds(spent, example)
        for name in ("uniform", "global"):
            made[name] = lambda name=name, model=model, limit=limit: fastest(model, name, x[:1], limit)
        print(f"| {seed} | dense | | {microseconds(model, example):.0f} | {accuracy(model, test_x, test_y)} | |")
        for name, make in made.items():
            twin, masking = make()
            us, before = microseconds(twin, example), accuracy(twin, test_x, test_y)
            torch.manual_seed(seed)
            train(twin, x, y, TUNING, masking)
            after = accuracy(twin, test_x, test_y)
            print(f"| {seed} | {name} | {masking.sparsity:.1%} | {us:.0f} | {before} | {after} |", flush=True)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> str:
    """The share of right answers."""
    with torch.no_grad():
        return f"{float((model(x).argmax(1) == y).float().mean()):.1%}"


if __name__ == "__main__":
    main()
