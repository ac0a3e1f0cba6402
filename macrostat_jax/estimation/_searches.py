"""The searches of optimistix and optax, as traced code: for one start, or for many at once under `jax.vmap`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from ._libraries import library

SEARCHES = ("lm", "dogleg", "bfgs", "lbfgs", "adam")
SQUARED = ("lm", "dogleg")
"""Those of sums of squares."""
DAMPING = 0.1
"""The first damping of Levenberg and Marquardt's method, as a share of the cost: the solver's coordinates
are of the order of 1, so that is of the order of J'J. With 1, as optimistix has it, 7 % of the starts of
GL06SIM leap to where a bound is saturated; with this, none."""


class Found(NamedTuple):
    """Where a search ended, in traced code.

    Attributes:
        u: (k,). steps: how many. stopped: whether by itself.
        cost: half the sum of squares there, where the search has it; else None.
        length: of the next step of one of squares, from which another can go on; else None.
    """

    u: Any
    steps: Any
    stopped: Any
    cost: Any
    length: Any


def searched(
    method: str,
    steps: int,
    tolerance: float,
    squares: Callable[[Any], Any],
    cost: Callable[[Any], Any],
    u: Any,
    settings: Any = (),
    length: Any = None,
) -> Found:
    """Where a search from u ends; traced.

    Args:
        method: one of `SEARCHES`. steps: the most. tolerance: relative and absolute, of coordinates and
            cost.
        squares: u (k,) -> residuals (m,), of which lm and dogleg minimise half the squares.
        cost: u (k,) -> what the others minimise.
        settings: `rate` of adam, a number or an optax schedule; `memory` of lbfgs.
        length: of the first step of lm and dogleg. Default: `first_length`.
    """
    import optimistix as optx

    at: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    more: dict[str, Any] = {"max_steps": steps, "throw": False}
    settings, state_cost, last = dict(settings), None, None
    if method in SQUARED:
        if length is None:
            length = first_length(method, (squares(u) ** 2).sum() / 2)
        more["options"] = {"length": length}
        solver = _continuing()(_of_squares(method, at))
        found = optx.least_squares(lambda x, _: squares(x), solver, u, **more)
        # The solver has it: another run of the model would take a tenth longer to compile.
        state_cost, last = found.state.f_info.as_min(), found.state.search_state.step_size
    else:
        solver = {
            "bfgs": lambda: optx.BFGS(**at),
            "lbfgs": lambda: optx.LBFGS(**at, history_length=int(settings.get("memory", 10))),
            "adam": lambda: _adam(settings.get("rate", 0.05), steps, at),
        }[method]()
        found = optx.minimise(lambda x, _: cost(x), solver, u, **more)
    stopped = found.result == optx.RESULTS.successful
    return Found(found.value, found.stats["num_steps"], stopped, state_cost, last)


def first_length(method: str, cost: Any) -> Any:
    """Of the first step of lm (1 / damping) and dogleg, from a point of this cost; traced."""
    return (
        1 / (DAMPING * cost + jnp.finfo(cost.dtype).tiny) if method == "lm" else jnp.ones_like(cost)
    )


def _of_squares(method: str, at: dict[str, Any]) -> Any:
    import lineax as lx
    import optimistix as optx

    if method == "lm":
        return optx.LevenbergMarquardt(**at)
    # By singular values: a step of the dogleg has no damping to make it well-posed.
    return optx.Dogleg(**at, linear_solver=lx.AutoLinearSolver(well_posed=False))


def _adam(rate: Any, steps: int, at: dict[str, Any]) -> Any:
    import optimistix as optx

    optax = library("optax", "The method 'adam'")
    if not callable(rate):
        # The last steps have the rate 0, by which the solver stops.
        rate = optax.cosine_decay_schedule(rate, max(steps - 3, 1))
    return optx.OptaxMinimiser(optax.adam(_Schedule(rate)), **at)


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """A schedule that optimistix takes as it is: of plain functions it takes the closures apart."""

    rate: Callable[[Any], Any]

    def __call__(self, count: Any) -> Any:
        return self.rate(count)


@functools.cache
def _continuing() -> Any:
    """The class of a least-squares solver that goes on where one like it stopped, and knows when to stop."""
    import equinox as eqx
    import optimistix as optx

    class Continuing(optx.AbstractLeastSquaresSolver):
        """`solver`, with the step length given, which also stops where its next step is within tolerance.

        By itself it only looks at accepted steps, and rounding makes it reject those at a minimum.
        """

        solver: Any
        rtol: float
        atol: float
        norm: Any

        def __init__(self, solver: Any) -> None:
            self.solver = solver
            self.rtol, self.atol, self.norm = solver.rtol, solver.atol, solver.norm

        def init(self, fn: Any, y: Any, args: Any, options: Any, *more: Any) -> Any:
            state = self.solver.init(fn, y, args, {}, *more)
            return eqx.tree_at(lambda s: s.search_state.step_size, state, options["length"])

        def step(self, fn: Any, y: Any, args: Any, options: Any, *more: Any) -> Any:
            return self.solver.step(fn, y, args, {}, *more)

        def terminate(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
            done, result = self.solver.terminate(fn, y, args, {}, state, tags)
            small = jnp.abs(state.y_eval - y) < self.atol + self.rtol * jnp.abs(y)
            return done | (~state.first_step & small.all()), result

        def postprocess(
            self, fn: Any, y: Any, aux: Any, args: Any, options: Any, *more: Any
        ) -> Any:
            return self.solver.postprocess(fn, y, aux, args, {}, *more)

    return Continuing
