"""Hands chunks to an executor, and deals with those that fail."""

from __future__ import annotations

import errno
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, NamedTuple

from ._program import Program
from ._work import Receipt, Task, work

AHEAD = 64
"""So many chunks are with the executor at a time. Each carries its slice of the inputs."""
NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


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
            future.set_exception(error)
        return future


def executor_of(given: Any) -> Executor:
    """What chunks are submitted to: this process, an executor, or the workers of a Dask client.

    Raises:
        TypeError: it is none of these.
    """
    if given is None:
        return Here()
    if isinstance(given, Executor):
        return given
    if hasattr(given, "get_executor"):  # a dask.distributed.Client
        return given.get_executor(pure=False)
    raise TypeError(
        "executor takes a concurrent.futures executor or a dask.distributed client, not "
        f"{type(given).__name__}."
    )


def compute(
    program: Program, tasks: Iterable[Task], executor: Executor, retries: int
) -> Iterator[Receipt | Failure]:
    """Yields what becomes of each chunk, in the order in which they end.

    Raises:
        OSError: there is no room for results. RuntimeError: the executor, or the cluster, broke down.
            Chunks that were finished stay finished.
    """
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    waiting = iter(tasks)
    flying: dict[Future, tuple[Task, int]] = {}
    most = 1 if isinstance(executor, Here) else AHEAD

    def launch(task: Task, attempt: int) -> None:
        try:
            future = executor.submit(work, program, task)
        except BrokenExecutor as error:
            raise _broken(error) from error
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
                raise _broken(error) from error
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


def _broken(error: BaseException) -> RuntimeError:
    return RuntimeError(
        f"The executor broke down ({type(error).__name__}: {error or 'its workers are gone'}). What was "
        "finished is kept: call sweep again with the same folder to go on."
    )


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
