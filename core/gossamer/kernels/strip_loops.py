"""The loops over images and tiles around the code of `tiles`."""

from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.functions import activate
from gossamer.kernels.memory import peek, peek_float, peek_int32
from gossamer.kernels.simd import BYTES
from gossamer.kernels.target import target
from gossamer.kernels.tiles import Chunk, SectionTable, StripPlan, accumulate

WIDEST = tuple(target().vectors(max(size, 1)) for size in range(9))
CHUNK = 8 * len(Chunk)  # bytes


@c_function(void(int64, int64, int64, int64))
def strips(plan: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of a bound convolution; an item is one chunk of groups on one tile of one image.

    Items go through all chunks on a band of tiles before the next band.
    """
    tiles, vectors = peek(plan, StripPlan.TILES), peek(plan, StripPlan.VECTORS)
    band, chunks = peek(plan, StripPlan.BAND), peek(plan, StripPlan.CHUNK_COUNT)
    partial = peek(plan, StripPlan.PARTIAL) + worker * peek(plan, StripPlan.PARTIAL_WORKER)
    for item in range(first, end):
        chunk = peek(plan, StripPlan.CHUNKS) + item // band % chunks * CHUNK
        place = item // (band * chunks) * band + item % band
        vector, after = place % tiles * vectors // tiles, (place % tiles + 1) * vectors // tiles
        strip(plan, chunk, place // tiles, vector, after - vector, partial)


@njit
def strip(plan: int, chunk: int, image: int, vector: int, count: int, partial: int) -> None:
    """One item."""
    section, begin, end = peek(chunk, Chunk.SECTION), peek(chunk, Chunk.BEGIN), peek(chunk, Chunk.END)
    x = peek(plan, StripPlan.X) + image * peek(plan, StripPlan.X_IMAGE)
    out = peek(plan, StripPlan.OUT) + image * peek(plan, StripPlan.OUT_IMAGE)
    residual = peek(plan, StripPlan.RESIDUAL) + image * peek(plan, StripPlan.RESIDUAL_IMAGE)
    widest = WIDEST[peek(section, SectionTable.SIZE)]
    pieces = (count + widest - 1) // widest
    for block in range(peek(plan, StripPlan.BLOCKS)):
        done = 0
        for piece in range(pieces):
            some = (count - done + pieces - piece - 1) // (pieces - piece)
            at = (vector + done) * BYTES
            other = residual + at if residual else 0
            place = partial + done * BYTES
            accumulate(plan, section, some, x + at, out + at, other, place, vector + done, block, begin, end)
            done += some
    kind = peek(plan, StripPlan.ACTIVATION)
    if kind:
        slope = peek_float(plan, StripPlan.SLOPE)
        size, lanes = peek(section, SectionTable.SIZE), peek(section, SectionTable.LANES)
        for lane in range(begin * size, end * size):
            place = out + peek_int32(lanes, lane) * peek(plan, StripPlan.OUT_CHANNEL) + vector * BYTES
            activate(kind, slope, place, peek(plan, StripPlan.MASKS), vector, count)
