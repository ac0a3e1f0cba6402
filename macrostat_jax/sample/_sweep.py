"""Sweeps: many runs, chunk by chunk, in this process or on many machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from .._model import Model
from .._progress import progress as _progress
from .._simulate import float_dtype
from . import _chunks, _memory
from ._found import Sweep
from ._program import Program, bytes_of, place, whole
from ._runs import Runs, Source, runs


def sweep(
    model: Model,
    params: Any,
    scenario: Any = None,
    *,
    keep: Callable[[Any], Any] | Collection[str] | None = None,
    base: Any = None,
    chunk: int | None = None,
    block: int | None = None,
    memory: int | str | None = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    progress: bool = False,
) -> Sweep:
    """Runs a model at many points, a chunk at a time, and keeps of each run what you ask for.

    Args:
        model: the model.
        params: a `Design`, a `Cross` of one, or parameters with a batch axis: n runs.
        scenario, shocks, initial, periods: as for `simulate`; they may have a batch axis of n, too.
        key: of a random model: one key, with common random numbers for all runs, or n keys.
        base: the parameters that a design does not sample; default: the model's.
        keep: a function of the path of one run, a `State` of shapes (T, *shape), to arrays or a pytree of
            them. It is compiled with the simulation, once per function object: define it once and
            reuse it. Names of variables keep their whole paths; None keeps all paths, which takes
            T * n numbers for each variable.
        chunk: how many runs are finished at a time.
        block: how many runs of a chunk are simulated at once, on each device; all blocks share one
            compiled program. Default: what suits the device, within `CHUNK_BYTES` of paths, and at
            most a chunk. Results are the same to the last bit for all chunks that are multiples of
            a block, and within a few units in the last place for others.
        memory: how much the sweep may add to the memory of the process, programs and results included:
            `"2GB"`. Blocks are made smaller until XLA's own account of them fits.
        progress: show a bar on standard error.

    Returns:
        A `Sweep` in the order of the points, in the dtype that `simulate` would have.

    Raises:
        ValueError: nothing has a batch axis, a chunk or block below 1, a memory limit that cannot be met
            (with the least that would do); and what `simulate` and `Design.params` raise. Runs without
            a solution, or that diverge, are no error: they are NaN or infinite, and `Sweep.finite`
            marks them.
    """
    account = None if memory is None else _memory.Account(_memory.in_bytes(memory))
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
    program, own = _program(found, keep, chunk, block)
    if account is not None:
        sources = list(found.sources)
        kept = bytes_of(program.shapes(sources)) // program.block * found.count
        account.fit(program, sources, kept, 0, found.count)
    arrays: list[np.ndarray] = []
    form: Any = None
    with _progress(found.count, f"Sweep of {model.name}", show=progress) as advance:
        for start, stop, taken in program.blocks(0, found.count, own):
            parts, form = jax.tree.flatten(taken)
            arrays = arrays or [whole(part, program.axis, found.count) for part in parts]
            for target, part in zip(arrays, parts, strict=True):
                place(target, part, program.axis, start, stop)
            advance(stop - start)
    labels = {n: source.take(np.arange(found.count)) for n, source in found.labels.items()}
    values = form.unflatten(arrays)
    return Sweep(model, found.params(), values, program.axis, labels, program.block)


def _program(
    found: Runs, keep: Any, chunk: int | None, block: int | None
) -> tuple[Program, dict[int, Source]]:
    """The program of a sweep, and the inputs of which chunks are cut."""
    plan = found.plan
    if keep is not None and not callable(keep):
        if isinstance(keep, str):
            raise TypeError(f"keep takes several names, ({keep!r},), not one string.")
        State = plan.model.State
        plan, keep = plan._replace(recorded=tuple(sorted({State.key_of(n) for n in keep}))), None
    dtype = float_dtype([source.array for source in found.sources])
    fields = plan.model.State.fields
    numbers = sum(math.prod(fields[k].shape) for k in plan.recorded or fields)
    size = _chunks.block_size(found.count, plan.periods * numbers * dtype.itemsize, chunk, block)
    outer = {
        i: s for i, s in enumerate(found.sources) if s.size and s.stride * s.size >= found.count
    }
    shared = {i: s for i, s in enumerate(found.sources) if i not in outer}
    x64 = bool(jax.config.jax_enable_x64)
    return Program(plan, keep, found.form, shared, size, x64), outer
