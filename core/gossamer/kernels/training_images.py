"""What training batches are made of: images, small images side by side, rows of a matrix."""

from collections.abc import Callable, Sequence

import numpy as np

from gossamer.kernels.copies import CopyTable, merging, plain, splitting
from gossamer.kernels.geometry import Axis
from gossamer.kernels.linear_layer import ROWS
from gossamer.kernels.product_loops import Transposition
from gossamer.kernels.products import transposing
from gossamer.kernels.side_by_side import collecting, spreading
from gossamer.kernels.simd import LANES
from gossamer.kernels.tasks import Task
from gossamer.kernels.training_batches import Batch, Scratch

SMALL = 36  # pixels of an output; more of LANES images side by side leave the first-level cache


def kind(x: Sequence[int], y: Sequence[int]) -> type[Batch]:
    """What takes inputs and outputs of these shapes, images (N, C, H, W) or rows (N, C)."""
    if len(x) == 2:
        return RowBatch
    return SmallImageBatch if x[0] % LANES == 0 and y[2] * y[3] <= SMALL else ImageBatch


class ImageBatch(Batch):
    """A batch of images (N, C, H, W), contiguous."""

    def split(self, x: np.ndarray) -> tuple[int, tuple[int, int]]:
        """The images, and their size."""
        return len(x), (x.shape[2], x.shape[3])

    def enter(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Images, apart into their phases where that is x."""
        if name == "x":
            return self._copies(splitting, name, scratch.rows, scratch.columns, self.x, scratch.x)
        return self._copies(splitting, name, *plain(self.y), self.y, scratch.y)

    def leave(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Images, put together of their phases where that is x's gradient."""
        if name == "y":
            return self._copies(merging, name, *plain(self.y), self.y, scratch.y)
        return self._copies(merging, name, scratch.rows, scratch.columns, self.x, scratch.gradient)

    def _copies(
        self, make: Callable[..., Task], name: str, rows: Axis, columns: Axis, images: np.ndarray, here: np.ndarray
    ) -> tuple[Task, int]:
        task = make(rows, columns, images, here)
        self.place(name, task.table, CopyTable.IMAGE)
        return task._replace(items=images.shape[1]), images.shape[1]


class SmallImageBatch(ImageBatch):
    """Images of few pixels, LANES of them side by side: each pixel of the batch is a vector.

    One by one they would fill one vector or two, and most of the time would go to finding the non-zeros.
    """

    lanes = LANES

    def split(self, x: np.ndarray) -> tuple[int, tuple[int, int]]:
        """How often LANES images come, and their size."""
        images, size = super().split(x)
        return images // LANES, size

    def enter(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Images side by side, in their phases where that is x."""
        if name == "x":
            return self._copies(spreading, name, scratch.rows, scratch.columns, self.x, scratch.x)
        return self._copies(spreading, name, *plain(self.y), self.y, scratch.y)

    def leave(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Images one after the other."""
        if name == "y":
            return self._copies(collecting, name, *plain(self.y), self.y, scratch.y)
        return self._copies(collecting, name, scratch.rows, scratch.columns, self.x, scratch.gradient)


class RowBatch(Batch):
    """Rows of a matrix (N, C), contiguous, as the pixels of images one pixel high."""

    def split(self, x: np.ndarray) -> tuple[int, tuple[int, int]]:
        """Images of up to ROWS pixels, and that size."""
        rows = min(ROWS, len(x))
        return len(x) // rows, (1, rows)

    def enter(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Rows, turned to columns of an image."""
        here = {"x": scratch.x, "y": scratch.y}[name]
        return self._turned(name, Transposition.SOURCE, self._matrices(name), self._image(here))

    def leave(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """Columns of an image, turned to rows."""
        here = {"y": scratch.y, "to_x": scratch.gradient}[name]
        return self._turned(name, Transposition.TARGET, self._image(here), self._matrices(name))

    def _matrices(self, name: str) -> np.ndarray:
        array = self.y if name == "y" else self.x
        return array.reshape(self.images, -1, array.shape[1])

    def _image(self, here: np.ndarray) -> np.ndarray:
        return np.broadcast_to(here[:, :, 0], (self.images, *here[0, :, 0].shape))

    def _turned(self, name: str, column: int, source: np.ndarray, target: np.ndarray) -> tuple[Task, int]:
        task = transposing(source, target)
        self.place(name, task.table, column)
        items = task.items // self.images
        return task._replace(items=items), items
