"""Grids of runs: every combination of several values for some fields of a configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from gossamer.errors import InputError
from gossamer.options import parse


def cells(config: Any, words: Sequence[str], unread: Mapping[str, Sequence[str]] = {}) -> list[Any]:
    """The configurations that `--field value value …` for several fields give, each combination once, in order.

    Fields that a method does not read (`unread`, by methods) stay as they are in `config`: at five sparsities a dense
    network is trained once.

    Raises `InputError` for a field or a value that there is not, and for a combination that a run refuses.
    """
    choices: list[list[list[str]]] = []
    for word in words:
        if word.startswith("--"):
            choices.append([[word]])
        elif not choices:
            raise InputError(f"{word!r} belongs to no option; write --field {word}.")
        elif choices[-1][0] == choices[-1][0][:1]:
            choices[-1][0].append(word)
        else:
            choices[-1].append([choices[-1][0][0], word])
    found = [
        parse(type(config), [word for part in combination for word in part], default=config)
        for combination in product(*choices)
    ]
    return list(dict.fromkeys(as_read(cell, config, unread.get(cell.method, ())) for cell in found))


def as_read(cell: Any, config: Any, fields: Sequence[str]) -> Any:
    """The cell with these fields as `config` has them."""
    return replace(cell, **{name: getattr(config, name) for name in fields})


def seeded(configs: Sequence[Any], seeds: int) -> list[Any]:
    """The same configurations with the seeds 1 to `seeds` each, whatever theirs were."""
    unseeded = dict.fromkeys(replace(config, seed=1) for config in configs)
    return [replace(config, seed=seed) for seed in range(1, seeds + 1) for config in unseeded]
