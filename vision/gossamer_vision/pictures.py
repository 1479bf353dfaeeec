"""Pictures of results: accuracy against sparsity and latency, confusions, the images lost first, learned masks.

gossamer vision pictures --results results --to pictures
gossamer vision pictures --data-dir FOLDER --model model.gossamer
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from gossamer.errors import InputError
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer.results import Result, read
from gossamer_vision import data as datasets
from gossamer_vision import metrics
from gossamer_vision.classifier import Classifier, load
from gossamer_vision.data import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 24
SHOWN_POINTS = 12
VARYING = ("method", "seed", "sparsity", "pattern", "distribution", "model")


@dataclass(frozen=True)
class Options:
    """What to draw, and where to."""

    results: Path = Path("results")
    """the folder of the result files"""
    to: Path = Path("pictures")
    """the folder to write the pictures to, as SVG"""
    data: str | None = None
    """only the results of this data set"""
    data_dir: Path | None = None
    """the folder that holds the data set, for the images lost first; without it the one that --model was trained on"""
    model: Path | None = None
    """a file that training wrote with --save, whose masks are drawn"""


def figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            'pictures need matplotlib, which is not installed; type: pip install "gossamer[report]"'
        ) from error
    return Figure((width, height), layout="constrained")


def alike(results: Sequence[Result]) -> list[Result]:
    """The results that differ in method, seed, sparsity, pattern and model alone: of those kinds, the most frequent."""

    def kind(result: Result) -> str:
        return str({name: value for name, value in sorted(result.config.items()) if name not in VARYING})

    common = Counter(map(kind, results)).most_common(1)
    return [result for result in results if kind(result) == common[0][0]]


def by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results by method, with the pattern where it is not the plain one and the distribution that was asked."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        pattern = "" if result.pattern in ("dense", "wiring", "Unstructured()") else result.pattern
        words = (result.method, pattern, result.config["distribution"])
        groups.setdefault(" ".join(word for word in words if word), []).append(result)
    return groups


def accuracy_by_sparsity(results: Sequence[Result]) -> "Figure":
    """A line a method: the mean accuracy over the seeds, with its deviation, at each sparsity asked.

    What is more than 12 points below the best is left out of the picture, and the legend says so.
    """
    drawn = figure(8, 5)
    axes = drawn.subplots()
    lowest = 100 * max(result.value for result in results) - SHOWN_POINTS
    for name, own in by_method(results).items():
        at: dict[float, list[float]] = {}
        for result in own:
            asked = result.config["sparsity"] if result.method == "small-dense" else result.sparsity_asked
            at.setdefault(asked, []).append(100 * result.value)
        if name == "dense":
            axes.axhline(fmean(at[0.0]), color="black", linestyle="--", label="dense")
            continue
        points = sorted(at)
        spreads = [stdev(at[p]) if len(at[p]) > 1 else 0.0 for p in points]
        means = [fmean(at[p]) for p in points]
        if max(means) > lowest:
            axes.errorbar(points, means, spreads, marker="o", capsize=2, alpha=0.8, label=name)
        else:
            axes.plot([], [], " ", label=f"{name}: {max(means):.0f} % at best")
    axes.set(xlabel="sparsity (of small-dense: of the network as large)", ylabel="top-1 accuracy (%)")
    drawn.legend(fontsize="small", loc="outside right upper")
    return drawn


def accuracy_by_latency(results: Sequence[Result]) -> "Figure":
    """A point a run: accuracy and the measured latency of one input; the Pareto front is the line.

    Runs more than 12 points below the best are left out.
    """
    from matplotlib.ticker import LogLocator

    drawn = figure(8, 5)
    axes = drawn.subplots()
    lowest = max(result.value for result in results) - SHOWN_POINTS / 100
    timed = [result for result in results if result.latency_ms and result.value > lowest]
    for name, own in by_method(timed).items():
        axes.scatter([r.latency_ms or 0.0 for r in own], [100 * r.value for r in own], label=name, s=18)
    points = [(result.latency_ms or 0.0, 100 * result.value) for result in timed]
    front = [points[index] for index in metrics.pareto(points)]
    axes.plot(*zip(*front, strict=True), color="gray", linewidth=1, drawstyle="steps-post", label="Pareto front")
    axes.set(xlabel="latency of one input (ms, CPU)", ylabel="top-1 accuracy (%)", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    drawn.legend(fontsize="small", loc="outside right upper")
    return drawn


def confusion(result: Result) -> "Figure":
    """The confusion matrix of one run: row, the true class; column, the predicted one."""
    names, counts = list(result.extra["per_class"]), result.extra["confusion"]
    side = 2 + 0.4 * len(names)
    drawn = figure(side, side)
    axes = drawn.subplots()
    axes.imshow([[count / (sum(row) or 1) for count in row] for row in counts], cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{result.method}, {result.sparsity:.0%} sparse")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count and len(names) <= 20:
                dark = count > sum(row) / 2
                axes.text(x, y, str(count), ha="center", va="center", fontsize=6, color="white" if dark else "black")
    return drawn


def lost_first(results: Sequence[Result], data: Data) -> "Figure":
    """The test images that every dense network gets right and most of the sparse ones do not.

    Of the sparse ones, those within 12 points of the best count.
    """
    lowest = max(result.value for result in results) - SHOWN_POINTS / 100
    dense = [r.extra["wrong"] for r in results if r.config["method"] == "dense"]
    sparse = [r.extra["wrong"] for r in results if r.sparsity_asked and r.value > lowest]
    found = metrics.lost_first(dense, sparse, IMAGES)
    drawn = figure(8, 4.5)
    for place, axes in enumerate(drawn.subplots(3, IMAGES // 3).flat):
        axes.axis("off")
        if place < len(found):
            index, share = found[place]
            axes.imshow(data.test.images[index].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray")
            axes.set_title(f"{data.classes[data.test.labels[index]]}\nlost by {share:.0%}", fontsize=7)
    return drawn


def masks(classifier: Classifier) -> "Figure":
    """The mask of each layer: rows are output channels, columns inputs and kernel positions; black is alive."""
    if not classifier.masks:
        raise InputError("the network has no masks to draw; train a sparse one with --save.")
    drawn = figure(9, 0.3 + sum(0.35 + len(mask) / 60 for mask in classifier.masks.values()))
    heights = [0.35 + len(mask) / 60 for mask in classifier.masks.values()]
    rows = drawn.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    for axes, (name, mask) in zip(rows.flat, classifier.masks.items(), strict=True):
        axes.imshow(mask.flatten(1).numpy(), cmap="gray_r", aspect="auto", interpolation="nearest")
        axes.set_title(f"{name}: {float(mask.float().mean()):.1%} alive", fontsize=7)
        axes.set(xticks=[], yticks=[])
    return drawn


def draw(options: Options, log: Callable[[str], None] = print) -> list[Path]:
    """Write what can be drawn of the results, and of the model where one is named; return the files."""
    return [_write(options.to / f"{name}.svg", plot()) for name, plot in plots(options, log).items()]


def plots(options: Options, log: Callable[[str], None]) -> "dict[str, Callable[[], Figure]]":
    """What can be drawn, by the names of the files, and what draws it.

    The images lost first are drawn of the digits and of the one data set that `data_dir` can hold; `log` is told where
    they cannot be.
    """
    found = [r for r in read(options.results, "vision") if options.data in (None, r.data)]
    if not found and not options.model:
        raise InputError(f"there are no results of vision below {options.results}; run `gossamer compare` first.")
    classifier = load(options.model) if options.model else None
    data_dir = options.data_dir
    if classifier and not data_dir and classifier.trained.get("data_dir"):
        data_dir = Path(classifier.trained["data_dir"])
    names = tuple(dict.fromkeys(result.data for result in found))
    held = [name for name in names if name != "digits"]
    if data_dir and len(held) != 1:
        log(f"--data-dir {data_dir} is not read: name its data set by --data ({', '.join(held) or 'none'}).")
    drawn: dict[str, Callable[[], Figure]] = {}
    for name in names:
        own = alike([result for result in found if result.data == name])
        drawn |= _of(name, own)
        folder = data_dir if held == [name] else None
        if name == "digits" or folder:
            drawn |= _lost(name, own, folder, log)
    if options.model and classifier:
        drawn[f"{options.model.stem}-masks"] = lambda: masks(classifier)
    return drawn


def _of(name: str, results: Sequence[Result]) -> "dict[str, Callable[[], Figure]]":
    """The plots that need one data set's results alone."""
    sparse = [result for result in results if result.sparsity_asked]
    best = max(sparse or results, key=lambda result: result.value)
    return {
        f"{name}-sparsity": lambda: accuracy_by_sparsity(results),
        f"{name}-latency": lambda: accuracy_by_latency(results),
        f"{name}-confusion": lambda: confusion(best),
    }


def _lost(
    name: str, results: Sequence[Result], folder: Path | None, log: Callable[[str], None]
) -> "dict[str, Callable[[], Figure]]":
    """The plot that needs the images too, and results of a dense and of a sparse network."""
    if not any(r.config["method"] == "dense" for r in results) or not any(r.sparsity_asked for r in results):
        log(f"{name}: the images lost first need results of a dense network and of a sparse one; train both.")
        return {}
    data = datasets.load(name, folder, size=results[0].config["image_size"])
    tested = sum(map(sum, results[0].extra["confusion"]))
    if len(data.test) != tested:
        raise InputError(f"{folder or name} has {len(data.test)} test images, the results of {name} are of {tested}.")
    return {f"{name}-lost-first": lambda: lost_first(results, data)}


def for_page(results: Sequence[Result]) -> dict[str, bytes]:
    """What the results of one data set show, as SVG by captions: the best sparse one's confusions, and of the digits,
    which come with scikit-learn, the images that sparse networks lose first.
    """
    known = [result for result in results if {"confusion", "wrong"} <= result.extra.keys()]
    if not known:
        return {}
    own = alike(known)
    best = max([r for r in own if r.sparsity_asked] or own, key=lambda result: result.value)
    drawn = {f"Confusions of {best.method}: a row is the true class, a column the predicted one": confusion(best)}
    if best.data == "digits":
        lost = _lost(best.data, own, None, lambda line: None)
        for plot in lost.values():
            drawn["Digits that dense networks get right and most sparse ones do not"] = plot()
    return {caption: _svg(picture) for caption, picture in drawn.items()}


def _svg(drawn: "Figure") -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg")
    return buffer.getvalue()


def _write(path: Path, drawn: "Figure") -> Path:
    refuse_unwritable(path)
    write_atomically(path, _svg(drawn))
    return path


def main(options: Options) -> None:
    """The command."""
    for path in draw(options):
        print(f"wrote {path}")


if __name__ == "__main__":
    from gossamer.cli import run_command

    run_command("vision", "pictures")
