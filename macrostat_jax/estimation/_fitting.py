"""Fits a problem: one search or many, repeated where the size of the errors is estimated along."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _compile
from ._fit import Fit
from ._objectives import Task
from ._outcome import EXACT, judge
from ._problem import Problem
from ._programs import _moved, density, deviations, reweighted
from ._solvers import STEPS, Ended, check, solve
from ._statistics import series_fits

if TYPE_CHECKING:
    from ._starts import MultiStart

ROUNDS = 25
"""The most rounds in which unknown measurement errors are estimated from the residuals."""


def fit(
    problem: Problem,
    method: str = "lm",
    *,
    start: Any = None,
    starts: Any = 1,
    priors: bool | None = None,
    steps: int | None = None,
    tolerance: float = 1e-10,
    seed: int = 0,
    **options: Any,
) -> Fit:
    """The parameters at which a model's path is nearest to the data.

    Minimises the sum of squared residuals, which is the most likely value for independent normal errors;
    with priors, the mode of the posterior density of the parameters. Where measurement errors are not
    known and there are several series (or priors), their standard deviations are estimated from the
    residuals, and the fit repeated until these agree: the maximum of the likelihood over both.

    A search that ends near a bound goes on within the bounds, as `"bounded"` does, and can end at one: the
    estimate then has no standard error, and `outcome` says so.

    Computes in float64 whatever JAX's default is.

    Args:
        problem: a `Problem`.
        method: `"lm"`, `"dogleg"` (optimistix); `"bounded"` (`levenberg_marquardt`, within bounds);
            `"least_squares"` (scipy); `"bfgs"`, `"lbfgs"` (optimistix), `"adam"` (optax);
            `"newton"`, `"trust-exact"` (scipy, with exact Hessians); `"cma"` (without derivatives).
        start: where to begin: another fit, or what `problem.unconstrain` takes. Default: the problem's
            start.
        starts: how many starts, or what else `multi_start` takes: all in one batch, of which the one with
            the greatest likelihood (with priors, posterior density) is taken further by `method`. The
            first part is by "lm" where `method` cannot be batched.
        priors: whether the problem's priors count. Default: where there are any.
        steps: the most steps of a search, and of what follows near a bound. Default: by method.
        tolerance: what a search takes for no further progress, relative.
        seed: of the starts, and of what cma draws.
        options: of the search itself: `rate` for adam, a number or an optax schedule; `memory` for lbfgs;
            cma's own; scipy's own.

    Returns:
        A `Fit`. A search that fails is one too: see `success` and `outcome`.

    Raises:
        ValueError: an unknown method; one that cannot take the priors; a start outside the bounds.
        ImportError: a method whose library is missing, with the extra that brings it.
    """
    check(problem, method, priors is not False)
    with_priors = bool(problem.priors) if priors is None else bool(priors)
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a whole number, at least 1, not {steps!r}.")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be a positive number, not {tolerance!r}.")
    with jax.enable_x64(True):
        u, many = _begin(problem, start), None
        if not (isinstance(starts, int) and starts == 1):
            many = _from_many(problem, method, starts, seed)
            u = _best(many, with_priors)
        task = Task(problem, with_priors, method, steps or STEPS[method], float(tolerance))
        options = {"seed": seed, **options} if method == "cma" else options
        ended, scales, spent = _rounds(task, u, options)
        found = judge(task, ended, scales, spent[0])
        labels = [one.label for one in problem.series]
        sigmas = dict(zip(labels, _deviations(problem, ended.u).tolist(), strict=True))
        likelihood = float(problem.log_likelihood(ended.u))
        series = series_fits(problem, ended.u)
    return Fit(
        problem, method, with_priors, ended.u, found.values, found.success, found.sentence, found.cost,
        likelihood, found.residuals, found.jacobian, found.identifiability, found.uncertainty, sigmas,
        series, found.at_bound, *spent, many,
    )  # fmt: skip


def _begin(problem: Problem, start: Any) -> np.ndarray:
    if start is None:
        return problem.start
    if isinstance(start, Fit):
        found, (low, high) = start.estimates, problem.bounds
        if start.names == problem.names and ((low <= found) & (found <= high)).all():
            return problem.nearest(found)  # which may be at a bound
        start = dict(zip(start.names, found.tolist(), strict=True))
    u = problem.unconstrain(start)
    if u.ndim != 1:
        raise ValueError(f"start is one point, not {u.shape[:-1]} of them: several are starts=.")
    return u


def _from_many(problem: Problem, method: str, starts: Any, seed: int) -> MultiStart:
    from ._multistart import STEPS as BATCHED
    from ._multistart import multi_start

    return multi_start(problem, starts, method=method if method in BATCHED else "lm", seed=seed)


def _best(many: MultiStart, priors: bool) -> np.ndarray:
    """The end of a start from which the fit goes on.

    The starts minimised squares with the spread of the data for errors, and know no priors: what counts is
    the fit's own measure.
    """
    problem = many.problem
    if not (priors and problem.priors) and not reweighted(problem, priors):
        return many.best_u
    found = np.asarray(_compile.call(_heights, (problem, priors), many.u, problem.inputs))
    good = np.isfinite(many.costs) & np.isfinite(found)
    return many.u[np.argmax(np.where(good, found, -np.inf))] if good.any() else many.best_u


@functools.partial(jax.jit, static_argnums=0)
def _heights(key: tuple[Problem, bool], u: Any, inputs: Any) -> Any:
    def one(u: Any) -> Any:
        moved, values, _ = _moved(key[0], u, inputs)
        return density(*key, moved, values)

    return jax.lax.map(one, u, batch_size=min(len(u), 256))


def _rounds(
    task: Task, u: np.ndarray, options: dict[str, Any]
) -> tuple[Ended, np.ndarray, tuple[int, int]]:
    """Searches until the errors' standard deviations agree with the residuals, where they are unknown."""
    problem = task.problem
    scales, inputs = problem.scales, problem.inputs
    again = reweighted(problem, task.priors)
    steps = evaluations = 0
    for _ in range(ROUNDS if again else 1):
        ended = solve(task, u, inputs, scales, options)
        steps, evaluations = steps + ended.steps, evaluations + ended.evaluations
        if not again or not np.isfinite(ended.u).all():
            break
        found = _deviations(problem, ended.u)
        if not (found > EXACT * problem.scales).all():
            break  # a series that is met exactly has no error to weight it by
        change = np.abs(found / scales - 1).max()
        scales, u = found, ended.u
        if change < 1e-5:
            break
    return ended, scales, (steps, evaluations)


@functools.partial(jax.jit, static_argnums=0)
def _deviations_at(problem: Problem, u: Any, inputs: Any, scales: Any) -> Any:
    return deviations(problem, _moved(problem, u, inputs)[0], scales)


def _deviations(problem: Problem, u: np.ndarray) -> np.ndarray:
    """The standard deviation of the errors of each series: given, or the root of their mean square."""
    return np.asarray(_compile.call(_deviations_at, problem, u, problem.inputs, problem.scales))
