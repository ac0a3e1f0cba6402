"""A limit to the memory of a sweep: blocks sized by XLA's own account of what they take."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._program import Program, bytes_of
from ._runs import Source

if TYPE_CHECKING:
    from ._sweep import Job

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)}
IN_FLIGHT = 2
"""One block is computed while the results of the one before it are taken."""
COPIES = 3
"""A chunk on its way to a file is in memory as arrays, as a table, and as the file's content."""
MARGIN = 80 << 20
"""For what nobody accounts for: threads, the allocator's slack, the first call of a program (75 MB seen)."""
RETAINED = 128 << 20
"""What the allocator may hold of freed blocks, where there is room for it."""


def in_bytes(memory: int | float | str) -> int:
    """`"2GB"`, `"512 MiB"` or a number of bytes.

    Raises:
        ValueError: anything else.
    """
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", memory.lower())
        if match and match[2] in UNITS:
            memory = float(match[1]) * UNITS[match[2]]
    known = isinstance(memory, int | float | np.integer) and not isinstance(memory, bool)
    if not known or not 1 <= float(memory) < math.inf:
        raise ValueError(f"memory is a size such as '2GB' or '512MiB', or bytes, not {memory!r}.")
    return int(memory)


def shown(size: float) -> str:
    """`1.3GB`, in a form that `in_bytes` takes and that is not less than `size`."""
    for unit in ("kb", "MB", "GB"):
        scale = UNITS[unit[0].lower()]
        if size < 1000 * scale or unit == "GB":
            tenths = -(-int(size) * 10 // scale)
            return f"{tenths / 10:g}{unit}"
    raise AssertionError


class Account:
    """What a sweep may still take of its limit.

    Args:
        limit: bytes that the process may grow by from here on.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.start = _resident("VmRSS")
        self._peak = _resident("VmHWM")

    def used(self) -> int:
        """By how much the process has grown: programs and the compiler's memory among it."""
        return max(_resident("VmRSS") - self.start, 0)

    def peak(self) -> int:
        """By how much it had grown at most, as far as that was more than ever before."""
        now = _resident("VmHWM")
        return max(now - self.start, 0) if now > self._peak else 0

    def fit(self, job: Job, *, in_memory: bool, cut: bool, threads: int = 1) -> None:
        """Makes the blocks of a job small enough to fit.

        Args:
            in_memory: all results are held in memory. cut: chunks are handed on one by one.
            threads: how many chunks are computed at a time in this process.

        Raises:
            ValueError: not even one run at a time fits; with the least limit that would do.
        """
        program, sources, count = job.program, list(job.found.sources), job.found.count
        about = job.found.about_bytes if in_memory else 0

        def kept(block: int) -> int:
            chunk = COPIES * threads * job.chunk(block) if cut else 0
            return job.kept_bytes * (chunk + (count if in_memory else 0)) + about

        while True:
            devices = program.devices(count)
            need = _account(program, sources, devices) * threads
            fixed = self.used() + MARGIN
            total = max(fixed + kept(program.block) + need, self.peak())
            if total <= self.limit:
                program.frugal = total + RETAINED > self.limit
                return
            per_run = need / program.block + (kept(2) - kept(1))
            room = self.limit - fixed - kept(1)
            if program.block == 1 or room < per_run:
                one = need // program.block
                # With that limit, another program will be compiled for smaller blocks.
                least = max(fixed + self.used() + kept(1) + one, self.peak())
                raise ValueError(
                    f"{program.plan.model.name}: {shown(self.limit)} of memory do not suffice. The least "
                    f"that would do is {shown(1.05 * least)}: {shown(kept(1))} for what is kept, "
                    f"{shown(least - kept(1) - one)} for the compiled program and around it, {shown(one)} "
                    "for one run at a time. Keep less of a run, or pass out= to keep it in files."
                )
            program.block = min(program.block // 2, 1 << (int(room / per_run).bit_length() - 1))


def _account(program: Program, sources: list[Source], devices: int) -> int:
    """Bytes for the blocks that are in flight at a time, as XLA counts them."""
    analysis: Any = program.lower(sources, devices).compile().memory_analysis()
    if analysis is None:  # a backend that keeps no account
        inputs = program.inputs(sources, np.zeros(program.block, int))
        block = 3 * (bytes_of(inputs) + bytes_of(program.shapes(sources)))
    else:
        parts = ("argument", "output", "temp")
        block = sum(getattr(analysis, f"{part}_size_in_bytes") for part in parts)
    local = devices if jax.default_backend() == "cpu" else 1  # host devices share one memory
    return IN_FLIGHT * block * local


def _resident(what: str) -> int:
    """A figure of this process's memory in bytes; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    match = re.search(rf"{what}:\s+(\d+) kB", text)
    return int(match[1]) * 1024 if match else 0
