"""How many runs are simulated at once, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ..diff._finite import pad_to

CHUNK = {"cpu": 1040}
"""Runs at once, by platform: on a CPU, more no longer fit its caches, and at a power of two the periods of a
path fall on the same lines of them: a loss then takes twice as long."""
CACHE_BYTES = {"cpu": 12 << 20}
"""The paths of a chunk stay in the caches, which for 82 variables is four times as fast."""
CACHE_LEAST = 64
"""But a chunk is no smaller for that: each operation would be."""
CHUNK_ELSEWHERE = 65_536
CHUNK_BYTES = 1 << 28
"""The paths of a chunk take at most this memory, by default."""


def chunk_size(count: int, run_bytes: int, chunk: int | None = None) -> int:
    """How many of `count` runs, each of which takes `run_bytes`, are simulated at once: at most `chunk`.

    Raises:
        ValueError: a chunk that is no whole number of at least 1.
    """
    if chunk is None:
        platform = jax.default_backend()
        chunk = min(CHUNK.get(platform, CHUNK_ELSEWHERE), _fitting(CHUNK_BYTES, run_bytes))
        if platform in CACHE_BYTES:
            chunk = min(chunk, max(_fitting(CACHE_BYTES[platform], run_bytes), CACHE_LEAST))
    return min(whole_number("chunk", chunk), pad_to(count))


def _fitting(size: int, run_bytes: int) -> int:
    """A power of 2 of runs."""
    return 1 << (max(size // max(run_bytes, 1), 1).bit_length() - 1)


def block_size(count: int, run_bytes: int, chunk: int | None, block: int | None) -> int:
    """How many runs of a chunk are simulated at once: a block, or the chunk where that is smaller."""
    size = chunk_size(count, run_bytes) if block is None else whole_number("block", block)
    return size if chunk is None else min(size, whole_number("chunk", chunk))


FILES = 64
"""A sweep is cut into about so many chunks: what is lost when it is killed is one of them."""
FILE_BLOCKS, FILE_BYTES = 32, 1 << 26
"""A chunk holds at most so many blocks, and takes at most this memory where it has several."""


def chunk_of(count: int, block: int, kept_bytes: int) -> int:
    """How many runs are finished together: some blocks, whose runs take `kept_bytes` of memory each."""
    fitting = FILE_BYTES // max(kept_bytes * block, 1)
    blocks = min(-(-count // (FILES * block)), FILE_BLOCKS, fitting)
    return block * max(blocks, 1)


def whole_number(what: str, value: Any) -> int:
    """`value`, if it is a whole number of runs."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{what} must be a whole number of runs, at least 1, not {value!r}.")
    return int(value)


def in_chunks(
    run: Callable[[np.ndarray], Any], count: int, size: int, *, ahead: bool = True
) -> Iterator[tuple[int, int, Any]]:
    """Yields `(start, stop, run(rows))` for `count` rows, `size` of them at a time.

    `rows` are always `size` indices, so that one compiled program serves: the last chunk repeats its
    last row, whose copies the caller drops. One chunk runs ahead of the one that is yielded, unless
    `ahead` says no.
    """
    before: tuple[int, int, Any] | None = None
    for start in range(0, count, size):
        stop = min(start + size, count)
        rows = np.minimum(np.arange(start, start + size), count - 1)
        found = start, stop, run(rows)
        if not ahead:
            yield found
            continue
        if before is not None:
            yield before
        before = found
    if before is not None:
        yield before
