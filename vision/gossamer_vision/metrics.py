"""From a model and images to numbers: accuracy, calibration, classes, corruptions, confidence."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

import torch
from scipy import stats
from torch import Tensor, nn

from gossamer_vision.corruptions import CORRUPTIONS, corrupted


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, scaled: Callable[[Tensor], Tensor], batch: int = 500) -> Tensor:
    """The model's outputs [n, classes] on the CPU for bytes [n, channels, h, w], in evaluation mode.

    `scaled` makes floats of bytes; it and the model run on the device where the model is.
    """
    mode, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        parts = [model(scaled(part.to(device))).float().cpu() for part in images.split(batch)]
    finally:
        model.train(mode)
    return torch.cat(parts)


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """The share of examples whose highest output is their class, in [0, 1]."""
    return float((outputs.argmax(1) == labels).double().mean())


def confusion(outputs: Tensor, labels: Tensor) -> Tensor:
    """Counts [classes, classes]: row, the true class; column, the predicted one."""
    classes = outputs.shape[1]
    return (labels * classes + outputs.argmax(1)).bincount(minlength=classes**2).reshape(classes, classes)


def per_class(counts: Tensor) -> list[float]:
    """The accuracy within each true class of a confusion matrix; NaN for a class without examples."""
    return (counts.diagonal().double() / counts.sum(1).double()).tolist()


def calibration_error(outputs: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins (Guo et al. 2017).

    The confidence of an example is its highest softmax output, in (0, 1].
    """
    confidence, predicted = outputs.double().softmax(1).max(1)
    right = (predicted == labels).double()
    bin_ = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_, right - confidence)
    return float(gaps.abs().sum() / len(labels))


def interval(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's confidence interval of the mean over seeds; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def mean_and_interval(values: Sequence[float]) -> str:
    """`93.1 ± 0.2 %` of shares in [0, 1]; the mean alone for one value."""
    if len(values) < 2:
        return f"{100 * fmean(values):.2f} %"
    return f"{100 * fmean(values):.2f} ± {100 * interval(values):.2f} %"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the (cost, value) pairs than which no other has more value at no more cost, cheapest first."""
    best, front = -math.inf, []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front


def lost_first(dense: Sequence[Sequence[int]], sparse: Sequence[Sequence[int]], count: int) -> list[tuple[int, float]]:
    """Of what every dense network gets right, the examples that most of the sparse ones get wrong, with that share.

    Each network is given as the indices of the examples that it gets wrong.
    """
    hard = {index for wrong in dense for index in wrong}
    lost = Counter(index for wrong in sparse for index in wrong if index not in hard)
    ordered = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    return [(index, number / len(sparse)) for index, number in ordered[:count]]


def under_corruption(
    model: nn.Module, images: Tensor, labels: Tensor, scaled: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The accuracy under each corruption, which is the same for every model."""
    return {name: accuracy(logits(model, corrupted(name, images), scaled), labels) for name in CORRUPTIONS}


def near_chance(share: float, labels: Tensor) -> bool:
    """Whether an accuracy is as good as that of always naming the most frequent class.

    It is where it lies within two standard errors of that, or has come less than an eighth of the way from it to 1.
    """
    often = float(labels.bincount().max()) / len(labels)
    return share <= often + max(2 * math.sqrt(often * (1 - often) / len(labels)), (1 - often) / 8)
