"""The drivers: loops over images and tiles around the code of `tiles`, compiled as C functions that hold no lock."""

from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.functions import activate
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import target
from gossamer.kernels.tiles import Plan, Section, accumulate, peek, peek_float, peek_int32

X, X_IMAGE, OUT, OUT_IMAGE = int(Plan.X), int(Plan.X_IMAGE), int(Plan.OUT), int(Plan.OUT_IMAGE)
RESIDUAL, RESIDUAL_IMAGE = int(Plan.RESIDUAL), int(Plan.RESIDUAL_IMAGE)
VECTORS, TILE, TILES, IMAGES = int(Plan.VECTORS), int(Plan.TILE), int(Plan.TILES), int(Plan.IMAGES)
BLOCKS, CHUNKS, SIZE, LANE = int(Plan.BLOCKS), int(Plan.CHUNKS), int(Section.SIZE), int(Section.LANES)
OUT_CHANNEL, MASKS, ACTIVATION, SLOPE = int(Plan.OUT_CHANNEL), int(Plan.MASKS), int(Plan.ACTIVATION), int(Plan.SLOPE)
WIDEST = tuple(target().vectors(max(size, 1)) for size in range(9))
BYTES = 4 * LANES


@entry(void(int64, int64, int64, int64))
def strips(plan, partial, first, last):
    """The items first … last-1 of a bound convolution; an item is one chunk of groups on one tile of one image."""
    tiles = peek(plan, TILES)
    images = peek(plan, IMAGES)
    for item in range(first, last):
        chunk = peek(plan, CHUNKS) + item // (tiles * images) * 24
        image = item // tiles % images
        vector = item % tiles * peek(plan, TILE)
        count = min(peek(plan, TILE), peek(plan, VECTORS) - vector)
        strip(plan, chunk, image, vector, count, partial)


@njit
def strip(plan, chunk, image, vector, count, partial):
    """One item."""
    section, begin, end = peek(chunk, 0), peek(chunk, 1), peek(chunk, 2)
    x = peek(plan, X) + image * peek(plan, X_IMAGE)
    out = peek(plan, OUT) + image * peek(plan, OUT_IMAGE)
    residual = peek(plan, RESIDUAL) + image * peek(plan, RESIDUAL_IMAGE)
    widest = WIDEST[peek(section, SIZE)]
    pieces = (count + widest - 1) // widest
    for block in range(peek(plan, BLOCKS)):
        done = 0
        for piece in range(pieces):
            some = (count - done + pieces - piece - 1) // (pieces - piece)
            at = (vector + done) * BYTES
            other = residual + at if residual else 0
            place = partial + done * BYTES
            accumulate(plan, section, some, x + at, out + at, other, place, vector + done, block, begin, end)
            done += some
    kind = peek(plan, ACTIVATION)
    if kind:
        slope = peek_float(plan, SLOPE)
        for lane in range(begin * peek(section, SIZE), end * peek(section, SIZE)):
            place = out + peek_int32(peek(section, LANE), lane) * peek(plan, OUT_CHANNEL) + vector * BYTES
            activate(kind, slope, place, peek(plan, MASKS), vector, count)
