"""The searches of `fit`: each library's own, given our exact derivatives.

Every search moves the unconstrained u of a problem from one start, but `"bounded"`, which moves the
parameters themselves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._libraries import library, usual_promotion
from ._priors import Normal
from ._problem import Problem
from ._programs import _moved, placed, prior_density, weighted

METHODS = {
    "lm": "Levenberg-Marquardt (optimistix)",
    "dogleg": "Powell's dogleg (optimistix)",
    "bounded": "Levenberg-Marquardt within bounds, which it can reach",
    "least_squares": "the trust region reflective algorithm (scipy)",
    "bfgs": "BFGS (optimistix)",
    "lbfgs": "L-BFGS (optax)",
    "adam": "Adam (optax)",
    "newton": "Newton's method with conjugate gradients and exact Hessians (scipy)",
    "trust-exact": "a trust region with exact Hessians (scipy)",
    "cma": "CMA-ES, which uses no derivatives (cma)",
}
SQUARES = ("lm", "dogleg", "bounded", "least_squares")
"""The methods for sums of squares."""
STEPS = {
    "lm": 256, "dogleg": 256, "bounded": 1000, "least_squares": 500, "bfgs": 1000, "lbfgs": 1000,
    "adam": 3000, "newton": 200, "trust-exact": 500, "cma": 2000,
}  # fmt: skip
"""Method -> the most steps, by default."""
DAMPING = 0.1
"""The first damping of Levenberg and Marquardt's method, as a share of the cost (see `_multistart`)."""


class Task(NamedTuple):
    """What the programs of a fit are specialised to."""

    problem: Problem
    priors: bool
    method: str = ""
    steps: int = 0
    tolerance: float = 0.0


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


def rows(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    """The residuals, and those of normal priors if they count: half their squares are minimised; traced."""
    moved, values, _ = _moved(task.problem, u, inputs)
    return _with_priors(task, weighted(task.problem, moved, scales), values)


def rows_of_values(task: Task, values: Any, inputs: Any, scales: Any) -> Any:
    """The same as a function of the parameters in their own units, (k,), at bounds too; traced."""
    return _with_priors(
        task, weighted(task.problem, placed(task.problem, inputs, values), scales), values
    )


def _with_priors(task: Task, residuals: Any, values: Any) -> Any:
    priors = task.problem.priors
    if not task.priors or not priors:
        return residuals
    more = [
        (values[i] - prior.mu) / prior.sigma
        for i, name in enumerate(task.problem.names)
        if isinstance(prior := priors.get(name), Normal)
    ]
    return jnp.concatenate([residuals, jnp.stack(more)]) if more else residuals


def objective(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    """Half the sum of squared residuals, less the log density of the priors if they count; traced."""
    moved, values, _ = _moved(task.problem, u, inputs)
    cost = (weighted(task.problem, moved, scales) ** 2).sum() / 2
    return cost - prior_density(task.problem, values) if task.priors else cost


@functools.partial(jax.jit, static_argnums=0)
def _rows(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return rows(task, u, inputs, scales)


@functools.partial(jax.jit, static_argnums=0)
def _rows_jacobian(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return jax.jacfwd(lambda x: rows(task, x, inputs, scales))(u)


@functools.partial(jax.jit, static_argnums=0)
def _value_rows(task: Task, values: Any, inputs: Any, scales: Any) -> Any:
    return rows_of_values(task, values, inputs, scales)


@functools.partial(jax.jit, static_argnums=0)
def _value_jacobian(task: Task, values: Any, inputs: Any, scales: Any) -> Any:
    return jax.jacfwd(lambda x: rows_of_values(task, x, inputs, scales))(values)


@functools.partial(jax.jit, static_argnums=0)
def _objective(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return objective(task, u, inputs, scales)


@functools.partial(jax.jit, static_argnums=0)
def _with_gradient(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return jax.value_and_grad(lambda x: objective(task, x, inputs, scales))(u)


@functools.partial(jax.jit, static_argnums=0)
def _hessian(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return jax.hessian(lambda x: objective(task, x, inputs, scales))(u)


@functools.partial(jax.jit, static_argnums=0)
def _many(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    return jax.vmap(lambda x: objective(task, x, inputs, scales))(u)


def check(problem: Problem, method: str, priors: bool) -> None:
    """Can the method fit the problem?

    Raises:
        ValueError: an unknown method; priors that are no squares for a method of least squares.
    """
    if method not in METHODS:
        known = "\n  ".join(f"{name}: {text}" for name, text in METHODS.items())
        raise ValueError(f"Unknown method {method!r}. There are:\n  {known}")
    from ._priors import Uniform

    others = [n for n, p in problem.priors.items() if not isinstance(p, Normal | Uniform)]
    if priors and others and method in SQUARES:
        raise ValueError(
            f"The method {method!r} is for sums of squares, which the priors of {', '.join(others)} are "
            "not: use bfgs, lbfgs or trust-exact, normal priors, or priors=False."
        )


def solve(task: Task, u: np.ndarray, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    """Runs the method of a task from u; `options` are the search's own."""
    if task.method in ("lm", "dogleg", "bfgs", "adam"):
        return _optimistix(task, u, inputs, scales, options)
    solver = {
        "lbfgs": _lbfgs,
        "bounded": _bounded,
        "least_squares": _least_squares,
        "newton": _scipy,
        "trust-exact": _scipy,
        "cma": _cma,
    }[task.method]
    return solver(task, u, inputs, scales, options)


# optimistix and optax -----------------------------------------------------------------------------


def _optimistix(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    settings = tuple(sorted(_taken(options, "rate", when=task.method == "adam").items()))
    with usual_promotion():
        value, steps, stopped = _compile.call(_solution, (task, settings), u, inputs, scales)
    stopped = bool(stopped)
    why = "its next step was within the tolerance" if stopped else f"it took all {task.steps} steps"
    return Ended(np.asarray(value), int(steps), int(steps), stopped, why)


def _taken(options: dict[str, Any], *names: str, when: bool = True) -> dict[str, Any]:
    """Options of a method that takes no others."""
    known = names if when else ()
    if unknown := set(options).difference(known):
        raise TypeError(
            f"This method takes no option {sorted(unknown)}; it takes {list(known) or 'none'}."
        )
    return options


@functools.partial(jax.jit, static_argnums=0)
def _solution(key: tuple[Task, tuple], u: Any, inputs: Any, scales: Any) -> tuple[Any, Any, Any]:
    task, settings = key
    return searched(
        task,
        lambda x: rows(task, x, inputs, scales),
        lambda x: objective(task, x, inputs, scales),
        u,
        dict(settings),
    )


def searched(
    task: Task,
    squares: Callable[[Any], Any],
    cost: Callable[[Any], Any],
    u: Any,
    settings: dict[str, Any],
) -> tuple[Any, Any, Any]:
    """Where optimistix ends from u, after how many steps, and whether it stopped by itself; traced."""
    import optimistix as optx

    from ._multistart import _continuing

    at: dict[str, Any] = {"rtol": task.tolerance, "atol": task.tolerance}
    more: dict[str, Any] = {"max_steps": task.steps, "throw": False}
    if task.method in ("lm", "dogleg"):
        kind = optx.LevenbergMarquardt if task.method == "lm" else optx.Dogleg
        solver = _continuing()(kind(**at))
        first = (squares(u) ** 2).sum() / 2
        length = 1 / (DAMPING * first + jnp.finfo(u.dtype).tiny)
        more["options"] = {"length": length if task.method == "lm" else jnp.ones_like(length)}
        found = optx.least_squares(lambda x, _: squares(x), solver, u, **more)
    else:
        solver = optx.BFGS(**at) if task.method == "bfgs" else _adam(task, settings, at)
        found = optx.minimise(lambda x, _: cost(x), solver, u, **more)
    return found.value, found.stats["num_steps"], found.result == optx.RESULTS.successful


def _adam(task: Task, settings: dict[str, Any], at: dict[str, Any]) -> Any:
    import optimistix as optx

    optax = library("optax", "The method 'adam'")
    rate = settings.get("rate", 0.05)
    if not callable(rate):
        # The last steps have the rate 0, by which the solver stops.
        rate = optax.cosine_decay_schedule(rate, max(task.steps - 3, 1))
    return optx.OptaxMinimiser(optax.adam(_Schedule(rate)), **at)


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """A schedule that optimistix takes as it is: of plain functions it takes the closures apart."""

    rate: Callable[[Any], Any]

    def __call__(self, count: Any) -> Any:
        return self.rate(count)


def _lbfgs(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    memory = int(_taken(options, "memory").get("memory", 10))
    with usual_promotion():
        found = _compile.call(_lbfgs_run, (task, memory), u, inputs, scales)
    value, steps, slope = np.asarray(found[0]), int(found[1]), float(found[2])
    stopped = steps < task.steps and np.isfinite(slope)
    why = "the gradient was within the tolerance" if stopped else f"it took all {task.steps} steps"
    return Ended(value, steps, steps, stopped, why)


@functools.partial(jax.jit, static_argnums=0)
def _lbfgs_run(key: tuple[Task, int], u: Any, inputs: Any, scales: Any) -> Any:
    optax: Any = library("optax", "The method 'lbfgs'")
    task, memory = key

    def function(x: Any) -> Any:
        return objective(task, x, inputs, scales)

    solver = optax.lbfgs(memory_size=memory)
    value_and_grad = optax.value_and_grad_from_state(function)

    def step(carry: Any) -> Any:
        x, state, count, before, _, _ = carry
        value, gradient = value_and_grad(x, state=state)
        found: Any = solver.update(
            gradient, state, x, value=value, grad=gradient, value_fn=function
        )
        updates, state = found[0], found[1]
        slope = jnp.abs(gradient).max() / (1 + jnp.abs(value))
        small = jnp.abs(updates).max() <= task.tolerance * (1 + jnp.abs(x).max())
        flat = jnp.abs(value - before) <= task.tolerance * (jnp.abs(value) + task.tolerance)
        return optax.apply_updates(x, updates), state, count + 1, value, slope, small & flat

    def going(carry: Any) -> Any:
        _, _, count, _, slope, done = carry
        return (count < task.steps) & (slope > 1e-4 * task.tolerance) & ~done

    first = (u, solver.init(u), 0, jnp.inf, jnp.inf, False)
    x, _, count, _, slope, _ = jax.lax.while_loop(going, step, first)
    return x, count, slope


# Our own with bounds, scipy and cma -----------------------------------------------------------------


def _bounded(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    from ._levenberg_marquardt import levenberg_marquardt

    problem = task.problem
    start = np.asarray(problem.values(u))
    given: dict[str, Any] = {"ftol": task.tolerance, "xtol": task.tolerance, "gtol": 0.0, **options}
    found = levenberg_marquardt(
        lambda x: np.asarray(_compile.call(_value_rows, task, x, inputs, scales)),
        lambda x: np.asarray(_compile.call(_value_jacobian, task, x, inputs, scales)),
        start,
        bounds=problem.bounds,
        constraint=_sums(problem),
        max_nfev=task.steps,
        **given,
    )
    why = found.message.rstrip(".")
    u = problem.nearest(found.x)
    return Ended(u, found.nit, found.nfev, found.success, why, found.x)


def _sums(problem: Problem) -> Any:
    """The limits that the derived numbers set to the sums of the free ones."""
    from ._region import LinearConstraint

    groups = problem.bijection.groups
    if not groups:
        return None
    totals = [float(total) for total in problem._totals(problem.inputs)]
    matrix = np.zeros((len(groups), len(problem.names)))
    for row, group in zip(matrix, groups, strict=True):
        row[list(group.members)] = 1.0
    return LinearConstraint(
        matrix,
        np.array([t - g.high for t, g in zip(totals, groups, strict=True)]),
        np.array([t - g.low for t, g in zip(totals, groups, strict=True)]),
    )


def _least_squares(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    from scipy import optimize

    at = max(task.tolerance, 1e-15)
    given: dict[str, Any] = {"ftol": at, "xtol": at, "gtol": at, "x_scale": "jac", **options}
    jacobian: Any = lambda x: np.asarray(_compile.call(_rows_jacobian, task, x, inputs, scales))  # noqa: E731
    found = optimize.least_squares(
        lambda x: _finite(np.asarray(_compile.call(_rows, task, x, inputs, scales))),
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
        value, gradient = _compile.call(_with_gradient, task, x, inputs, scales)
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
        hess=lambda x: np.asarray(_compile.call(_hessian, task, x, inputs, scales)),
        method="Newton-CG" if newton else "trust-exact",
        options=given,
    )
    return Ended(
        found.x, int(found.nit), int(found.nfev), bool(found.success), found.message.rstrip(".")
    )


def _cma(task: Task, u: Any, inputs: Any, scales: Any, options: dict[str, Any]) -> Ended:
    cma = library("cma", "The method 'cma'")
    options = dict(options)
    rng = np.random.default_rng(options.pop("seed", 0))
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
        costs = np.asarray(_compile.call(_many, task, asked, inputs, scales))
        search.tell(list(asked), np.where(np.isfinite(costs), costs, np.inf).tolist())
    reasons = dict(search.stop())
    stopped = not {"maxiter", "maxfevals", "timeout"}.intersection(reasons)
    why = ", ".join(f"{name} {value:g}" for name, value in reasons.items())
    best = search.result
    return Ended(np.asarray(best.xbest), int(best.iterations), int(best.evaluations), stopped, why)
