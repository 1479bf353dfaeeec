"""What `print(masking)` shows: a row a layer; at the foot, what is zero of the whole model and what is left dense."""

import io
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gossamer.layers import Layer
from gossamer.patterns import Pattern

if TYPE_CHECKING:
    from rich.table import Table


def shown(table: "Table") -> str:
    """The table as text of at most 140 columns."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=140).print(table)
    return text.getvalue()


def table(layers: Iterable[Layer], pattern: Pattern, counts: Mapping[str, int], masks: Mapping[str, Tensor]) -> "Table":
    """A row a layer: its name, shape, pattern, and the sparsity asked and measured, or why it stays dense."""
    from rich.table import Table

    rows = Table(caption_justify="left")
    for column in ("layer", "shape", "pattern", "asked", "measured"):
        rows.add_column(column, overflow="fold")
    for layer in layers:
        shape = " × ".join(map(str, layer.shape))
        if layer.kept_dense:
            rows.add_row(layer.parameter, shape, f"dense: {layer.kept_dense}", "", "")
            continue
        mask = masks[layer.parameter]
        asked, measured = (1 - n / mask.numel() for n in (counts[layer.parameter], int(mask.count_nonzero())))
        rows.add_row(layer.parameter, shape, str(pattern), f"{asked:.2%}", f"{measured:.2%}")
    return rows


def left_dense(model: nn.Module, layers: Iterable[Layer]) -> list[str]:
    """A line a reason: the parameters that are in no row of the table, with the numbers in their names collapsed."""
    rows = {name for layer in layers for name in (*layer.names, layer.parameter)}
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, parameter in model.named_parameters():
        if name in rows or any(name == f"{layer.module}.values" for layer in layers):
            continue
        if parameter.dim() < 2:
            reason = "of one dimension"
        elif ".parametrizations." in f".{name}" or name.endswith(("_g", "_v")):
            reason = "of a parametrization"
        else:
            reason = "of no layer known, include it by name"
        collapsed = re.sub(r"(?<=\.)\d+(?=\.)", "*", f".{name}")[1:]
        reasons.setdefault(reason, {}).setdefault(collapsed, []).append(name)
    return [
        f"dense, {reason}: " + ", ".join(f"{n} ({len(k)})" if len(k) > 1 else k[0] for n, k in names.items())
        for reason, names in reasons.items()
    ]
