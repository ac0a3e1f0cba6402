"""Sweeps: many runs, chunk by chunk, in this process or on many machines."""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import _compile
from .._inputs import float_dtype
from .._model import Model
from .._progress import progress as _bar
from . import _chunks, _engine, _files, _kept, _memory
from ._folder import Folder, identity, in_a_line, read_manifest
from ._program import Program, bytes_of, place, whole
from ._results import StoredSweep, Sweep
from ._runs import Runs, runs

Tell = Callable[[_engine.Status], Any]


def sweep(
    model: Model,
    params: Any,
    scenario: Any = None,
    *,
    keep: Callable[[Any], Any] | Collection[str] | None = None,
    base: Any = None,
    out: str | os.PathLike | None = None,
    executor: Any = None,
    chunk: int | None = None,
    block: int | None = None,
    memory: int | str | None = None,
    files: str | None = None,
    retries: int = 2,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    progress: bool | Tell = False,
) -> Any:
    """Runs a model at many points, a chunk at a time, and keeps of each run what you ask for.

    Args:
        model: the model.
        params: a `Design`, a `Cross` of one, or parameters with a batch axis: n runs.
        scenario, shocks, initial, periods: as for `simulate`; they may have a batch axis of n, too.
        key: of a random model: one key, with common random numbers for all runs, or n keys.
        base: the parameters that a design does not sample; default: the model's.
        keep: a function of the path of one run, a `State` of shapes (T, *shape), to arrays or a pytree of
            them. It is compiled with the simulation, once per function object: define it once, reuse it,
            and do not change what it reads besides the path, which is compiled in. `Outcomes` makes the
            usual ones. Names of variables keep their whole paths; None keeps all paths, which takes
            T * n numbers for each variable.
        out: a folder for the results: one file for each chunk, written at once or not at all. A sweep
            that was stopped goes on where it was when it is called again. Without it, results are
            held in memory.
        executor: where chunks are computed: a `concurrent.futures` executor, or a client of Dask
            (`sample.cluster`). Default: here. Other processes are spawned, not forked; they need `model`
            and `keep` to be importable there, or cloudpickle, and see `out` under the same name.
        chunk: how many runs are finished at a time, in one file. Default: some 64 chunks.
        block: how many runs of a chunk are simulated at once, on each device; all blocks share one
            compiled program. Default: what suits the device, within `CHUNK_BYTES` of paths, and at
            most a chunk. Where XLA computes with one thread, results are the same to the last bit for
            any number and order of workers and for all chunks that are multiples of a block; for
            others they agree to some units in the last place.
        memory: how much the sweep may add to the memory of the process, and of every worker, programs and
            results included: `"2GB"`. Blocks are made smaller until XLA's own account of them fits.
            Threads of an executor share it.
        files: `"parquet"` or `"zarr"`; default: Parquet for up to 256 numbers a run, Zarr for more and
            for paths.
        retries: how often a chunk that failed is tried again, before it is recorded as failed and the
            sweep goes on without it.
        progress: show a bar on standard error; or a function that is called with a `Status` after every
            chunk.

    Returns:
        A `Sweep` in the order of the points, in the dtype that `simulate` would have; with `out`, a
        `StoredSweep`, as `sample.open(out)` gives. Chunks that failed are warned of and listed there.

    Raises:
        ValueError: nothing has a batch axis, or no runs; a chunk or block below 1; a memory limit that
            cannot be met (with the least that would do); forked processes; `files` without `out`; a
            folder with results of another sweep (with what differs); two numbers of one name for a
            folder; and what `simulate` and `Design.params` raise. TypeError: a `keep` that is neither
            a function nor names, that has no hash, or whose numbers files do not hold; a call within
            `jax.jit` or `jax.grad`. OSError: no room for results. RuntimeError: the executor broke
            down, or, without `out`, a chunk failed. Runs without a solution, or that diverge, are no
            error: they are NaN or infinite, and marked as not `finite` in what was kept of them.
    """
    limit = None if memory is None else _memory.Account(_memory.in_bytes(memory))
    submit = None if executor is None else _engine.executor_of(executor)
    folder = None if out is None else Path(out).absolute()
    if files not in (None, *_files.ENDINGS):
        raise ValueError(f"files is one of {', '.join(_files.ENDINGS)}, not {files!r}.")
    if files is not None and folder is None:
        raise ValueError("files says how results are kept in a folder: name it with out=.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries is a whole number, at least 0, not {retries!r}.")
    found = runs(
        model,
        params,
        scenario,
        shocks=shocks,
        initial=initial,
        periods=periods,
        key=key,
        base=base,
    )
    if folder is not None:
        chunk, block = as_before(folder, found.count, chunk, block)
    job = Job(found, keep, chunk, block)
    if limit is not None:
        limit.fit(
            job,
            in_memory=folder is None,
            cut=folder is not None or submit is not None,
            threads=_engine.threads(submit),
        )
    if _engine.is_elsewhere(executor):
        _ = job.program.packed  # what cannot be sent is said now, and not of every chunk
    with reporting(model, found.count, progress) as report:
        if folder is not None:
            return stored(job, folder, files, submit, retries, report)
        if submit is not None:
            return gathered(job, submit, retries, report)
        return here(job, report)


class Job:
    """What is to be computed.

    Attributes:
        found: the runs. program: what computes them. own: the inputs of which chunks are cut.
    """

    def __init__(self, found: Runs, keep: Any, chunk: int | None, block: int | None) -> None:
        self.found = found
        self._chunk = None if chunk is None else _chunks.whole_number("chunk", chunk)
        plan = found.plan
        if callable(keep):
            _check_hashable(keep)
        elif keep is not None:
            plan, keep = plan._replace(recorded=_named_paths(plan.model, keep)), None
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

    def tasks(self, numbers: list[int], folder: Folder | None = None) -> Iterator[_engine.Task]:
        """The chunks of these numbers, one by one as they are wanted."""
        size = self.chunk()
        for number in numbers:
            start, stop = number * size, min((number + 1) * size, self.found.count)
            own = {i: source.cut(start, stop) for i, source in self.own.items()}
            if folder is None:
                yield _engine.Task(number, start, stop, own, {})
                continue
            about = self.found.columns(np.arange(start, stop))
            yield _engine.Task(number, start, stop, own, about, str(folder.path), folder.digest)

    def result(self, values: Any) -> Sweep:
        found, program = self.found, self.program
        model, labels = found.plan.model, found.labelled()
        return Sweep(model, found.params(), values, program.axis, labels, program.block)


def _named_paths(model: Model, keep: Any) -> tuple[str, ...]:
    """The variables whose whole paths are kept."""
    if isinstance(keep, str):
        raise TypeError(f"keep takes several names, ({keep!r},), not one string.")
    if isinstance(keep, Mapping) or not isinstance(keep, Iterable):
        raise TypeError(
            f"keep is a function of a path, or names of variables, not a {type(keep).__name__}."
        )
    names = tuple(sorted({model.State.key_of(name) for name in keep}))
    if not names:
        raise ValueError("keep names no variable; None keeps all of them.")
    return names


def _check_hashable(keep: Any) -> None:
    try:
        hash(keep)
    except TypeError as error:
        raise TypeError(
            f"keep is compiled once for each object, which must be hashable ({error}): declare a "
            "dataclass with frozen=True, and give it numbers and tuples."
        ) from None


def here(job: Job, tell: Tell) -> Sweep:
    """In this process, into memory."""
    program, count = job.program, job.found.count
    clock = _engine.Clock(count, 0, 0)
    at = (slice(None),) * program.axis

    def tell_of(first: int, last: int, arrays: list[np.ndarray]) -> None:
        good = _kept.finite([array[*at, first:last] for array in arrays], program.axis)
        tell(clock.take(_engine.Receipt(0, last - first, int((~good).sum()), 0.0)))

    counted = tell_of if tell is not unheard else lambda *_: None
    return job.result(program.gather(0, count, job.own, counted))


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
    design, columns = identity(program, job.found, job.shapes, job.chunk(), files)
    folder = Folder.begin(path, design, columns)
    folder.clear_abandoned()
    before, torn = [], []
    for i in range(folder.chunks):
        # one look at each file: another sweep of the folder may finish it between two
        try:
            receipt = _engine.receipt(folder, i)
        except _files.Damaged:
            torn.append(i)
        else:
            before += [] if receipt is None else [receipt]
    there = {receipt.number for receipt in before}
    if torn:
        warnings.warn(
            f"{folder.path}: the files of {len(torn)} chunks are torn (the first is "
            f"{folder.file(torn[0]).name}); they are computed again.",
            RuntimeWarning,
            stacklevel=3,
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
            stacklevel=3,
        )
    return result


def as_before(
    path: Path, runs: int, chunk: int | None, block: int | None
) -> tuple[int | None, int | None]:
    """Chunk and block, where they are not given those of the sweep that a folder holds.

    Left to be chosen anew, a block may be another one: what fits into a limit of memory depends on what
    the process holds when it is asked.
    """
    manifest = read_manifest(path)
    if manifest is None or manifest["design"]["runs"] != runs:
        return chunk, block
    there = manifest["design"]
    return (
        there["chunk"] if chunk is None else chunk,
        there["block"] if block is None else block,
    )


def unheard(status: _engine.Status) -> None:
    """Nobody wants to know."""


@contextmanager
def reporting(model: Model, total: int, progress: bool | Tell) -> Iterator[Tell]:
    """What is told of every chunk: a bar, a function of the user's, or nothing."""
    if callable(progress) or not progress:
        yield progress or unheard
        return
    shown = 0
    with _bar(total, f"Sweep of {model.name}") as advance:

        def tell(status: _engine.Status) -> None:
            nonlocal shown
            advance(status.done - shown)
            shown = status.done

        yield tell
