"""A sweep about to be computed, and the three ways to do so: here, by an executor, into a folder."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import _compile
from .._model import Model
from .._progress import progress as _bar
from .._simulate import float_dtype
from . import _chunks, _engine, _files
from ._folder import Folder, in_a_line, read_manifest
from ._found import Sweep
from ._identity import identity
from ._program import Program, bytes_of, place, whole
from ._runs import Runs
from ._stored import StoredSweep
from ._work import Receipt, Task, finished

Tell = Callable[[_engine.Status], Any]


class Job:
    """What is to be computed.

    Attributes:
        found: the runs. keep: what the user wants of them.
        program: what computes them. own: the inputs of which chunks are cut.
    """

    def __init__(self, found: Runs, keep: Any, chunk: int | None, block: int | None) -> None:
        self.found, self.keep = found, keep
        self._chunk = None if chunk is None else _chunks.whole_number("chunk", chunk)
        plan = found.plan
        if keep is not None and not callable(keep):
            if isinstance(keep, str):
                raise TypeError(f"keep takes several names, ({keep!r},), not one string.")
            State = plan.model.State
            plan = plan._replace(recorded=tuple(sorted({State.key_of(name) for name in keep})))
            keep = None
        fields = plan.model.State.fields
        numbers = sum(math.prod(fields[k].shape) for k in plan.recorded or fields)
        dtype = float_dtype([source.array for source in found.sources])
        run_bytes = plan.periods * numbers * dtype.itemsize
        size = _chunks.block_size(found.count, run_bytes, chunk, block)
        sources = dict(enumerate(found.sources))
        self.own = {i: s for i, s in sources.items() if s.stride * s.size >= found.count}
        shared = {i: s for i, s in sources.items() if i not in self.own}
        x64 = bool(_compile.setting("jax_enable_x64"))
        self.program = Program(plan, keep, found.form, shared, size, x64)

    @functools.cached_property
    def shapes(self) -> Any:
        """Shapes and dtypes of what is kept of as many runs as a block had at first."""
        return self.program.shapes(list(self.found.sources))

    @functools.cached_property
    def kept_bytes(self) -> int:
        """The memory of what is kept of one run."""
        runs = jax.tree.leaves(self.shapes)[0].shape[self.program.axis]
        return bytes_of(self.shapes) // runs

    def chunk(self, block: int | None = None) -> int:
        """How many runs are finished together, with blocks of this size."""
        block = self.program.block if block is None else block
        return self._chunk or _chunks.chunk_of(self.found.count, block, self.kept_bytes)

    def tasks(self, numbers: list[int], folder: Folder | None = None) -> Iterator[Task]:
        """The chunks of these numbers, one by one as they are wanted."""
        size = self.chunk()
        for number in numbers:
            start, stop = number * size, min((number + 1) * size, self.found.count)
            own = {i: source.cut(start, stop) for i, source in self.own.items()}
            if folder is None:
                yield Task(number, start, stop, own, {})
                continue
            about = self.found.columns(np.arange(start, stop))
            yield Task(number, start, stop, own, about, str(folder.path), folder.digest)

    def result(self, values: Any) -> Sweep:
        found, every = self.found, np.arange(self.found.count)
        labels = {name: source.take(every) for name, source in found.labels.items()}
        model, program = found.plan.model, self.program
        return Sweep(model, found.params(), values, program.axis, labels, program.block)


def here(job: Job, tell: Tell) -> Sweep:
    """In this process, into memory."""
    program, count = job.program, job.found.count
    clock = _engine.Clock(count, 0, 0)

    def tell_of(runs: int) -> None:
        tell(clock.take(Receipt(0, runs, 0, 0.0)))

    return job.result(program.gather(0, count, job.own, tell_of))


def gathered(job: Job, executor: Executor, retries: int, tell: Tell) -> Sweep:
    """By an executor, into memory."""
    program, count, size = job.program, job.found.count, job.chunk()
    clock = _engine.Clock(count, 0, 0)
    arrays: list[np.ndarray] = []
    form: Any = None
    tasks = job.tasks(list(range(-(-count // size))))
    for found in _engine.compute(program, tasks, executor, retries):
        if isinstance(found, _engine.Failure):
            raise RuntimeError(
                f"Chunk {found.number} failed {found.attempts} times ({in_a_line(found.error)}). With a "
                "folder, out=, a sweep goes on without such chunks and keeps the others."
            ) from found.error
        parts, form = jax.tree.flatten(found.values)
        arrays = arrays or [whole(part, program.axis, count) for part in parts]
        start = found.number * size
        for target, part in zip(arrays, parts, strict=True):
            place(target, part, program.axis, start, start + found.runs)
        tell(clock.take(found))
    return job.result(form.unflatten(arrays))


def stored(
    job: Job, path: Path, files: str | None, executor: Executor | None, retries: int, tell: Tell
) -> StoredSweep:
    """Into a folder: only what is not there yet."""
    program = job.program
    files = files or _files.kind_of(job.shapes, program.axis)
    _files.needs(files)
    design, columns = identity(program, job.found, job.shapes, job.chunk(), files, job.keep)
    folder = Folder.begin(path, design, columns)
    folder.clear_abandoned()
    before = [receipt for i in range(folder.chunks) if (receipt := finished(folder, i)) is not None]
    there = {receipt.number for receipt in before}
    torn = [i for i in range(folder.chunks) if i not in there and folder.file(i).exists()]
    if torn:
        warnings.warn(
            f"{folder.path}: the files of {len(torn)} chunks are torn (the first is "
            f"{folder.file(torn[0]).name}); they are computed again.",
            RuntimeWarning,
            stacklevel=4,
        )
    done, diverged = sum(one.runs for one in before), sum(one.diverged for one in before)
    clock = _engine.Clock(folder.runs, done, diverged)
    tell(clock.status())
    tasks = job.tasks([i for i in range(folder.chunks) if i not in there], folder)
    try:
        for found in _engine.compute(program, tasks, executor or _engine.Here(), retries):
            if isinstance(found, _engine.Failure):
                folder.fail(found.number, found.error, found.attempts)
            tell(clock.take(found))
    except OSError as error:
        if error.errno not in _engine.NO_ROOM:
            raise
        now = clock.status()
        raise OSError(
            error.errno,
            f"{error.strerror or error}. {now.done:,} of {now.total:,} runs are finished, and safe in "
            f"{folder.path}: make room, and call sweep again to go on",
        ) from error
    finally:
        folder.settle()
    result = StoredSweep(folder)
    if result.failed:
        number, first = next(iter(result.failed.items()))
        warnings.warn(
            f"{folder.path}: {len(result.failed)} of {folder.chunks} chunks failed (chunk {number}: "
            f"{first['error']}). The others are there; call sweep again to try these again.",
            RuntimeWarning,
            stacklevel=4,
        )
    return result


def as_before(path: Path) -> tuple[int | None, int | None]:
    """Chunk and block of the sweep that a folder holds, which is resumed with the same."""
    manifest = read_manifest(path)
    if manifest is None:
        return None, None
    return manifest["design"]["chunk"], manifest["design"]["block"]


@contextmanager
def reporting(model: Model, total: int, progress: bool | Tell) -> Iterator[Tell]:
    """What is told of every chunk: a bar, a function of the user's, or nothing."""
    if callable(progress):
        yield progress
        return
    shown = 0
    with _bar(total, f"Sweep of {model.name}", show=progress) as advance:

        def tell(status: _engine.Status) -> None:
            nonlocal shown
            advance(status.done - shown)
            shown = status.done

        yield tell
