"""A model as a stack of blocks, run up to one of them at a time."""

from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.scores.batches import feed


def find_blocks(model: nn.Module, glob: str | None) -> list[str]:
    """The names of the repeated blocks: of the glob, or the children of each outermost list of modules of one class."""
    if glob is not None:
        names = [name for name, _ in model.named_modules() if name and fnmatchcase(name, glob)]
        names = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
        if not names:
            raise InputError(f"blocks is {glob!r}, which no module is called; give a glob such as 'model.layers.*'.")
        return names
    names: list[str] = []
    for name, module in model.named_modules():
        children = list(module.named_children())
        repeated = len(children) > 1 and len({type(child) for _, child in children}) == 1
        stack = isinstance(module, nn.ModuleList | nn.Sequential) and repeated and any(children[0][1].children())
        if stack and not any(name.startswith(f"{other}.") for other in names):
            names += [f"{name}.{child}" if name else child for child, _ in children]
    if not names:
        raise InputError(
            "the model has no list of blocks of one class; name them (blocks='encoder.layer.*'), or use sparsify with "
            "score=gossamer.Wanda(batches)."
        )
    return names


class _Reached(Exception):
    """The block has run; what comes after it does not matter."""


class Blocks:
    """Stands at one block after the other, in the order in which the model runs them.

    Where the blocks form plain stacks, those before the present one are not run again: the last of them gives what it
    gave, and so do the others, for nothing but the next block looks at it. Whether that is so is tried on the first
    batch; where it is not (skip connections, blocks that are called twice) all of them are run each time.
    """

    def __init__(self, model: nn.Module, names: list[str], batches: list[Any]) -> None:
        self.model, self.batches = model, batches
        self.blocks = {name: model.get_submodule(name) for name in names}
        self.outputs: dict[str, list[Any]] = {}
        self.place = -1
        calls: list[tuple[str, list[float], Any]] = []
        with self._replaced({name: self._recording(name, calls) for name in names}):
            feed(model, batches[0])
        self.order = list(dict.fromkeys(name for name, _, _ in calls))
        self.plain = len(self.order) == len(calls) and all(self._replays(calls, k) for k in range(len(calls)))
        self.outputs = {}

    def __iter__(self) -> Iterator[str]:
        """The names of the blocks, standing at each."""
        for place, name in enumerate(self.order):
            self.place = place
            yield name

    def forward(self) -> None:
        """Run the present block on every batch."""
        self._run(None)

    def keep(self) -> None:
        """Remember what the present block gives for every batch, in the stead of the block before it."""
        if self.plain:
            outputs: list[Any] = []
            self._run(outputs)
            self.outputs[self._stack(self.order[self.place])] = outputs

    def _run(self, outputs: list[Any] | None) -> None:
        present = self.order[self.place]
        for k, batch in enumerate(self.batches):
            forwards = {name: self._replaying(name, k) for name in self.order[: self.place]} if self.plain else {}
            if self.plain:
                forwards[present] = self._reaching(present, outputs)
            with self._replaced(forwards), suppress(_Reached):
                feed(self.model, batch)

    def _stack(self, name: str) -> str:
        return name.rpartition(".")[0]

    def _recording(self, name: str, calls: list[tuple[str, list[float], Any]]) -> Callable[..., Any]:
        own = self.blocks[name].forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = sums((args, kwargs))
            calls.append((name, given, own(*args, **kwargs)))
            return calls[-1][2]

        return forward

    def _replaying(self, name: str, batch: int) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.outputs[self._stack(name)][batch]

    def _reaching(self, name: str, outputs: list[Any] | None) -> Callable[..., Any]:
        own = self.blocks[name].forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            output = own(*args, **kwargs)
            if outputs is not None:
                outputs.append(output)
            raise _Reached

        return forward

    def _replays(self, calls: list[tuple[str, list[float], Any]], place: int) -> bool:
        """Whether a block gets what it got when those before it only repeat what their stacks gave last."""
        given: list[float] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            given.extend(sums((args, kwargs)))
            raise _Reached

        self.outputs = {self._stack(name): [output] for name, _, output in calls[:place]}
        forwards = {name: self._replaying(name, 0) for name, _, _ in calls[:place]}
        with self._replaced({**forwards, calls[place][0]: forward}), suppress(_Reached):
            feed(self.model, self.batches[0])
        return given == calls[place][1]

    @contextmanager
    def _replaced(self, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
        """Give blocks other forward functions for a while."""
        try:
            for name, forward in forwards.items():
                self.blocks[name].__dict__["forward"] = forward
            yield
        finally:
            for name in forwards:
                self.blocks[name].__dict__.pop("forward", None)


def sums(given: Any) -> list[float]:
    """A number for each tensor among the arguments, also in tuples and dicts: its sum, weighted by place."""
    if isinstance(given, Tensor):
        flat = given.detach().double().flatten()
        return [float(flat @ torch.linspace(1, 2, len(flat), dtype=flat.dtype, device=flat.device))]
    if isinstance(given, Mapping):
        given = given.values()
    return [number for part in given for number in sums(part)] if isinstance(given, list | tuple | ValuesView) else []
