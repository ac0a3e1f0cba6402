"""The searches of `fit`: each library's own, given our exact derivatives.

Every search moves the unconstrained u of a problem from one start, but `"bounded"`, which moves the
parameters themselves. At a bound u is infinite, and its slope fades on the way: a search crawls there, or
leaps to where nothing calls it back. What ends near a bound goes on by `"bounded"`, which reaches bounds
and leaves them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from .. import _compile
from ._libraries import library, usual_promotion
from ._objectives import (
    Task,
    hessian,
    many,
    objective,
    row_jacobian,
    row_program,
    rows,
    value_jacobian,
    value_rows,
    with_gradient,
)  # fmt: skip
from ._problem import Problem
from ._room import AT_BOUND, gaps, limits_on_sums
from ._searches import SEARCHES, SQUARED, searched

METHODS = {
    "lm": "Levenberg-Marquardt (optimistix)",
    "dogleg": "Powell's dogleg (optimistix)",
    "bounded": "Levenberg-Marquardt within bounds, which it can reach",
    "least_squares": "the trust region reflective algorithm (scipy)",
    "bfgs": "BFGS (optimistix)",
    "lbfgs": "L-BFGS (optimistix)",
    "adam": "Adam (optax)",
    "newton": "Newton's method with conjugate gradients and exact Hessians (scipy)",
    "trust-exact": "a trust region with exact Hessians (scipy)",
    "cma": "CMA-ES, which uses no derivatives (cma)",
}
SQUARES = (*SQUARED, "bounded", "least_squares")
"""The methods for sums of squares."""
STEPS = {
    "lm": 256, "dogleg": 256, "bounded": 1000, "least_squares": 500, "bfgs": 1000, "lbfgs": 1000,
    "adam": 3000, "newton": 200, "trust-exact": 500, "cma": 2000,
}  # fmt: skip
"""Method -> the most steps, by default."""
NEAR_BOUND = 0.01
"""A search that ends nearer to a bound than this share of the room between the bounds goes on within them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ended:
    """Where a search ended: u (k,), after how many steps, whether it stopped by itself, and why.

    `values` (k,) are given where the search knows them better than by u: exactly at bounds.
    """

    u: np.ndarray
    steps: int
    evaluations: int
    stopped: bool
    why: str
    values: np.ndarray | None = None


def check(problem: Problem, method: str, priors: bool) -> None:
    """Can the method fit the problem?

    Raises:
        TypeError: no problem. ValueError: an unknown method; priors without a mode for least squares.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"Expected an estimation.Problem, not {type(problem).__name__}.")
    if method not in METHODS:
        known = "\n  ".join(f"{name}: {text}" for name, text in METHODS.items())
        raise ValueError(f"Unknown method {method!r}. There are:\n  {known}")
    if priors and method in SQUARES and (others := without_mode(problem)):
        raise ValueError(
            f"The method {method!r} is for sums of squares, which the priors of {', '.join(others)} are "
            "not, as their densities have no maximum: use bfgs, lbfgs or trust-exact, other priors, or "
            "priors=False."
        )


def without_mode(problem: Problem) -> list[str]:
    """The parameters whose priors have densities without a maximum: least squares cannot take them."""
    return [name for name, prior in problem.priors.items() if not np.isfinite(prior.mode)]


def solve(task: Task, u: np.ndarray, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    """Runs the method of a task from u; `options` are the search's own."""
    if task.method in SEARCHES:
        solver = _optimistix
    else:
        solver = {
            "bounded": _bounded,
            "least_squares": _least_squares,
            "newton": _scipy,
            "trust-exact": _scipy,
            "cma": _cma,
        }[task.method]
    ended = solver(task, u, inputs, scales, options)
    return ended if task.method == "bounded" else _within(task, ended, inputs, scales)


def _within(task: Task, ended: Ended, inputs: Any, scales: Any) -> Ended:
    """Goes on within the bounds where a search ended near one, and what it minimises are squares."""
    problem = task.problem
    if task.priors and without_mode(problem):
        return ended
    values = np.asarray(problem.values(ended.u))
    near = gaps(problem, values)
    if not np.any(near < NEAR_BOUND):
        return ended
    # From a hair's breadth off a bound the bound itself is a step too short to be taken.
    low, high = problem.bounds
    below, above = near[: len(values)].T <= AT_BOUND
    for start in (np.where(below, low, np.where(above, high, values)), values):
        rows = _compile.call(value_rows, task, start, inputs, scales)
        if np.isfinite(rows).all():
            found = _from(task, start, inputs, scales, {})
            steps, runs = ended.steps + found.steps, ended.evaluations + found.evaluations
            return dataclasses.replace(found, steps=steps, evaluations=runs)
    return ended


def _optimistix(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    known = {"adam": ["rate"], "lbfgs": ["memory"]}.get(task.method, [])
    if unknown := set(options).difference(known):
        raise TypeError(
            f"This method takes no option {sorted(unknown)}; it takes {known or 'none'}."
        )
    with usual_promotion():
        found = _compile.call(_solution, (task, tuple(options.items())), u, inputs, scales)
    value, steps, stopped = np.asarray(found[0]), int(found[1]), bool(found[2])
    why = "its next step was within the tolerance" if stopped else f"it took all {task.steps} steps"
    return Ended(value, steps, steps, stopped, why)


@functools.partial(jax.jit, static_argnums=0)
def _solution(key: tuple[Task, tuple], u: Any, inputs: Any, scales: Any) -> tuple[Any, Any, Any]:
    task, settings = key
    found = searched(
        task.method, task.steps, task.tolerance,
        lambda x: rows(task, x, inputs, scales),
        lambda x: objective(task, x, inputs, scales),
        u, settings,
    )  # fmt: skip
    return found.u, found.steps, found.stopped


def _bounded(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    return _from(task, np.asarray(task.problem.values(u)), inputs, scales, options)


def _from(
    task: Task, start: np.ndarray, inputs: Any, scales: Any, options: dict[str, Any]
) -> Ended:
    from ._levenberg_marquardt import levenberg_marquardt

    problem = task.problem
    given: dict[str, Any] = {"ftol": task.tolerance, "xtol": task.tolerance, "gtol": 0.0, **options}
    found = levenberg_marquardt(
        lambda x: np.asarray(_compile.call(value_rows, task, x, inputs, scales)),
        lambda x: np.asarray(_compile.call(value_jacobian, task, x, inputs, scales)),
        np.clip(start, *problem.bounds),  # rounding may lead out of them
        bounds=problem.bounds,
        constraint=limits_on_sums(problem),
        max_nfev=task.steps,
        **given,
    )
    why = found.message.rstrip(".")
    u = problem.nearest(found.x)
    return Ended(u, found.nit, found.nfev, found.success, why, found.x)


def _least_squares(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    from scipy import optimize

    at = max(task.tolerance, 1e-15)
    given: dict[str, Any] = {"ftol": at, "xtol": at, "gtol": at, "x_scale": "jac", **options}
    jacobian: Any = lambda x: np.asarray(_compile.call(row_jacobian, task, x, inputs, scales))  # noqa: E731
    found = optimize.least_squares(
        lambda x: _finite(np.asarray(_compile.call(row_program, task, x, inputs, scales))),
        np.asarray(u),
        jacobian,
        max_nfev=task.steps,
        **given,
    )
    return Ended(
        found.x, int(found.nfev), int(found.nfev), found.status > 0, found.message.rstrip(".")
    )


def _finite(residuals: np.ndarray) -> np.ndarray:
    """scipy stops at what is not finite: such a step is as bad as can be instead."""
    return residuals if np.isfinite(residuals).all() else np.full(len(residuals), 1e150)


def _scipy(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    from scipy import optimize

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _compile.call(with_gradient, task, x, inputs, scales)
        return (float(value) if np.isfinite(value) else np.inf), np.asarray(gradient)

    newton = task.method == "newton"
    given = (
        {"maxiter": task.steps} | ({"xtol": task.tolerance} if newton else {"gtol": 0.0}) | options
    )
    first = float(np.abs(value_and_gradient(np.asarray(u))[1]).max())
    if not newton and "gtol" not in options:
        given["gtol"] = task.tolerance * max(1.0, first)
    found: Any = optimize.minimize(
        value_and_gradient,
        np.asarray(u),
        jac=True,
        hess=lambda x: np.asarray(_compile.call(hessian, task, x, inputs, scales)),
        method="Newton-CG" if newton else "trust-exact",
        options=given,
    )
    return Ended(
        found.x, int(found.nit), int(found.nfev), bool(found.success), found.message.rstrip(".")
    )


def _cma(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    cma = library("cma", "The method 'cma'")
    options = dict(options)
    rng = np.random.default_rng(options.pop("seed"))
    spread = options.pop("spread", 0.5)
    given = {
        "verbose": -9, "verb_log": 0, "verb_disp": 0, "maxiter": task.steps, "seed": np.nan,
        "randn": lambda *shape: rng.standard_normal(shape), "tolx": task.tolerance, **options,
    }  # fmt: skip
    if len(u) == 1:
        raise ValueError("The method 'cma' needs at least two free parameters: use lm or bfgs.")
    search = cma.CMAEvolutionStrategy(np.asarray(u), spread, given)
    while not search.stop():
        asked = np.stack(search.ask())
        costs = np.asarray(_compile.call(many, task, asked, inputs, scales))
        search.tell(list(asked), np.where(np.isfinite(costs), costs, np.inf).tolist())
    reasons = dict(search.stop())
    stopped = not {"maxiter", "maxfevals", "timeout"}.intersection(reasons)
    why = ", ".join(name if value is None else f"{name} {value}" for name, value in reasons.items())
    best = search.result
    return Ended(np.asarray(best.xbest), int(best.iterations), int(best.evaluations), stopped, why)
