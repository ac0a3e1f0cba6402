"""Is where a search ended an optimum, and what do the data say there?"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._identifiability import Identifiability, identifiability
from ._objectives import Task, value_jacobian, value_rows
from ._problem import Problem
from ._programs import prior_density
from ._solvers import Ended

NEAR = 0.01
"""A fit is at the optimum if the step that a quadratic model would still take is below this many standard
errors: what it would change is lost in the uncertainty of the estimates."""
EXACT = 1e-8
"""Residuals below this share of the data's spread are rounding: the data are met exactly."""
INSET = 1e-9
"""Priors are differentiated at least this share of a parameter's range away from its bounds."""
AT_BOUND = 1e-6
"""A value is at a bound when it is nearer than this share of the room between its bounds."""


class Judged(NamedTuple):
    """What is known of the point where a search ended; the attributes are those of `Fit`."""

    values: np.ndarray
    success: bool
    sentence: str
    cost: float
    residuals: np.ndarray
    jacobian: np.ndarray
    identifiability: Identifiability
    uncertainty: Identifiability
    at_bound: tuple[str, ...]


class _Reached(NamedTuple):
    """Bounds at the point: which parameters are at their low or high one, (k,) each; the sums (j, k) of
    parameters that are at a limit; the names of what is at a bound.
    """

    low: np.ndarray
    high: np.ndarray
    sums: np.ndarray
    names: tuple[str, ...]


def judge(task: Task, ended: Ended, scales: np.ndarray, steps: int) -> Judged:
    """Success, and what the data say about the parameters."""
    problem, inputs = task.problem, task.problem.inputs
    values = np.asarray(problem.values(ended.u)) if ended.values is None else ended.values
    bare = task._replace(priors=False)
    found = np.asarray(_compile.call(value_rows, bare, values, inputs, scales))
    jacobian = np.asarray(_compile.call(value_jacobian, bare, values, inputs, scales))
    finite = bool(np.isfinite(found).all() and np.isfinite(jacobian).all())
    r, j = (found, jacobian) if finite else (np.zeros_like(found), np.zeros_like(jacobian))
    gradient, curvature = j.T @ r, np.zeros(len(values))
    if task.priors and problem.priors:
        # At the very end of its support a density may have no derivative.
        inset = INSET * sizes(problem, values)
        low, high = problem.bounds
        inside = np.clip(values, low + inset, high - inset)
        slope, second = (np.asarray(x) for x in _compile.call(_prior_shape, problem, inside))
        gradient, curvature = gradient - slope, np.maximum(-second, 0.0)
    exact = _is_exact(problem, found, scales)
    at = _reached(problem, values)
    variance = _variance(task, r)
    pushed = _pushed(at, gradient, j, curvature, variance) * (not exact)
    information = _Information(task, values, r, j, curvature, at.sums)
    # A parameter that merely lies at a bound is as free as any other, unless the step would take it out.
    held = pushed > NEAR
    left = _remaining(information, gradient, held, variance)
    if left > NEAR and ((pushed > 0) != held).any():
        less = _remaining(information, gradient, pushed > 0, variance)
        if less <= NEAR:
            held, left = pushed > 0, less
    known, posterior = information.given(held)
    stuck = pushed < -NEAR
    success, sentence = _outcome(
        problem, ended, steps, stuck, held, 0.0 if exact else left, finite, exact
    )
    if success and known.unidentified:
        sentence += " The data do not identify all parameters."
    return Judged(
        values, success, sentence, float(found @ found) / 2, found, jacobian, known, posterior, at.names
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def _prior_shape(problem: Problem, values: Any) -> Any:
    """The gradient of the log prior density, (k,), and its second derivatives, (k,): it is a sum."""
    slope = jax.grad(lambda x: prior_density(problem, x))
    return slope(values), jax.jvp(slope, (values,), (jnp.ones_like(values),))[1]


def _estimates(task: Task) -> bool:
    """Is the variance of the residuals to be estimated? Else their scales are their standard deviations."""
    problem = task.problem
    unknown = bool(problem.series) and all(one.sigma is None for one in problem.series)
    return unknown and not problem.moments and not (task.priors and problem.priors)


def _variance(task: Task, residuals: np.ndarray) -> float:
    if not _estimates(task):
        return 1.0
    return float(residuals @ residuals) / max(len(residuals) - len(task.problem.names), 1)


class _Information(NamedTuple):
    """What residuals (m,), their Jacobian (m, k) and the priors' curvature (k,) say of the parameters."""

    task: Task
    values: np.ndarray
    residuals: np.ndarray
    jacobian: np.ndarray
    curvature: np.ndarray
    sums: np.ndarray

    def given(
        self, held: np.ndarray, variance: float | None = None
    ) -> tuple[Identifiability, Identifiability]:
        """By the data alone, and with the priors, where some parameters (k,) are held at their bounds.

        `variance` is that of a residual, where it is not to be estimated.
        """
        problem, r, j = self.task.problem, self.residuals, self.jacobian
        about: dict[str, Any] = {
            "scales": sizes(problem, self.values), "at_bound": held, "reached_sums": self.sums,
        }  # fmt: skip
        if variance is None and not _estimates(self.task):
            variance = 1.0
        known = identifiability(j, r, self.values, problem.names, variance=variance, **about)
        if not self.curvature.any():
            return known, known
        rows, zeros = np.diag(np.sqrt(self.curvature)), np.zeros(len(self.values))
        both = np.vstack([j, rows]), np.append(r, zeros)
        return known, identifiability(*both, self.values, problem.names, variance=1.0, **about)


def sizes(problem: Problem, values: np.ndarray) -> np.ndarray:
    """A large change of each parameter."""
    low, high = problem.bounds
    return np.where(np.isfinite(high - low), high - low, np.maximum(np.abs(values), 1.0))


def _reached(problem: Problem, values: np.ndarray) -> _Reached:
    low, high = problem.bounds
    room = np.where(np.isfinite(high - low), high - low, problem.bijection.scale)
    at_low, at_high = values - low <= AT_BOUND * room, high - values <= AT_BOUND * room
    names = [n for n, h in zip(problem.names, at_low | at_high, strict=True) if h]
    sums = []
    totals = [float(total) for total in problem._totals(problem.inputs)]
    for name, group, total in zip(problem.derived, problem.bijection.groups, totals, strict=True):
        rest = total - values[list(group.members)].sum()
        room = group.high - group.low if np.isfinite(group.high - group.low) else 1.0
        if min(rest - group.low, group.high - rest) <= AT_BOUND * room:
            row = np.zeros(len(values))
            row[list(group.members)] = 1.0
            sums.append(row)
            names.append(name)
    return _Reached(at_low, at_high, np.array(sums).reshape(-1, len(values)), tuple(names))


def _pushed(
    at: _Reached, gradient: np.ndarray, jacobian: np.ndarray, curvature: np.ndarray, variance: float
) -> np.ndarray:
    """How hard the data push a parameter against its bound, (k,): positive outwards, negative inwards.

    In standard errors of a fit of that parameter alone; 0 for those that are at no bound.
    """
    slope = np.where(at.low, gradient, 0.0) - np.where(at.high, gradient, 0.0)
    size = np.sqrt(((jacobian**2).sum(axis=0) + curvature) * variance)
    return np.divide(slope, size, out=np.zeros_like(slope), where=size > 0)


def _is_exact(problem: Problem, residuals: np.ndarray, scales: np.ndarray) -> bool:
    """Are all residuals rounding, measured by the spread of the data?"""
    ends = np.cumsum([one.size for one in problem.series], dtype=int)
    *parts, rest = np.split(residuals, ends)
    ratios = [
        np.sqrt(np.mean(part**2)) * scale / one.spread
        for part, scale, one in zip(parts, scales, problem.series, strict=True)
    ]
    return all(r <= EXACT for r in ratios) and bool((np.abs(rest) <= EXACT).all())


def _outcome(
    problem: Problem, ended: Ended, steps: int, stuck: np.ndarray, held: np.ndarray, left: float,
    finite: bool, exact: bool,
) -> tuple[bool, str]:  # fmt: skip
    """Success, and the outcome as a sentence."""
    after = f"after {steps:,} step{'s' if steps != 1 else ''}"
    if not finite:
        return (
            False,
            f"Failed {after}: the run or its derivatives are not finite at the last point.",
        )
    if stuck.any():
        return False, (
            f"Stuck {after} at a saturated bound of {_listed(problem, stuck)}: the cost falls away from it, "
            "but the search has no slope left there. Start elsewhere, from many starts, or use "
            "method='bounded'."
        )
    if not left <= NEAR:
        return False, (
            f"Not at an optimum {after}: the next step would still move the parameters by {left:.2g} "
            f"standard errors. The search says: {ended.why}."
        )
    text = f"Converged {after}"
    if exact:
        text += ": the data are met exactly."
    elif not ended.stopped:
        text += f", within {NEAR:g} standard errors of the optimum. The search says: {ended.why}."
    else:
        text += "."
    if held.any():
        text += f" At a bound: {_listed(problem, held)}; the data would go further."
    return True, text


def _listed(problem: Problem, which: np.ndarray) -> str:
    return ", ".join(name for name, one in zip(problem.names, which, strict=True) if one)


def _remaining(
    information: _Information, gradient: np.ndarray, held: np.ndarray, variance: float
) -> float:
    """How far the step of the quadratic model would go, in standard errors of its own direction."""
    free = np.flatnonzero(~held)
    if not len(free) or not variance > 0:
        return 0.0
    covariance = information.given(held, variance)[1].covariance[np.ix_(free, free)]
    square = gradient[free] @ covariance @ gradient[free]
    return float(np.sqrt(max(square, 0.0)) / variance)
