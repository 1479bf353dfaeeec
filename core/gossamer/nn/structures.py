"""What the training kernels know of a topology, kept between calls."""

import threading
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import Tensor

from gossamer.kernels.geometry import Geometry

if TYPE_CHECKING:
    from gossamer.kernels.training import Structure

REMEMBERED = 512  # structures kept between calls


class Structures:
    """The structures of the topologies last seen.

    A topology is known by the memory of its positions, which an entry keeps alive, so that no other can take its place.
    """

    def __init__(self) -> None:
        self.entries: OrderedDict = OrderedDict()
        self.lock = threading.Lock()

    def of(self, positions: Tensor, geometry: Geometry) -> "Structure":
        """The structure of `positions` in a layer of that geometry."""
        from gossamer.kernels.training import Structure

        key = (positions.data_ptr(), positions.numel(), geometry)
        version = 0 if positions.is_inference() else positions._version
        with self.lock:
            found = self.entries.get(key)
            if found and found[0] == version:
                self.entries.move_to_end(key)
                return found[3]
        check = zlib.crc32(positions.numpy().data)  # DDP writes buffers anew, unchanged, at every step
        structure = found[3] if found and found[2] == check else Structure(positions.numpy(), geometry)
        with self.lock:
            self.entries[key] = (version, positions.detach(), check, structure)
            while len(self.entries) > REMEMBERED:
                self.entries.popitem(last=False)
        return structure

    def forget(self, positions: Tensor) -> None:
        """Drop what is kept of a topology that is gone."""
        with self.lock:
            for key in [key for key in self.entries if key[0] == positions.data_ptr()]:
                del self.entries[key]


structures = Structures()
