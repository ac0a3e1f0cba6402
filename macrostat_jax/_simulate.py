"""Simulation: one compiled scan over the periods of a scenario."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from . import _compile
from ._inputs import Inputs, Plan, prepare
from ._model import Model
from ._record import Record
from ._trajectory import alone, trajectory

P = TypeVar("P", bound=Record)
X = TypeVar("X", bound=Record)
S = TypeVar("S", bound=Record)


def simulate(
    model: Model[P, X, S],
    params: P | None = None,
    scenario: X | str | None = None,
    *,
    shocks: dict[str, Any] | None = None,
    initial: S | None = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
    record: Collection[str] | None = None,
) -> S:
    """Runs a model over T periods.

    A pure function of its array arguments: it can be called inside `jax.jit`, `jax.vmap`, `jax.grad`
    and the rest. Outside of them it compiles once per model, horizon, dtype and batch size.

    Args:
        model: the model.
        params: from `model.params(...)`; default: its defaults.
        scenario: a record of paths of shape (T, *shape) (or constants of shape `shape`), from
            `model.scenario(...)`; or the name of one of `model.scenarios`; default: the default one.
        shocks: parameter shocks over time, from `model.shocks(...)`; a named scenario brings its own.
        initial: the state before the first period; default: `model.initial_state`.
        periods: T; default: the length of the scenario's paths, else `model.periods`.
        key: the PRNG key of a random model, `jax.random.key(seed)`, or one for each run of a batch,
            `run_keys(seed, runs)`. One key for a batch means common random numbers. What a run draws
            depends on its key and dtype alone: not on the batch it is in, nor on the horizon.
        noise: the random inputs themselves, in place of a key: a `model.Noise` of paths of shape
            (T, *shape), as `model.noise(key)` gives, with an axis for the batch or without.
        checkpoint: trade time for memory in reverse mode: it then keeps about 2 sqrt(T) states
            instead of T. A number n of 2 or more nests n levels, of which each keeps about T^(1/n)
            states and computes the run once more (True is 2).
        record: the variables whose paths are wanted; default: all. The others are None in what is
            returned, and take no memory: a million agents over 100 periods are 400 MB per variable.

    Batches: parameters of shape (B, *shape), paths of shape (B, T, *shape), initial states of shape
    (B, *shape) and keys of shape (B,) run B simulations at once; what has no batch axis is shared.

    Returns:
        The model's `State`, each variable of shape (T, *shape), or (T, B, *shape) for a batch: axis 0
        is always time. Row t is the state at the end of period t. The dtype is that of the widest
        JAX array given; without any, of the widest NumPy array given; without any, JAX's default.

    Raises:
        KeyError: an unknown scenario, shock or variable to record. TypeError: a record of another
            model, or a missing key. ValueError: shapes or horizons that contradict each other.
            RuntimeError: the simultaneous equations of a period have no solution (in a batch: a
            warning, and NaN in the runs concerned; inside a transformation of yours: NaN).
    """
    inputs, plan = prepare(
        model, params, scenario, shocks, initial, periods, key, checkpoint, noise
    )
    if record is not None:
        if isinstance(record, str):
            raise TypeError(f"record takes several names, ({record!r},), not one string.")
        named = {model.State.key_of(name) for name in (*record, *model.solved)}
        plan = plan._replace(recorded=tuple(sorted(named)))
    path = _compile.call(_run, alone(plan, inputs), inputs)
    if model.solved:
        _check_solved(model, path)
    return path


def _check_solved(model: Model, path: Any) -> None:
    """Says where a solver failed: an error for one run, a warning for a batch, whose other runs count."""
    values = [getattr(path, model.State.key_of(key)) for key in model.solved]
    if any(isinstance(value, jax.core.Tracer) for value in values):
        return  # inside the user's own transformation; the NaN stays in the path
    failures = unsolved(model, [np.asarray(value) for value in values])
    if failures is None:
        return
    if failures.ndim == 0:
        raise RuntimeError(
            f"{model.name}: the simultaneous equations of period {int(failures)} (counted from 0) have "
            f"no solution that the solver found, for {', '.join(model.solved)}. Parameters, scenario or "
            "initial state admit none, or one far from the period before."
        )
    runs = np.flatnonzero(failures >= 0)
    first = int(runs[0])
    warnings.warn(
        f"{model.name}: in {len(runs)} of {failures.size} runs the simultaneous equations have no "
        f"solution that the solver found; these runs are NaN from there on (run {first}: from period "
        f"{int(failures[first])}).",
        RuntimeWarning,
        stacklevel=3,
    )


def unsolved(model: Model, paths: list[np.ndarray]) -> np.ndarray | None:
    """The first period in which a solved variable is not finite: a number, or one per run with -1 where
    there is none; None if all are finite. Paths have time first, then the batch."""
    shapes = [model.State.fields[model.State.key_of(key)].shape for key in model.solved]
    bad = [
        ~np.isfinite(path).all(axis=tuple(range(path.ndim - len(shape), path.ndim)))
        for path, shape in zip(paths, shapes, strict=True)
    ]
    failed = np.logical_or.reduce(bad)
    if not failed.any():
        return None
    return np.where(failed.any(axis=0), failed.argmax(axis=0), -1)


@functools.partial(jax.jit, static_argnums=0)
def _run(plan: Plan, inputs: Inputs) -> Any:
    return trajectory(plan, inputs)


def run_keys(seed: int, runs: int, *, first: int = 0) -> jax.Array:
    """The PRNG keys of runs `first` to `first + runs - 1` of a batch or sweep: shape (runs,).

    Each depends on the seed and on the number of its run alone, so that a sweep draws the same however
    it is cut into batches.

    Raises:
        TypeError: a seed that is no integer. ValueError: a negative number of runs.
    """
    for what, value in (("seed", seed), ("number of runs", runs), ("first run", first)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"The {what} must be an integer, not {value!r}.")
    if runs < 1 or first < 0:
        raise ValueError(f"There must be at least one run, from run 0 on; not {runs} from {first}.")
    key = jax.random.key(int(seed))
    return jax.vmap(lambda run: jax.random.fold_in(key, run))(
        jnp.arange(first, first + runs, dtype=jnp.uint32)
    )
