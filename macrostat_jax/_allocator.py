"""The C library's allocator, told to keep what is freed for what comes next."""

from __future__ import annotations

import contextlib
import functools

import numpy as np

LARGEST = (32 << 20) - (64 << 10)
"""Just below the largest buffer from which glibc learns."""


@functools.cache
def keep_freed_memory() -> None:
    """Once a process: the memory of a result serves the next one, and is not given back in between.

    By default glibc hands freed buffers of more than some 100 kB back to the system, and takes them anew
    for the next result, zeroed page by page: for the paths of a few thousand variables that takes as long
    as the simulation. It adapts when it sees larger buffers freed: from then on, up to 64 MB that are free
    stay in each of the process's arenas. This allocates such a buffer, and frees it without having touched
    it. Where the user has set MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_, and with other C libraries,
    nothing changes.
    """
    with contextlib.suppress(MemoryError):  # a process whose address space is limited
        np.empty(LARGEST, np.uint8)
