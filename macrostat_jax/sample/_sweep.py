"""Sweeps: many runs, chunk by chunk, in this process or on many machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from .._model import Model
from . import _engine, _files, _memory
from ._job import Job, as_before, gathered, here, reporting, stored
from ._runs import runs

Report = Callable[[_engine.Status], Any]


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
    progress: bool | Report = False,
) -> Any:
    """Runs a model at many points, a chunk at a time, and keeps of each run what you ask for.

    Args:
        model: the model.
        params: a `Design`, a `Cross` of one, or parameters with a batch axis: n runs.
        scenario, shocks, initial, periods: as for `simulate`; they may have a batch axis of n, too.
        key: of a random model: one key, with common random numbers for all runs, or n keys.
        base: the parameters that a design does not sample; default: the model's.
        keep: a function of the path of one run, a `State` of shapes (T, *shape), to arrays or a pytree of
            them. It is compiled with the simulation, once per function object: define it once and
            reuse it. `Outcomes` makes the usual ones. Names of variables keep their whole paths; None
            keeps all paths, which takes T * n numbers for each variable.
        out: a folder for the results: one file for each chunk, written at once or not at all. A sweep
            that was stopped goes on where it was when it is called again. Without it, results are
            held in memory.
        executor: where chunks are computed: a `concurrent.futures` executor, or a client of Dask
            (`sample.cluster`). Default: here. Other processes need `model` and `keep` to be importable
            there, or cloudpickle, and see `out` under the same name.
        chunk: how many runs are finished at a time, in one file. Default: some 64 chunks.
        block: how many runs of a chunk are simulated at once, on each device; all blocks share one
            compiled program. Default: what suits the device, within `CHUNK_BYTES` of paths, and at
            most a chunk. Where XLA computes with one thread, results are the same to the last bit for
            any number and order of workers and for all chunks that are multiples of a block; for
            others they agree to some units in the last place.
        memory: how much the sweep may add to the memory of the process, and of every worker, programs and
            results included: `"2GB"`. Blocks are made smaller until XLA's own account of them fits.
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
        ValueError: nothing has a batch axis; a chunk or block below 1; a memory limit that cannot be met
            (with the least that would do); a folder with results of another sweep (with what
            differs); and what `simulate` and `Design.params` raise. OSError: no room for results.
            RuntimeError: the executor broke down, or, without `out`, a chunk failed. Runs without a
            solution, or that diverge, are no error: they are NaN or infinite, and marked as not
            `finite`.
    """
    limit = None if memory is None else _memory.Account(_memory.in_bytes(memory))
    submit = None if executor is None else _engine.executor_of(executor)
    folder = None if out is None else Path(out).absolute()
    if files not in (None, *_files.ENDINGS):
        raise ValueError(f"files is one of {', '.join(_files.ENDINGS)}, not {files!r}.")
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
    if folder is not None and chunk is None and block is None:
        chunk, block = as_before(folder)
    job = Job(found, keep, chunk, block)
    if limit is not None:
        limit.fit(job, in_memory=folder is None, cut=folder is not None or submit is not None)
    with reporting(model, found.count, progress) as report:
        if folder is not None:
            return stored(job, folder, files, submit, retries, report)
        if submit is not None:
            return gathered(job, submit, retries, report)
        return here(job, report)
