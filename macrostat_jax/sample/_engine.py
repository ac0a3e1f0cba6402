"""Chunks: what a worker does with one, how they are handed to an executor, and those that fail."""

from __future__ import annotations

import errno
import os
import queue
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import _files, _kept
from ._folder import Folder, OtherSweep, in_a_line
from ._program import Program, versions
from ._runs import Source

AHEAD = 64
"""So many chunks are with the executor at a time. Each carries its slice of the inputs."""
NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


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
        diverged = count - int(_kept.finite(values, program.axis).sum())
        return Receipt(task.number, count, diverged, time.perf_counter() - begun, values)
    folder = Folder.open(Path(task.folder), task.sweep)
    if (found := finished(folder, task.number)) is not None:
        return found
    begun = time.perf_counter()
    values = program(task.start, task.stop, task.own)
    good = _kept.finite(values, program.axis)
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


def receipt(folder: Folder, number: int) -> Receipt | None:
    """The receipt of a chunk whose file is there; None where it is not.

    Raises:
        Damaged: the file is torn.
    """
    found = folder.receipt(number)
    if found is None:
        return None
    return Receipt(number, found["stop"] - found["start"], found["diverged"], 0.0)


def finished(folder: Folder, number: int) -> Receipt | None:
    """The receipt of a chunk whose file is there and whole; None where it has to be computed."""
    try:
        return receipt(folder, number)
    except _files.Damaged:
        return None  # who resumes a sweep says so, and has it computed again


class Status(NamedTuple):
    """How far a sweep is.

    Attributes:
        total, done, before: runs of the sweep, finished ones, and those among them that were finished
            before this call.
        diverged: finished runs with values that are not finite.
        failed: chunks that kept failing. seconds: since the call.
    """

    total: int
    done: int
    before: int
    diverged: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Runs per second."""
        return (self.done - self.before) / self.seconds if self.seconds else 0.0

    @property
    def remaining(self) -> float:
        """Seconds that the rest will take at this rate."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


class Failure(NamedTuple):
    """A chunk that kept failing."""

    number: int
    error: BaseException
    attempts: int


class Here(Executor):
    """Computes what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            # Within a host callback, JAX makes an error of it.
            if in_a_line(error).startswith("KeyboardInterrupt"):
                raise KeyboardInterrupt from error
            future.set_exception(error)
        return future


def executor_of(given: Any) -> Executor:
    """What chunks are submitted to: an executor, or the workers of a Dask client.

    Raises:
        TypeError: it is neither. ValueError: processes that would hang.
    """
    if isinstance(given, ProcessPoolExecutor):
        context = getattr(given, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "JAX hangs in processes that are forked: pass ProcessPoolExecutor(n, mp_context="
                "multiprocessing.get_context('spawn')), or sample.cluster(n)."
            )
    if isinstance(given, Executor):
        return given
    if hasattr(given, "get_executor"):  # a dask.distributed.Client
        return given.get_executor(pure=False)
    raise TypeError(
        "executor takes a concurrent.futures executor or a dask.distributed client, not "
        f"{type(given).__name__}."
    )


def is_elsewhere(given: Any) -> bool:
    """Whether chunks are sent to other processes."""
    return isinstance(given, ProcessPoolExecutor) or hasattr(given, "get_executor")


def threads(executor: Executor | None) -> int:
    """How many chunks an executor computes at a time in this process."""
    at_once = getattr(executor, "_max_workers", 1)
    return at_once if isinstance(executor, ThreadPoolExecutor) else 1


def compute(
    program: Program, tasks: Iterable[Task], executor: Executor, retries: int
) -> Iterator[Receipt | Failure]:
    """Yields what becomes of each chunk, in the order in which they end.

    Raises:
        OSError: there is no room for results. OtherSweep: the folder has become that of another sweep.
            RuntimeError: the executor, or the cluster, broke down. Chunks that were finished stay so.
    """
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    waiting = iter(tasks)
    flying: dict[Future, tuple[Task, int]] = {}
    most = 1 if isinstance(executor, Here) else AHEAD

    def launch(task: Task, attempt: int) -> None:
        try:
            future = executor.submit(work, program, task)
        except BrokenExecutor as error:
            raise _broken(error, task) from error
        flying[future] = task, attempt
        future.add_done_callback(ended.put)

    try:
        while True:
            while len(flying) < most and (task := next(waiting, None)) is not None:
                launch(task, 1)
            if not flying:
                return
            future = ended.get()
            task, attempt = flying.pop(future)
            try:
                found = future.result()
            except (BrokenExecutor, CancelledError) as error:
                raise _broken(error, task) from error
            except OtherSweep:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                # Dask has already given up on a chunk under which workers keep dying.
                if attempt <= retries and type(error).__name__ != "KilledWorker":
                    launch(task, attempt + 1)
                    continue
                found = Failure(task.number, error, attempt)
            yield found
    finally:
        for future in flying:
            future.cancel()


def _broken(error: BaseException, task: Task) -> RuntimeError:
    hint = (
        "With a folder, out=, what was finished would have been kept."
        if task.folder is None
        else "What was finished is kept: call sweep again with the same folder to go on."
    )
    reason = str(error) or "its workers are gone"
    return RuntimeError(f"The executor broke down ({type(error).__name__}: {reason}). {hint}")


class Clock:
    """Counts receipts into a `Status`."""

    def __init__(self, total: int, before: int, diverged: int) -> None:
        self.total, self.before, self.done, self.diverged = total, before, before, diverged
        self.failed = 0
        self.begun = time.perf_counter()

    def take(self, found: Receipt | Failure) -> Status:
        if isinstance(found, Receipt):
            self.done += found.runs
            self.diverged += found.diverged
        else:
            self.failed += 1
        return self.status()

    def status(self) -> Status:
        seconds = time.perf_counter() - self.begun
        return Status(self.total, self.done, self.before, self.diverged, self.failed, seconds)
