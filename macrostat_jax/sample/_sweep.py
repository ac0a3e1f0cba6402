"""Sweeps: many runs, chunk by chunk."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._model import Model
from .._progress import progress as _progress
from .._simulate import Inputs, Plan, float_dtype, prepare, trajectory
from . import _chunks, _places
from ._designs import Design

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What was kept of n runs.

    Attributes:
        model: the model.
        params: its parameters, those that vary of shape (n, *shape).
        values: what `keep` returned, as NumPy arrays with the runs on `axis`.
        axis: 0; 1 for whole paths, each variable of shape (T, n, *shape).
    """

    model: Model
    params: Any
    values: Any
    axis: int = 0

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[self.axis]

    def __repr__(self) -> str:
        failed = len(self) - int(self.finite.sum())
        return f"Sweep({self.model.name}: {len(self)} runs, {failed} of them not finite)"

    @functools.cached_property
    def finite(self) -> np.ndarray:
        """Which runs (n,) have only finite values. The others are kept as they are."""
        good = np.ones(len(self), bool)
        for leaf in jax.tree.leaves(self.values):
            if np.issubdtype(leaf.dtype, np.inexact):
                others = tuple(axis for axis in range(leaf.ndim) if axis != self.axis)
                good &= np.isfinite(leaf).all(axis=others)
        return good

    def to_pandas(self) -> pd.DataFrame:
        """A row per run: the parameters that vary, then what was kept, a column per number.

        Raises:
            ValueError: whole paths were kept; `macrostat_jax.to_xarray(found.values)` takes them.
        """
        import pandas as pd

        if self.axis == 1:
            raise ValueError(
                "Paths are no table: macrostat_jax.to_xarray(found.values) takes them."
            )
        columns: dict[str, np.ndarray] = {}
        for key, field in self.params.fields.items():
            array = np.asarray(getattr(self.params, key))
            if array.ndim > len(field.shape):
                flat = array.reshape(len(array), -1)
                columns |= dict(zip(_places.elements(key, field), flat.T, strict=True))
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.values):
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
            flat = leaf.reshape(len(leaf), -1)
            names = (
                [name]
                if leaf.ndim == 1
                else [_places.labelled(name, i) for i in np.ndindex(leaf.shape[1:])]
            )
            columns |= dict(zip(names, flat.T, strict=True))
        return pd.DataFrame(columns).rename_axis("run")


def sweep(
    model: Model,
    params: Any,
    scenario: Any = None,
    *,
    keep: Callable[[Any], Any] | None = None,
    chunk: int | None = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    progress: bool = False,
) -> Sweep:
    """Runs a model at many points, a chunk at a time, and keeps of each run what you ask for.

    Args:
        model: the model.
        params: a `Design`, or parameters with a batch axis: n runs. (`design.params(model, base)` gives
            a design's points other parameters beside them than the defaults.)
        scenario, shocks, initial, periods: as for `simulate`; they may have a batch axis of n, too.
        key: of a random model: one key, with common random numbers for all runs, or n keys.
        keep: a function of the path of one run, a `State` of shapes (T, *shape), to arrays or a pytree of
            them. It is compiled with the simulation, once per function object: define it once and
            reuse it. None keeps all paths, which takes T * n numbers for each variable.
        chunk: how many runs are simulated at once. They share one compiled program, the last ones too.
            Default: what suits the device, within `CHUNK_BYTES` of paths.
        progress: show a bar on standard error.

    Returns:
        A `Sweep` in the order of the points, in the dtype that `simulate` would have.

    Raises:
        ValueError: nothing has a batch axis, a chunk below 1; and what `simulate` and
            `Design.params` raise. Runs without a solution, or that diverge, are no error: they are NaN
            or infinite, and `Sweep.finite` marks them.
    """
    if isinstance(params, Design):
        params = params.params(model)
    inputs, plan = prepare(model, params, scenario, shocks, initial, periods, key)
    if plan.batch is None:
        raise ValueError(
            f"{model.name}: a sweep needs parameters, or another input, with a batch axis."
        )
    leaves, structure = jax.tree.flatten(inputs)
    batched = [axis is not None for axis in plan.batch]
    leaves = [_on_host(x) if many else x for x, many in zip(leaves, batched, strict=True)]
    count = next(len(x) for x, many in zip(leaves, batched, strict=True) if many)
    kept = _Kept(plan, keep)

    def run(rows: np.ndarray) -> Any:
        taken = [x[rows] if many else x for x, many in zip(leaves, batched, strict=True)]
        return _compile.call(_run, kept, structure.unflatten(taken))

    numbers = sum(math.prod(field.shape) for field in model.State.fields.values())
    run_bytes = plan.periods * numbers * float_dtype(inputs).itemsize
    size = _chunks.chunk_size(count, run_bytes, chunk)
    axis = 1 if keep is None else 0
    arrays: list[np.ndarray] = []
    form: Any = None
    with _progress(count, f"Sweep of {model.name}", show=progress) as advance:
        for start, stop, found in _chunks.in_chunks(run, count, size):
            parts, form = jax.tree.flatten(found)
            arrays = arrays or [_whole(part, axis, count) for part in parts]
            for whole, part in zip(arrays, parts, strict=True):
                at = (slice(None),) * axis
                whole[*at, start:stop] = np.asarray(part)[*at, : stop - start]
            advance(stop - start)
    return Sweep(model, inputs.params, form.unflatten(arrays), axis)


class _Kept(NamedTuple):
    """What the program of a chunk is specialised to."""

    plan: Plan
    keep: Callable[[Any], Any] | None


@functools.partial(jax.jit, static_argnums=0)
def _run(kept: _Kept, inputs: Inputs) -> Any:
    path = trajectory(kept.plan, inputs)
    return path if kept.keep is None else jax.vmap(kept.keep, in_axes=1)(path)


def _on_host(array: Any) -> Any:
    """As NumPy, whose rows are taken without compiling anything. Keys have no NumPy form."""
    return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else np.asarray(array)


def _whole(part: Any, axis: int, count: int) -> np.ndarray:
    return np.empty((*part.shape[:axis], count, *part.shape[axis + 1 :]), part.dtype)
