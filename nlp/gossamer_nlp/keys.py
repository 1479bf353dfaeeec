"""Names as 64-bit numbers, so that an index needs no list of all terms: two names of a billion hardly ever meet."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hashed(names: Sequence[str]) -> NDArray[np.uint64]:
    """The first 8 bytes of each name's BLAKE2b, little-endian (N,)."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), "<u8")
