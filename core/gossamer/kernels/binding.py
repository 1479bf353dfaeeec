"""A prepared convolution bound to buffers: plans, scratch memory and the call."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from gossamer.kernels import programs
from gossamer.kernels.activation import ACTIVATIONS
from gossamer.kernels.geometry import Walk, split_layout
from gossamer.kernels.layout import LINE, aligned, halo
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import target
from gossamer.kernels.threads import spread
from gossamer.kernels.tiles import Plan, Section

CACHE = 448 * LINE  # floats of input that a tile may keep in the first-level cache
LEAST = 12  # non-zeros of a group that one block of input channels should hold
CHUNK = 1 << 18  # bytes of weights that stay in the second-level cache while tiles go by


class Binding:
    """A convolution with its input, output and residual (all NCHW, rows contiguous).

    Where the input lies as the kernel wants it, with halo and with the output's pitch, it is read in place. Otherwise each
    image is first copied to scratch memory, split into phases; results of another pitch go to scratch memory, too.
    """

    def __init__(self, convolution, x, out, residual, threads: int):
        self.convolution, self.x, self.out, self.residual, self.threads = convolution, x, out, residual, threads
        self.rows, self.columns = convolution.axes(x.shape[2:])
        self.keep: list[np.ndarray] = []
        self.in_place = self._in_place()
        if self.in_place:
            pitch, channel = x.strides[2] // 4, x.strides[1] // 4
            self.walk = Walk(self.rows, self.columns, pitch, channel, 0)
            self.direct_out = True
        else:
            self.layout = split_layout(self.rows, self.columns, x.shape[1], _pitch(out))
            phases = len(self.rows.phases) * len(self.columns.phases)
            self.walk = Walk(self.rows, self.columns, self.layout.pitch, phases * self.layout.plane, self.layout.plane)
            self.direct_out = all(_pitch(a) == self.layout.pitch for a in (out, residual) if a is not None)
        self._tile()

    def _in_place(self) -> bool:
        x, convolution = self.x, self.convolution
        if convolution.stride != (1, 1) or any(
            _pitch(a) != _pitch(x) for a in (self.out, self.residual) if a is not None
        ):
            return False
        if any(have < want for have, want in zip(halo(x), convolution.padding, strict=True)):
            return False
        if x.base is not None and halo(x) != (0, 0):
            return True
        walk = Walk(self.rows, self.columns, _pitch(x), x.strides[1] // 4, 0)
        vectors = -(-walk.pixels // LANES) * LANES
        return vectors + walk.reach <= (x.shape[2] - 1) * walk.pitch + x.shape[3]

    def _tile(self):
        """Choose how many vectors make a tile and into how many blocks the input channels are split."""
        convolution, walk = self.convolution, self.walk
        self.vectors = -(-walk.pixels // LANES)
        biggest = max(convolution.sections, key=lambda s: s.source.size, default=None)
        size = biggest.size if biggest else 1
        widest = target().vectors(size) if size < 8 else 2 * target().vectors(size)
        tiles = -(-self.vectors // widest)
        self.tile = -(-self.vectors // tiles)
        self.tiles = -(-self.vectors // self.tile)
        kernel_rows = len(np.unique(self.rows.taps))
        lines = min(self.tile * LANES + walk.reach, kernel_rows * (self.tile * LANES + LINE))
        entries = biggest.position.size / biggest.groups if biggest else 0
        inputs = convolution.shape[1]
        blocks = min(math.ceil(inputs * lines / CACHE), int(entries // LEAST), inputs)
        self.blocks = max(1, blocks)

    def _sections(self) -> list[tuple[int, int, int]]:
        """The chunks: rows of (address of a section's table, first group, group after the last)."""
        convolution, position, chunks = self.convolution, 0, []
        many = self.tiles * len(self.x) > 1
        for section, (starts, offsets, values) in zip(
            convolution.sections, convolution.pack(self.walk, self.blocks), strict=True
        ):
            lanes, bias = section.channels.astype(np.int32), convolution.bias[section.channels]
            table = np.zeros(len(Section), np.int64)
            table[Section.SIZE], table[Section.GROUPS], table[Section.POSITION] = section.size, section.groups, position
            for column, array in (
                (Section.LANES, lanes),
                (Section.BIAS, bias),
                (Section.STARTS, starts),
                (Section.OFFSETS, offsets),
                (Section.VALUES, values),
            ):
                table[column] = array.ctypes.data
                self.keep.append(array)
            self.keep.append(table)
            parts = math.ceil((values.nbytes + offsets.nbytes) / CHUNK) if many else 1
            if self.tiles * len(self.x) < self.threads:
                parts = max(parts, self.threads)
            cuts = np.linspace(0, section.groups, min(parts, section.groups) + 1).astype(int)
            chunks += [(table.ctypes.data, int(a), int(b)) for a, b in zip(cuts, cuts[1:], strict=False)]
            position += len(section.channels)
        return chunks

    def _plan(self, x, out, residual, images) -> tuple[np.ndarray, int]:
        """The table that the program reads, and how many items it has."""
        activation = self.convolution.activation
        plan = np.zeros(len(Plan), np.int64)
        for columns, array in (
            ((Plan.X, Plan.X_IMAGE, None), x),
            ((Plan.OUT, Plan.OUT_IMAGE, Plan.OUT_CHANNEL), out),
            ((Plan.RESIDUAL, Plan.RESIDUAL_IMAGE, Plan.RESIDUAL_CHANNEL), residual),
        ):
            if array is not None:
                plan[columns[0]], plan[columns[1]] = array.ctypes.data, array.strides[0]
                if columns[2] is not None:
                    plan[columns[2]] = array.strides[1]
        masks = self.walk.masks(LANES)
        chunks = np.array(self.chunks, np.int64).reshape(-1, 3)
        plan[Plan.MASKS], plan[Plan.CHUNKS] = masks.ctypes.data, chunks.ctypes.data
        plan[Plan.VECTORS], plan[Plan.TILE], plan[Plan.TILES] = self.vectors, self.tile, self.tiles
        plan[Plan.IMAGES], plan[Plan.BLOCKS] = images, self.blocks
        low, high = activation.bounds
        floats = plan.view(np.float32)
        floats[2 * Plan.LOW], floats[2 * Plan.HIGH], floats[2 * Plan.SLOPE] = low, high, activation.slope
        plan[Plan.ACTIVATION] = 0 if low > -math.inf else ACTIVATIONS.index(activation.name)
        self.keep += [masks, chunks, plan, x, out]
        return plan, len(chunks) * self.tiles * images

    def call(self) -> Callable[[], None]:
        """The call without arguments."""
        self.chunks = self._sections()
        run = self._call_in_place() if self.in_place else self._call_copied()
        run.keep = self.keep  # pyright: ignore[reportFunctionMemberAccess]
        return run

    def _partial(self, workers: int) -> list[int]:
        """The addresses of each worker's memory for partial sums."""
        size = self.convolution.shape[0] * self.tile * LANES if self.blocks > 1 else LINE
        arrays = [aligned(size) for _ in range(workers)]
        self.keep += arrays
        return [array.ctypes.data for array in arrays]

    def _strips(self, x, out, residual, images, threads) -> Callable[[], None]:
        """The call of the kernel itself on arrays that lie as it wants them."""
        plan, items = self._plan(x, out, residual, images)
        partial_sums = self._partial(min(threads, max(items, 1)))
        program, address = programs.strips.call, plan.ctypes.data
        if threads == 1 or items < 2:
            return partial(program, address, partial_sums[0], 0, items)
        return partial(
            spread,
            lambda worker, first, last: program(address, partial_sums[worker], first, last),
            items,
            threads,
        )

    def _call_in_place(self):
        run = self._strips(self.x, self.out, self.residual, len(self.x), self.threads)

        def call():
            run()

        return call

    def _call_copied(self):
        workers = min(self.threads, len(self.x))
        inner = self.threads if workers == 1 else 1
        work = [self._image(inner) for _ in range(workers)]

        def part(worker, first, last):
            for image in range(first, last):
                work[worker](image)

        def call():
            spread(part, len(self.x), workers)

        return call

    def _image(self, threads) -> Callable[[int], None]:
        """A call for one image, with scratch memory of its own."""
        inside = self.layout.view(aligned(self.layout.size))
        x, out, residual, rows, columns = self.x, self.out, self.residual, self.rows, self.columns
        n, c, h, w = x.shape
        parts = [
            (inside[0, k :: len(rows.phases) * len(columns.phases)], int(a), int(b))
            for k, (a, b) in enumerate((a, b) for a in rows.phases for b in columns.phases)
        ]
        sh, sw = rows.stride, columns.stride
        scratch = other = None
        if not self.direct_out:
            shape = (1, out.shape[1], rows.output, columns.output)
            lay = self.layout.__class__(shape, (0, self.layout.pitch - columns.output))
            scratch = lay.view(aligned(lay.size))
            other = None if residual is None else lay.view(aligned(lay.size))
        runs = {}

        def strips(image):
            if image not in runs or scratch is not None:
                one = slice(image, image + 1)
                o = out[one] if scratch is None else scratch
                r = None if residual is None else residual[one] if scratch is None else other
                runs[image] = self._strips(inside, o, r, 1, threads)
            return runs[image]

        fixed = strips(0) if scratch is not None else None

        def call(image):
            for plane, a, b in parts:
                piece = x[image, :, a::sh, b::sw]
                plane[:, : piece.shape[1], : piece.shape[2]] = piece
            if other is not None:
                other[0] = residual[image]
            (fixed or strips(image))()
            if scratch is not None:
                out[image] = scratch[0]

        return call


def _pitch(array) -> int:
    return array.strides[2] // 4
