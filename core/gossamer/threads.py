"""How many threads compute."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def current_threads() -> int:
    """How many threads a call may use: torch's setting where torch is loaded, otherwise one for each core."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else cores()


def use_threads(count: int) -> None:
    """Let torch compute on so many threads, be it imported already or not yet."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch, where it is loaded, compute on so many threads for a while."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else count
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
