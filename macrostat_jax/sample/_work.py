"""What a worker does with a chunk: look, compute, write, and say so."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import _files, _named
from ._folder import Folder
from ._program import Program, versions
from ._runs import Source


class Task(NamedTuple):
    """A chunk that can be computed anywhere: a slice of the inputs, and where its results belong.

    Attributes:
        number, start, stop: the chunk, its first run, and the one after its last.
        own: position among the inputs -> the rows of this chunk.
        about: column -> what tells its runs apart.
        folder, sweep: where the file goes, and the digest of the sweep whose folder that must be; None
            hands the values back.
    """

    number: int
    start: int
    stop: int
    own: Mapping[int, Source]
    about: Mapping[str, np.ndarray]
    folder: str | None = None
    sweep: str = ""


class Receipt(NamedTuple):
    """What comes back of a chunk.

    Attributes:
        number, runs, diverged: the chunk, how many runs it has, and how many of them are not finite.
        seconds: of computing and writing; 0 where its file was there before.
        values: what was kept, where there is no folder.
    """

    number: int
    runs: int
    diverged: int
    seconds: float
    values: Any = None


def work(program: Program, task: Task) -> Receipt:
    """Computes a chunk, unless it is finished, and writes its file.

    Raises:
        RuntimeError: this process has other versions than the one that began the sweep. Also what
            computing and writing raise.
    """
    here = versions()
    if changed := [
        f"{k} {v} there, {here[k]} here" for k, v in program.versions.items() if v != here[k]
    ]:
        raise RuntimeError(f"A worker has other versions than the sweep: {', '.join(changed)}.")
    count = task.stop - task.start
    if task.folder is None:
        begun = time.perf_counter()
        values = program(task.start, task.stop, task.own)
        diverged = count - int(_named.finite(values, program.axis).sum())
        return Receipt(task.number, count, diverged, time.perf_counter() - begun, values)
    folder = Folder.open(Path(task.folder), task.sweep)
    if (found := finished(folder, task.number)) is not None:
        return found
    begun = time.perf_counter()
    values = program(task.start, task.stop, task.own)
    good = _named.finite(values, program.axis)
    receipt = {
        "sweep": folder.digest,
        "chunk": task.number,
        "start": task.start,
        "stop": task.stop,
        "diverged": int((~good).sum()),
        "seconds": round(time.perf_counter() - begun, 6),
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "device": jax.devices()[0].device_kind,
    }
    rows = np.arange(task.start, task.stop)
    content = _files.encode(folder.files, task.about, values, program.axis, rows, good, receipt)
    folder.write(task.number, content)
    return Receipt(task.number, count, receipt["diverged"], time.perf_counter() - begun)


def finished(folder: Folder, number: int) -> Receipt | None:
    """The receipt of a chunk whose file is there and whole; None where it has to be computed."""
    try:
        found = folder.receipt(number)
    except _files.Damaged:
        return None  # who resumes a sweep says so, and has it computed again
    if found is None:
        return None
    return Receipt(number, found["stop"] - found["start"], found["diverged"], 0.0)
