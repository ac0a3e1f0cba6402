"""Perfect foresight: paths along which today depends on tomorrow, between a start and an end.

The equations of all periods are solved at once. Each period meets its neighbours alone, so that the Jacobian
of the stacked system is block tridiagonal, and a Newton step costs T small solves (Juillard, Laxton, McAdam
and Pioro, 1998, Journal of Economic Dynamics and Control 22: 1291-1318). Derivatives are those of the
path that solves the equations, by the same blocks, not of the iterations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from . import _compile

HALVINGS = 12
"""How often a Newton step is halved before it counts as of no use."""


class _Plan(NamedTuple):
    """What a compiled search for a path is specialised to."""

    equations: Callable[[Any, Any, Any, Any, Any], Any]
    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    rtol: float
    max_steps: int

    def unravel(self, vector: Any) -> Any:
        """One period's variables, of a vector (n,)."""
        cuts = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        parts = zip(jnp.split(vector, cuts), self.shapes, strict=True)
        return self.structure.unflatten([part.reshape(shape) for part, shape in parts])


class _Stack(NamedTuple):
    """The stacked equations as functions of the path as a matrix (T, n)."""

    residuals: Callable[[Any], Any]
    blocks: Callable[[Any], tuple[Any, Any, Any]]


def perfect_foresight(
    equations: Callable[[Any, Any, Any, Any, Any], Any],
    start: Any,
    end: Any,
    *,
    params: Any = None,
    scenario: Any = None,
    periods: int | None = None,
    guess: Any = None,
    rtol: float = 1e-10,
    max_steps: int = 50,
) -> Any:
    """The path x(1), ..., x(T) that solves `equations` in every period, given x(0) and x(T + 1).

    A pure function of its array arguments, for use within `jax.jit`, `jax.grad` and `jax.vmap`;
    derivatives of any order, in both modes, are those of the path.

    Args:
        equations: `(prior, now, ahead, params, row) -> residuals`, as many as `now` has elements, all zero
            on the path. For a step that reads the next period's state:
            `lambda prior, now, ahead, params, row: step(prior, ahead, params, row) - now`, leaf by leaf.
        start: x(0), a pytree of floats or arrays (a dict, a `State`, ...): what is inherited. The values
            of variables that no equation reads lagged do not matter.
        end: x(T + 1), likewise: what the last period expects. Usually the steady state, and T large
            enough that a larger one changes nothing.
        params: passed on to the equations; derivatives flow through it.
        scenario: a pytree of paths of shape (T, *shape), of which a period sees its row.
        periods: T; default: the length of the scenario's paths.
        guess: the path to begin with, leaves (T, *shape); default: a straight line from start to end.
        rtol: Newton's method has converged when a step is smaller than this, relative to each element where
            it exceeds 1. In float32 it is raised to what that dtype resolves.
        max_steps: after so many steps it has failed.

    Returns:
        A pytree like `start`, leaves (T, *shape). Row 0 is the period after `start`.

    Raises:
        ValueError: horizons that contradict each other, or other residuals than unknowns. RuntimeError: no
            path was found, with what Newton's method saw last; inside a transformation of yours: NaN.
    """
    first, last = _flat(start), _flat(end)
    if jax.tree.structure(start) != jax.tree.structure(end) or first.shape != last.shape:
        raise ValueError("start and end must have the same variables, of the same shapes.")
    if any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(scenario)):
        raise ValueError("The scenario must hold paths of shape (T, ...): constants go to params.")
    horizons = {np.shape(leaf)[0] for leaf in jax.tree.leaves(scenario)}
    horizons |= {periods} if periods is not None else set()
    if len(horizons) != 1:
        raise ValueError(f"The horizon must be given, once: it is {sorted(horizons) or 'missing'}.")
    horizon = int(horizons.pop())
    if horizon < 1:
        raise ValueError(f"A path needs at least one period, not {horizon}.")
    dtype = jnp.result_type(first, last)
    first, last = first.astype(dtype), last.astype(dtype)
    if guess is None:
        share = jnp.arange(1, horizon + 1, dtype=dtype)[:, None] / (horizon + 1)
        path = (1 - share) * first[None] + share * last[None]
    else:
        path = jax.vmap(_flat)(guess).astype(dtype)
        if path.shape != (horizon, first.size):
            raise ValueError(f"The guess must have {horizon} periods of the variables of start.")
    leaves, structure = jax.tree.flatten(start)
    rtol = max(rtol, 64 * float(jnp.finfo(dtype).eps))
    plan = _Plan(equations, structure, tuple(map(np.shape, leaves)), rtol, max_steps)
    given = jax.tree.map(jnp.asarray, (params, scenario))
    names = _names(plan, first, *given)
    if len(names) != first.size:
        raise ValueError(
            f"{first.size} unknowns per period need as many equations, not {len(names)}."
        )
    solved, info = _compile.call(_solve, plan, (first, last), *given, path)
    if not isinstance(info[0], jax.core.Tracer) and not bool(info[0]):
        _, steps, size, residuals = (np.asarray(x) for x in info)
        raise RuntimeError(_why_not(names, int(steps), float(size), residuals))
    return solved


@functools.partial(jax.jit, static_argnums=0)
def _solve(plan: _Plan, ends: Any, params: Any, scenario: Any, guess: Any) -> Any:
    def stacked(ends: Any, params: Any, scenario: Any) -> _Stack:
        def one(prior: Any, now: Any, ahead: Any, row: Any) -> Any:
            states = plan.unravel(prior), plan.unravel(now), plan.unravel(ahead)
            return ravel_pytree(plan.equations(*states, params, row))[0]

        def around(path: Any) -> tuple[Any, Any, Any, Any]:
            prior = jnp.concatenate([ends[0][None], path[:-1]])
            ahead = jnp.concatenate([path[1:], ends[1][None]])
            return prior, path, ahead, scenario

        return _Stack(
            lambda path: jax.vmap(one)(*around(path)),
            lambda path: jax.vmap(jax.jacfwd(one, (0, 1, 2)))(*around(path)),
        )

    # The search sees no tangents; the root that it found gets its own, of all orders.
    frozen = stacked(*jax.lax.stop_gradient((ends, params, scenario)))
    found, info = _newton(plan, frozen, jax.lax.stop_gradient(guess))
    root = jax.lax.custom_root(
        stacked(ends, params, scenario).residuals, found, lambda _, x: x, _tangent_solve
    )
    return jax.vmap(plan.unravel)(jnp.where(info[0], root, jnp.nan)), info


def _newton(plan: _Plan, stack: _Stack, guess: Any) -> Any:
    """Newton's method, each step halved until the residuals shrink: the path, and (converged, steps, the
    last step's size, residuals)."""

    def size(path: Any) -> Any:
        value = jnp.max(jnp.abs(stack.residuals(path)))
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def goes_on(carry: Any) -> Any:
        _, moved, steps, stuck = carry
        return (moved > plan.rtol) & (steps < plan.max_steps) & ~stuck

    def body(carry: Any) -> Any:
        path, _, steps, _ = carry
        before = size(path)
        step = block_tridiagonal(*stack.blocks(path), -stack.residuals(path))
        ok = jnp.all(jnp.isfinite(step))
        step = jnp.where(ok, step, 0)
        # Below rounding of the residuals nothing can shrink: a tiny step is taken as it is.
        tiny = jnp.max(jnp.abs(step) / jnp.maximum(1, jnp.abs(path))) <= plan.rtol

        def too_far(state: Any) -> Any:
            share, halvings = state
            return ~tiny & ~(size(path + share * step) < before) & (halvings < HALVINGS)

        one = jnp.ones((), path.dtype)
        share, halvings = jax.lax.while_loop(too_far, lambda s: (s[0] / 2, s[1] + 1), (one, 0))
        closer = path + share * step
        moved = jnp.max(jnp.abs(step) / jnp.maximum(1, jnp.abs(path)))
        stuck = ~ok | (halvings >= HALVINGS)
        return closer, jnp.where(ok, moved, jnp.inf), steps + 1, stuck

    begin = (guess, jnp.full((), jnp.inf, guess.dtype), 0, jnp.zeros((), bool))
    path, moved, steps, stuck = jax.lax.while_loop(goes_on, body, begin)
    converged = (moved <= plan.rtol) & ~stuck & jnp.all(jnp.isfinite(path))
    return path, (converged, steps, moved, stack.residuals(path))


def block_tridiagonal(lower: Any, diagonal: Any, upper: Any, right: Any) -> Any:
    """Solves lower[t] x[t-1] + diagonal[t] x[t] + upper[t] x[t+1] = right[t] for x (T, n).

    Block elimination without exchange of rows between periods. lower[0] and upper[T-1] are not read.

    Args:
        lower, diagonal, upper: (T, n, n).
        right: (T, n).
    """
    turned = (
        jnp.roll(upper, 1, axis=0).mT,
        diagonal.mT,
        jnp.roll(lower, -1, axis=0).mT,
    )

    def product(x: Any) -> Any:
        none = jnp.zeros_like(x[:1])
        prior, ahead = jnp.concatenate([none, x[:-1]]), jnp.concatenate([x[1:], none])
        return sum(
            jnp.einsum("tij,tj->ti", block, part)
            for block, part in ((lower, prior), (diagonal, x), (upper, ahead))
        )

    return jax.lax.custom_linear_solve(
        product,
        right,
        lambda _, right: _eliminated(lower, diagonal, upper, right),
        lambda _, right: _eliminated(*turned, right),
    )


def _eliminated(lower: Any, diagonal: Any, upper: Any, right: Any) -> Any:
    n = right.shape[1]

    def forward(carry: Any, row: Any) -> Any:
        above, so_far = carry
        lower, diagonal, upper, right = row
        both = jnp.concatenate([upper, (right - lower @ so_far)[:, None]], axis=1)
        solved = jnp.linalg.solve(diagonal - lower @ above, both)
        carry = solved[:, :n], solved[:, n]
        return carry, carry

    def backward(ahead: Any, row: Any) -> Any:
        above, so_far = row
        now = so_far - above @ ahead
        return now, now

    begin = jnp.zeros((n, n), right.dtype), jnp.zeros(n, right.dtype)
    _, rows = jax.lax.scan(forward, begin, (lower, diagonal, upper, right))
    return jax.lax.scan(backward, begin[1], rows, reverse=True)[1]


def _tangent_solve(linear: Callable[[Any], Any], right: Any) -> Any:
    """Solves linear(x) = right for x (T, n), where a period of the result depends on its neighbours alone.

    Three colours of periods, of which no two meet, give all blocks in 3 n products.
    """
    horizon, n = right.shape
    time = jnp.arange(horizon)

    def responses(colour: Any, element: Any) -> Any:
        seed = (time % 3 == colour)[:, None] & (jnp.arange(n) == element)[None]
        return linear(seed.astype(right.dtype))

    by_element = jax.vmap(responses, in_axes=(None, 0), out_axes=2)
    by_colour = jax.vmap(by_element, in_axes=(0, None))(jnp.arange(3), jnp.arange(n))

    def block(shift: int) -> Any:
        return by_colour[(time + shift) % 3, time]

    return block_tridiagonal(block(-1), block(0), block(1), right)


def _flat(tree: Any) -> Any:
    default = jax.dtypes.canonicalize_dtype(float)

    def floating(leaf: Any) -> Any:
        kept = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, None if kept else default)

    return ravel_pytree(jax.tree.map(floating, tree))[0]


def _names(plan: _Plan, x: Any, params: Any, scenario: Any) -> list[str]:
    """What to call each equation: the label of its residual, with the number of the element of arrays."""

    def once(x: Any, params: Any, scenario: Any) -> Any:
        now, row = plan.unravel(x), jax.tree.map(lambda path: path[0], scenario)
        return plan.equations(now, now, now, params, row)

    x, params, scenario = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (x, params, scenario)
    )
    shapes = jax.tree_util.tree_leaves_with_path(jax.eval_shape(once, x, params, scenario))
    names = []
    for path, leaf in shapes:
        label = jax.tree_util.keystr(path, simple=True, separator=".")
        size = int(np.prod(leaf.shape))
        names += (
            [label or "equation"] if leaf.shape == () else [f"{label}[{i}]" for i in range(size)]
        )
    return names


def _why_not(names: list[str], steps: int, moved: float, residuals: np.ndarray) -> str:
    said = f"No path was found: Newton's method ended after {steps} steps"
    if not np.isfinite(residuals).all():
        period, which = np.argwhere(~np.isfinite(residuals))[0]
        return (
            f"{said}; equation {names[which]!r} is not finite in period {period} (counted from 0)."
        )
    period, which = np.unravel_index(np.argmax(np.abs(residuals)), residuals.shape)
    worst = f"the largest residual is {residuals[period, which]:.3g}, of {names[which]!r} in period {period}"
    if not np.isfinite(moved):
        return (
            f"{said}: the equations of some period do not determine its variables, given those before "
            f"(a singular block); {worst}. Is every variable pinned down, and the path by its two ends?"
        )
    return (
        f"{said}; the next would move by {moved:.3g} of a variable's size, and {worst} (counted from 0). "
        "Another guess, a longer horizon or a smaller shock may help."
    )
