"""What the page of `gossamer report` shows of masks: how dense each part of each layer is."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from gossamer.compare import percent
from gossamer.results import Result

ROWS, COLUMNS, LAYERS = 24, 64, 6
LEVELS = "0123456789abcdef"


def kept(masks: Mapping[str, Tensor]) -> dict[str, dict[str, list[str]]]:
    """What a result keeps for the page: of its first layers the share of weights alive, 0 to f, in each part of the
    mask; its rows are output channels, its columns inputs and kernel positions."""
    found = {}
    for name, mask in list(masks.items())[:LAYERS]:
        own = mask.flatten(1).float()[None, None]
        parts = adaptive_avg_pool2d(own, (min(ROWS, own.shape[2]), min(COLUMNS, own.shape[3])))[0, 0]
        found[name] = ["".join(LEVELS[round(15 * share)] for share in row) for row in parts.tolist()]
    return {"masks": found} if found else {}


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """The masks of the best sparse run that kept them, as SVG by its caption."""
    known = [result for result in results if result.extra.get("masks")]
    if not known:
        return {}
    from gossamer_vision.pictures import figure

    best = max(known, key=lambda result: result.value)
    shares = {
        name: np.array([[LEVELS.index(level) / 15 for level in row] for row in rows])
        for name, rows in best.extra["masks"].items()
    }
    heights = [0.3 + 0.045 * len(share) for share in shares.values()]
    drawn = figure(7, sum(heights) + 0.2)
    for axes, (name, share) in zip(
        drawn.subplots(len(shares), 1, squeeze=False, height_ratios=heights).flat, shares.items(), strict=True
    ):
        axes.imshow(share, cmap="gray_r", aspect="auto", interpolation="nearest", vmin=0)
        axes.set_title(f"{name}: {share.mean():.1%} alive", fontsize=7, pad=2)
        axes.set(xticks=[], yticks=[])
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None})
    caption = (
        f"Masks of {best.method} {percent(best.sparsity)}: a row is an output channel; the darker, the more weights"
    )
    return {caption: file.getvalue()}
