"""Steady states: the closed form of a model that has one, else solved for, with derivatives."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from . import _compile
from ._inputs import Inputs, Plan, float_dtype
from ._model import Model
from ._record import Record, stands_for
from ._trajectory import canonical_state, trajectory

P = TypeVar("P", bound=Record)
X = TypeVar("X", bound=Record)
S = TypeVar("S", bound=Record)

SEARCHED_PERIODS = 1000
MOST_STEPS, MORE_PERIODS = 30, 100
TOLERANCE = {8: 1e-11, 4: 1e-4, 2: 1e-2}
"""By bytes of the dtype: what a step may change of a variable, relative to it where it exceeds 1."""


class Search(NamedTuple):
    """What a compiled search for a steady state is specialised to."""

    model: Any
    periods: int


def steady_state(
    model: Model[P, X, S],
    params: P | None = None,
    scenario: X | None = None,
    *,
    periods: int = SEARCHED_PERIODS,
) -> S:
    """The state that a period leaves as it is.

    The model's closed form, where it has one. Otherwise the run from the model's initial state is
    followed for `periods`, and Newton's method goes on from its end; derivatives, in both modes, are
    those of the solution, not of the search. Where there is a continuum of steady states (the step
    conserves something, a difference between two stocks, say, or a price that rests anywhere within a
    band) it is the one to which the run leads, and so are its derivatives. The state need not be
    stable: an economy that only ever leaves zero rests at zero.

    A pure function of its array arguments, for use within `jax.jit`, `jax.grad` and `jax.vmap`.

    Args:
        model: the model; not a random one.
        params: from `model.params(...)`; default: its defaults.
        scenario: one value per exogenous series, for instance a row `model.scenario(...)[-1]`;
            default: the defaults of the series.
        periods: how long the run is followed.

    Returns:
        The model's `State`, each variable of its declared shape.

    Raises:
        ValueError: a random model, or a scenario of more than one period. RuntimeError: there is no
            steady state, or it was not found, with what the search saw; inside a transformation of
            yours it is NaN.
    """
    params, row = constant_inputs(model, params, scenario)
    state, change, last = _compile.call(_search, Search(model, periods), params, row)
    if not isinstance(change, jax.core.Tracer) and not np.isfinite(change):
        from ._rest import why_not

        raise RuntimeError(
            f"{model.name}: no steady state was found from the state after {periods} periods. "
            f"{why_not(model, params, row, last)}"
        )
    return state


def constant_inputs(model: Model, params: Any, scenario: Any) -> tuple[Any, Any]:
    """Parameters and one row of exogenous values, checked, as arrays of one dtype and of their shapes."""
    if model.random or model.random_start:
        raise ValueError(f"{model.name} is random: its state never settles.")
    params = model.params() if params is None else params
    row = model.scenario(periods=1)[0] if scenario is None and model.Scenario.fields else scenario
    row = model.Scenario() if row is None else row
    for record, kind in ((params, model.Params), (row, model.Scenario)):
        if not stands_for(record, kind):
            raise TypeError(f"{model.name} expects {kind.__qualname__}, not {type(record)}.")
    for key, field in model.Params.fields.items():
        if np.shape(getattr(params, key)) not in ((), field.shape):
            raise ValueError(
                f"{model.name}: a steady state has one value of {key!r} of the shape {field.shape}, not "
                f"{np.shape(getattr(params, key))}: for many, put jax.vmap around steady_state."
            )
    for key, field in model.Scenario.fields.items():
        if np.shape(getattr(row, key)) not in ((), field.shape):
            raise ValueError(
                f"{model.name}: a steady state has one value of {key!r} of the shape {field.shape}, not "
                f"{np.shape(getattr(row, key))}: take one period of a path, for instance scenario[-1]."
            )
    dtype = float_dtype(params, row)
    return _filled(model.Params, params, dtype), _filled(model.Scenario, row, dtype)


def _filled(kind: type[Record], record: Any, dtype: Any) -> Any:
    def filled(value: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(value, jax.Array):
            ready = value.shape == shape and value.dtype == dtype
            return value if ready else jnp.broadcast_to(jnp.asarray(value, dtype), shape)
        return np.broadcast_to(np.asarray(value, dtype), shape)  # no program to compile and start

    fields = kind.fields.items()
    return kind(**{key: filled(getattr(record, key), f.shape) for key, f in fields})


@functools.partial(jax.jit, static_argnums=0)
def _search(search: Search, params: Any, row: Any) -> tuple[Any, Any, Any]:
    return found_state(search, params, row)


def found_state(search: Search, params: Any, row: Any, initial: Any = None) -> tuple[Any, Any, Any]:
    """Traced code: the steady state (NaN if none was found), what a step still changes of it (likewise),
    and where the search ended, found or not.

    Args:
        initial: where the run starts, in place of the closed form and of the model's initial state.
    """
    model = search.model
    params = model.constrain(params)
    dtype = float_dtype(params, row)
    if model.steady_state is not None and initial is None:
        state = canonical_state(model, model.steady_state(params, row), dtype)
        return state, jnp.zeros((), dtype), state
    initial = model.initial_state(params, row) if initial is None else initial
    initial = canonical_state(model, initial, dtype)
    for key in model.State.fields:
        if not jnp.issubdtype(getattr(initial, key).dtype, jnp.floating):
            raise ValueError(
                f"{model.name}: {key!r} counts or flags: there is no Newton step for it. Give the model "
                "a steady_state in closed form."
            )
    unravel = ravel_pytree(initial)[1]
    reached = (
        _followed(search, params, row, initial) if search.periods else ravel_pytree(initial)[0]
    )
    # A limit that does not bind may be infinite, and rests so: it takes no part in the search.
    unlimited = [np.full(f.shape, f.unlimited).ravel() for f in model.State.fields.values()]
    finite = jax.lax.stop_gradient(~(jnp.isinf(reached) & np.concatenate(unlimited)))
    infinite = jax.lax.stop_gradient(jnp.where(finite, 0, reached))
    reached = jnp.where(finite, reached, 0)

    def gap(x: Any, params: Any, row: Any) -> Any:
        prior = unravel(jnp.where(finite, x, infinite))
        after = canonical_state(model, model.step(prior, params, row), dtype)
        return jnp.where(finite, ravel_pytree(after)[0], 0) - x

    def newton(x: Any, params: Any, row: Any, reached: Any) -> Any:
        """Solves gap(x + d) = 0 to first order, and among its solutions for that of the run.

        Nearby, the step conserves the w . x with w in the left null space of the gap's Jacobian A: they
        stay what the run has `reached`. With the projection W on that space, A - W is regular, and one
        solve meets both: as the gap lies in the range of A, (A - W) d = -gap - W (reached - x) says
        A d = -gap and W (x + d) = W reached.
        """

        def twice(x: Any) -> Any:
            value = gap(x, params, row)
            return value, value

        jacobian, value = jax.jacfwd(twice, has_aux=True)(x)
        kept = _conserved(jax.lax.stop_gradient(jacobian))
        return x + jnp.linalg.solve(jacobian - kept, -value - kept @ (reached - x))

    def change(x: Any, params: Any, row: Any) -> Any:
        return jnp.max(jnp.abs(gap(x, params, row)) / jnp.maximum(1, jnp.abs(x)))

    frozen = jax.lax.stop_gradient((params, row, reached))
    enough = TOLERANCE[jnp.finfo(dtype).bits // 8]

    def goes_on(carry: Any) -> Any:
        _, left, count = carry
        return (left > enough) & (count < MOST_STEPS)

    def body(carry: Any) -> Any:
        x, left, count = carry
        closer = newton(x, *frozen)
        left_closer = change(closer, *frozen[:2])
        # Between kinks Newton's method may go astray: the model itself then goes on for a while.
        return *jax.lax.cond(
            left_closer < left, lambda: (closer, left_closer), lambda: followed_on(x)
        ), count + 1

    def followed_on(x: Any) -> Any:
        x = jax.lax.fori_loop(0, MORE_PERIODS, lambda _, x: x + gap(x, *frozen[:2]), x)
        return x, change(x, *frozen[:2])

    # The loops keep the program small: a step is large, and here are few copies of it.
    first = (frozen[2], change(frozen[2], *frozen[:2]), 0)
    x, left, _ = jax.lax.while_loop(goes_on, body, first)
    # A Newton step doubles the order to which its result follows the parameters: two of them from the
    # solution give the first, second and third derivatives of the solution.
    closer, _ = jax.lax.scan(lambda x, _: (newton(x, params, row, reached), None), x, length=2)
    left_closer = change(closer, params, row)
    # On a kink the step may have no derivative to go by, although the state rests.
    better = jax.lax.stop_gradient(left_closer) <= enough
    x, left = jnp.where(better, closer, x), jnp.where(better, left_closer, left)
    ok = jax.lax.stop_gradient(left) <= enough
    x = jnp.where(finite, x, infinite)
    return unravel(jnp.where(ok, x, jnp.nan)), jnp.where(ok, left, jnp.nan), unravel(x)


def _followed(search: Search, params: Any, row: Any, initial: Any) -> Any:
    """The state after `periods` periods, as a vector."""
    constant = jax.tree.map(
        lambda value: jnp.broadcast_to(value, (search.periods, *value.shape)), row
    )
    inputs = Inputs(params, constant, {}, initial, None)
    path = trajectory(Plan(search.model, search.periods, None, True), inputs)
    return ravel_pytree(path[-1])[0]


def _conserved(jacobian: Any) -> Any:
    """The projection on the left null space, (n, n)."""
    left, sizes, _ = jnp.linalg.svd(jacobian)
    # Absolute: against the ones that the gap has on the diagonal, whatever the units make of others.
    least = jnp.finfo(jacobian.dtype).eps ** 0.75
    null = jnp.where(sizes <= least, left, 0)
    return null @ null.T
