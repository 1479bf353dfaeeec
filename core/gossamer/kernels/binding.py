"""A convolution bound to any images: copies to and from the memory that the kernel wants, where they are needed."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.copies import Copies, plain
from gossamer.kernels.geometry import Walk, forward, split_layout
from gossamer.kernels.layout import Layout, aligned, halo
from gossamer.kernels.simd import LANES
from gossamer.kernels.strips import Strips, tile
from gossamer.kernels.threads import spread

if TYPE_CHECKING:
    from gossamer.kernels.convolution import Convolution


def bind(convolution: "Convolution", x, out, residual, threads: int) -> Callable[[], None]:
    """The call that runs a convolution on x, out and residual (all NCHW, rows contiguous).

    Where the input lies as the kernel wants it, with halo and with the output's pitch, it is read in place. Otherwise
    each image is first copied to scratch memory, split into phases; results of another pitch go to scratch memory, too.
    """
    if _in_place(convolution, x, out, residual):
        walk = forward(*convolution.axes(x.shape[2:]), convolution.shape[1], _pitch(x), x.strides[1] // 4, 0)
        strips = _strips(convolution, walk, x, out, residual, threads)

        def run(call=strips.call, keep=strips):
            call()

        return run
    workers = min(threads, len(x))
    work = [_Copied(convolution, x, out, residual, threads if workers == 1 else 1) for _ in range(workers)]

    def part(worker, first, last):
        for image in range(first, last):
            work[worker](image)

    return partial(spread, part, len(x), workers)


def _strips(convolution, walk: Walk, x, out, residual, threads) -> Strips:
    weights = convolution.weights = convolution.weights.in_blocks(tile(convolution.weights, walk)[1])
    return Strips(weights, walk, x, out, residual, convolution.activation, threads)


def _in_place(convolution: "Convolution", x, out, residual) -> bool:
    if convolution.stride != (1, 1) or any(_pitch(a) != _pitch(x) for a in (out, residual) if a is not None):
        return False
    around = halo(x)
    if around is None:
        walk = forward(*convolution.axes(x.shape[2:]), 1, _pitch(x), 0, 0)
        vectors = -(-walk.pixels // LANES) * LANES
        inside = vectors + walk.reach <= (x.shape[2] - 1) * walk.pitch + x.shape[3]
        return convolution.padding == (0, 0) and inside
    return all(have >= want for have, want in zip(around, convolution.padding, strict=True))


class _Copied:
    """A convolution of one image at a time by way of scratch memory."""

    def __init__(self, convolution, x, out, residual, threads):
        self.x, self.out, self.residual = x, out, residual
        rows, columns = convolution.axes(x.shape[2:])
        phases = len(rows.phases) * len(columns.phases)
        layout = split_layout(rows, columns, x.shape[1], _pitch(out))
        self.inside = layout.view(aligned(layout.size))
        self.to_inside = Copies(rows, columns, x[0], self.inside[0], threads)
        self.scratch = self.other = None
        if any(_pitch(a) != layout.pitch for a in (out, residual) if a is not None):
            shape = (1, out.shape[1], rows.output, columns.output)
            flat = Layout(shape, (0, layout.pitch - columns.output))
            self.scratch = flat.view(aligned(flat.size))
            self.from_scratch = Copies(*plain(out), out[0], self.scratch[0], threads)
            if residual is not None:
                self.other = flat.view(aligned(flat.size))
                self.to_other = Copies(*plain(residual), residual[0], self.other[0], threads)
        walk = forward(rows, columns, convolution.shape[1], layout.pitch, phases * layout.plane, layout.plane)
        self.strips = partial(_strips, convolution, walk, self.inside, threads=threads)
        self.calls: dict[int, list[Callable[[], None]]] = {}
        self.kept: list[Strips] = []

    def __call__(self, image: int):
        """Convolve one image."""
        for call in self.calls.get(image) or self.bound(image):
            call()

    def bound(self, image: int) -> list[Callable[[], None]]:
        """The calls that convolve one image, found once."""
        one, calls = slice(image, image + 1), [self.to_inside.splitting(self.x[image])]
        if self.other is not None:
            calls.append(self.to_other.splitting(self.residual[image]))
        if self.scratch is None:
            self.kept.append(self.strips(self.out[one], None if self.residual is None else self.residual[one]))
        elif not self.kept:
            self.kept.append(self.strips(self.scratch, self.other))
        calls.append(self.kept[-1].call)
        if self.scratch is not None:
            calls.append(self.from_scratch.merging(self.out[image]))
        self.calls[image] = calls
        return calls


def _pitch(array: np.ndarray) -> int:
    return array.strides[2] // 4
