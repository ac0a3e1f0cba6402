"""The profile likelihood: how well the data bear other values of a parameter."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._libraries import usual_promotion
from ._objectives import Task, objective, rows
from ._problem import Problem
from ._programs import _moved, density, deviations, reweighted
from ._searches import searched
from ._solvers import STEPS, without_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._fit import Fit

BETTER = 0.01
"""Less than this, by which twice the log density is above the fit's, is left over by its stopping rule."""
ASIDE = 1e-3
"""The searches begin this much aside of the fit, away from bounds: what is at a bound in the fit
may not be so for another value, and at the bound itself a search has no slope to leave it by."""
ROUNDS = 4
"""Searches for each value, where measurement errors are not known: the first begins with those of the fit."""


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """The best fit for each of several values of one parameter.

    Attributes:
        name: the parameter. estimate: its value in the fit.
        values: (n,). drop: by how much twice the log-likelihood (with priors: the log posterior density)
            falls from the fit's, (n,): NaN where the search failed, negative where it found a better fit.
        others: the other free parameters there, name -> (n,).
        level: of the interval. interval: the values that a likelihood-ratio test at that level admits,
            (low, high): an end is infinite where the last value looked at is still admitted. Where the
            size of the errors is estimated, the test allows for that, as Student's t does.
        limit: the drop up to which the test admits a value. priors: whether the drop counts them.
    """

    name: str
    estimate: float
    values: np.ndarray
    drop: np.ndarray
    others: dict[str, np.ndarray]
    level: float
    interval: tuple[float, float]
    limit: float
    priors: bool

    @property
    def flat(self) -> bool:
        """Do the data say nothing: is every value admitted?"""
        return bool(np.isinf(self.interval).all())

    def __str__(self) -> str:
        low, high = self.interval
        if self.flat:
            text = (
                f"every value from {self.values[0]:.6g} to {self.values[-1]:.6g} fits about as well: the data "
                "do not identify it"
            )
        else:
            both = f"{low:.6g} to {high:.6g}"
            some = f"up to {high:.6g}" if np.isinf(low) else f"{low:.6g} or more"
            text = f"{self.level:.0%} interval {both if np.isfinite([low, high]).all() else some}"
        text = f"{self.name} = {self.estimate:.6g}: {text}."
        if np.nanmin(self.drop, initial=0.0) < -BETTER:
            best = self.values[np.nanargmin(self.drop)]
            text += f" There is a better fit near {best:.6g}: fit again from there, or from many starts."
        return text

    def plot(self) -> Figure:
        """The drop over the values, with the level of the interval."""
        from ..plot import _fit

        return _fit.profile(self)


def profile(
    fit: Fit, name: str, *, points: int = 21, width: float = 4.0, level: float = 0.95
) -> Profile:
    """See `Fit.profile`: all values at once, by Levenberg and Marquardt's method or by BFGS.

    Raises:
        KeyError: a parameter that is not free. ValueError: fewer than 5 points, no width.
    """
    problem = fit.problem
    if name not in problem.names:
        raise KeyError(f"{name!r} is not free. Free are: {', '.join(problem.names)}.")
    if points < 5:
        raise ValueError(f"A profile needs at least 5 points, not {points}.")
    if not width > 0:
        raise ValueError(f"width is a number of standard errors above 0, not {width!r}.")
    at = problem.names.index(name)
    width = max(width, 1.25 * fit.quantile((1 + level) / 2))
    values, estimate = _values(fit, at, points, width), float(fit.estimates[at])
    limit = _limit(fit, level)
    with jax.enable_x64(True):
        top = float(_compile.call(_level, (problem, fit.priors), fit.u, problem.inputs))
        found, others = _best(fit, at, values)
        if len(between := _between(values, 2 * (top - found), limit, estimate)):
            # As many again, where the interval ends: of one size, they run as the same program.
            more, their = _best(fit, at, between)
            order = np.argsort(np.append(values, between), kind="stable")
            values, found = np.append(values, between)[order], np.append(found, more)[order]
            others = np.concatenate([others, their])[order]
    drop = 2 * (top - found)
    rest = [one for one in problem.names if one != name]
    return Profile(
        name, estimate, values, drop,
        dict(zip(rest, others.T, strict=True)), level, _interval(values, drop, limit, estimate), limit,
        fit.priors,
    )  # fmt: skip


def _limit(fit: Fit, level: float) -> float:
    """By how much twice the log density may fall within the interval.

    With errors of a known size, a quantile of chi-squared. With an unknown one the drop is
    n log(1 + t^2 / f) of Student's t with f degrees of freedom, if the model is linear.
    """
    from scipy import stats

    freedom, count = fit.uncertainty.freedom, len(fit.residuals)
    if not 0 < freedom < np.inf:
        return float(stats.chi2.ppf(level, 1))
    return float(count * np.log1p(stats.t.ppf((1 + level) / 2, freedom) ** 2 / freedom))


def _values(fit: Fit, at: int, points: int, width: float) -> np.ndarray:
    """Evenly spaced values around the estimate, within the bounds."""
    low, high = (float(b[at]) for b in fit.problem.bounds)
    centre, error = float(fit.estimates[at]), float(fit.uncertainty.standard_errors[at])
    if not np.isfinite(error):
        error = (high - low) / width if np.isfinite(high - low) else max(abs(centre), 1.0)
    reach = width * max(error, 1e-9 * max(abs(centre), 1e-9))
    inset = 1e-6 * (min(high, centre + reach) - max(low, centre - reach))
    return np.linspace(max(low + inset, centre - reach), min(high - inset, centre + reach), points)


def _best(fit: Fit, at: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log density at the best fit for each value, (n,), and the other parameters there, (n, k - 1)."""
    # What is first of its group has the same room whatever the others are: its u is known beforehand.
    problem = _with_first(fit.problem, at)
    points = np.tile([problem._values[one] for one in problem._places], (len(values), 1))
    points[:, at] = values
    totals = [float(total) for total in problem._totals(problem.inputs)]
    pinned = problem.bijection.unconstrain(points, totals)[:, at]
    scales = np.array([fit.sigmas[one.label] or 1.0 for one in problem.series])
    method = "bfgs" if fit.priors and without_mode(problem) else "lm"
    task = Task(problem, fit.priors, method, STEPS[method], 1e-9)
    start = problem.nearest(fit.estimates + ASIDE * (problem.centre - fit.estimates))
    start = np.delete(start, at)
    with usual_promotion():
        found, free = _compile.call(_all, (task, at), pinned, start, problem.inputs, scales)
    return np.asarray(found), np.delete(np.asarray(free), at, axis=1)


def _with_first(problem: Problem, at: int) -> Problem:
    """The same problem, where a parameter is the first of its group to be taken from the total."""
    if not any(at in group.members[1:] for group in problem.bijection.groups):
        return problem
    groups = tuple(
        dataclasses.replace(group, members=(at, *(i for i in group.members if i != at)))
        if at in group.members
        else group
        for group in problem.bijection.groups
    )
    other = copy.copy(problem)
    other.bijection = dataclasses.replace(problem.bijection, groups=groups)
    return other


@functools.partial(jax.jit, static_argnums=0)
def _all(key: tuple[Task, int], pinned: Any, start: Any, inputs: Any, scales: Any) -> Any:
    task, at = key
    problem = task.problem

    def one(fixed: Any) -> Any:
        def whole(u: Any) -> Any:
            return jnp.insert(u, at, fixed)

        def best(_: int, found: Any) -> Any:
            u, scales = found
            u = searched(
                task.method, task.steps, task.tolerance,
                lambda u: rows(task, whole(u), inputs, scales),
                lambda u: objective(task, whole(u), inputs, scales),
                u,
            ).u  # fmt: skip
            errors = deviations(problem, _moved(problem, whole(u), inputs)[0], scales)
            return u, jnp.where(errors > 0, errors, scales)

        # Errors that are not known are estimated anew for each value.
        rounds = ROUNDS if reweighted(problem, task.priors) else 1
        end = jax.lax.fori_loop(0, rounds, best, (start, scales))[0] if len(start) else start
        moved, values, _ = _moved(problem, whole(end), inputs)
        return density(problem, task.priors, moved, values), values

    return jax.vmap(one)(pinned)


@functools.partial(jax.jit, static_argnums=0)
def _level(key: tuple[Problem, bool], u: Any, inputs: Any) -> Any:
    moved, values, _ = _moved(key[0], u, inputs)
    return density(*key, moved, values)


def _crossings(
    values: np.ndarray, drop: np.ndarray, limit: float, estimate: float
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Below and above the estimate: the two values between which the drop crosses the limit, and their
    drops; None where it does not."""
    found = []
    for side in (values < estimate, values > estimate):
        order = np.argsort(np.abs(values[side] - estimate))
        x = np.append(estimate, values[side][order])
        y = np.append(0.0, drop[side][order])
        beyond = np.flatnonzero(~(y <= limit))
        known = len(beyond) and np.isfinite(y[beyond[0]])
        found.append((x[beyond[0] - 1 :][:2], y[beyond[0] - 1 :][:2]) if known else None)
    return found


def _between(values: np.ndarray, drop: np.ndarray, limit: float, estimate: float) -> np.ndarray:
    """As many values again, within the steps in which the interval ends; none if it has no end."""
    steps = [one[0] for one in _crossings(values, drop, limit, estimate) if one is not None]
    counts = [len(values) // len(steps)] * len(steps) if steps else []
    if counts:
        counts[0] += len(values) - sum(counts)
    inner = [np.linspace(x[0], x[1], n + 2)[1:-1] for x, n in zip(steps, counts, strict=True)]
    return np.sort(np.concatenate(inner)) if inner else np.zeros(0)


def _interval(
    values: np.ndarray, drop: np.ndarray, limit: float, estimate: float
) -> tuple[float, float]:
    """Where the drop crosses the limit on either side of the estimate."""
    ends = [-np.inf, np.inf]
    for i, one in enumerate(_crossings(values, drop, limit, estimate)):
        if one is not None:
            # The drop is nearly a parabola: its root is nearly straight.
            (near, far), (a, b) = one[0], np.sqrt(np.maximum(one[1], 0.0))
            ends[i] = float(near + (np.sqrt(limit) - a) / (b - a) * (far - near))
    return ends[0], ends[1]
