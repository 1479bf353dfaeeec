"""The chart of the README: what sparsity costs in accuracy, and what it gains in bytes and in milliseconds.

    pip install "gossamer[report]"
    python core/benchmarks/chart.py

Draws core/docs/chart.svg from figures that are kept beside the commands that measured them: the table of the study of
Fashion-MNIST (vision/studies/fashion-mnist) and the table of networks in core/README.md.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).parents[2]
BLUE, GREY, ORANGE, DARK = "#2563a8", "#9aa3ad", "#d9730d", "#1b1f24"
METHODS = {
    "gmp": ("gradual pruning", BLUE),
    "static-random": ("static random", GREY),
    "small-dense": ("dense, fewer", ORANGE),
}
RUNTIMES = {"PyTorch": GREY, "ONNX Runtime": GREY, "DeepSparse": ORANGE, "engine": BLUE}


def study() -> dict[str, list[tuple[float, float, float]]]:
    """Method → (kilobytes, accuracy in percent, sparsity) of width 48 after twelve epochs, means over the seeds."""
    found: dict[tuple[str, int, float], list[dict[str, Any]]] = defaultdict(list)
    for line in (ROOT / "vision/studies/fashion-mnist/results.jsonl").read_text().splitlines():
        run = json.loads(line)
        config = run["config"]
        plain = run["pattern"] in ("dense", "Unstructured()") and (config["width"], config["epochs"]) == (48, 12)
        if plain and (config["share"], config["distribution"], config["storage"]) == (1.0, None, "masks"):
            found[run["method"], run["parameters"], round(run["sparsity_asked"], 2)].append(run)
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for (method, *_), runs in found.items():
        bytes_, value, sparsity = (fmean(run[name] for run in runs) for name in ("bytes", "value", "sparsity"))
        points[method].append((bytes_ / 1000, 100 * value, sparsity))
    return {method: sorted(rows) for method, rows in points.items()}


def networks(name: str) -> dict[str, float]:
    """Runtime → milliseconds for one picture, of a network that is 90% sparse in blocks, from core/README.md."""
    lines = (ROOT / "core/README.md").read_text().splitlines()
    heading = next(line for line in lines if line.startswith("| network, pattern |"))
    row = next(line for line in lines if re.match(rf"\| {name}, Block\(4, ?1\) \|", line))
    cells = [[cell.strip() for cell in line.split("|")] for line in (heading, row)]
    return {runtime: float(value) for runtime, value in zip(*cells, strict=True) if runtime in RUNTIMES}


def draw_study(axes: Any) -> None:
    """Accuracy against the size of the file."""
    points = study()
    size, value, _ = points["dense"][0]
    axes.axhline(value, color=DARK, linewidth=0.8, linestyle=":")
    axes.plot([size], [value], "o", color=DARK)
    axes.annotate(f"dense, {value:.2f}", (size, value), (-6, -12), textcoords="offset points", ha="right")
    for method, (label, colour) in METHODS.items():
        sizes, values, sparsities = zip(*points[method], strict=True)
        axes.plot(sizes, values, "o-", color=colour, label=label)
        if method == "gmp":
            for x, y, sparsity in zip(sizes, values, sparsities, strict=True):
                axes.annotate(f"{sparsity:.0%}", (x, y), (0, 6), textcoords="offset points", ha="center", color=colour)
    axes.set_xscale("log")
    axes.set_xticks([100, 300, 1000, 3000], ["100 kB", "300 kB", "1 MB", "3 MB"])
    axes.minorticks_off()
    axes.set_title("Fashion-MNIST: accuracy (%) by the size of the file", loc="left")
    axes.legend(loc="lower right", frameon=False)


def draw_networks(axes: Any) -> None:
    """Milliseconds of two networks, one bar a runtime."""
    place, ticks, names = 0.0, [], []
    for network in ("ResNet-50", "ResNet-18"):
        for runtime, milliseconds in networks(network).items():
            axes.barh(place, milliseconds, color=RUNTIMES[runtime], height=0.75)
            axes.annotate(f"{milliseconds:g}", (milliseconds, place), (3, 0), textcoords="offset points", va="center")
            ticks.append(place)
            names.append(f"{network}, {runtime}")
            place += 1
        place += 0.6
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.set_title("ResNets, 90% sparse: milliseconds a picture", loc="left")


def main() -> None:
    """Draw the chart, the same bytes for the same figures."""
    with matplotlib.rc_context(
        {"svg.hashsalt": "gossamer", "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold"}
    ):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained", facecolor="white")
        draw_study(left)
        draw_networks(right)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        path = ROOT / "core/docs/chart.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
