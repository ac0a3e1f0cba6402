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
from ._room import AT_BOUND, gaps, sizes
from ._solvers import Ended

NEAR = 0.01
"""A fit is at the optimum if the step that a quadratic model would still take is below this many standard
errors: what it would change is lost in the uncertainty of the estimates."""
EXACT = 1e-8
"""Residuals below this share of the data's spread are rounding: the data are met exactly."""
INSET = 1e-9
"""Priors are differentiated at least this share of a parameter's range away from its bounds."""


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
    """The limits that a point is at: bounds of parameters, and of what adding up derives from them.

    Attributes:
        names: whose limits, j of them. own: which are bounds of the parameters themselves, (j,) of bool.
        limited: the parameter, or the sum of parameters, that cannot go on, as weights (j, k).
        outward: the direction that is stopped, (j, k): of those in a sum that can move.
    """

    names: tuple[str, ...]
    own: np.ndarray
    limited: np.ndarray
    outward: np.ndarray

    def parameters(self, which: np.ndarray) -> np.ndarray:
        """The parameters (k,) that some of these limits (j,) hold."""
        return (self.limited[which & self.own] != 0).any(axis=0)

    def sums(self, which: np.ndarray) -> np.ndarray:
        """The sums of parameters that some of these limits (j,) hold, as weights (., k)."""
        return self.limited[which & ~self.own]

    def listed(self, which: np.ndarray) -> str:
        return ", ".join(name for name, one in zip(self.names, which, strict=True) if one)


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
    information = _Information(task, values, r, j, curvature, at)
    # What merely lies at a bound is as free as anything else, unless the step would take it out.
    held = pushed > NEAR
    left = _remaining(information, gradient, held, variance)
    if left > NEAR and ((pushed > 0) != held).any():
        less = _remaining(information, gradient, pushed > 0, variance)
        if less <= NEAR:
            held, left = pushed > 0, less
    known, posterior = information.given(held)
    stuck = at.listed(pushed < -NEAR)
    success, sentence = _outcome(ended, steps, stuck, 0.0 if exact else left, finite, exact)
    if success and held.any():
        sentence += f" At a bound: {at.listed(held)}; the data would go further."
    if success and known.unidentified:
        sentence += " The data do not identify all parameters."
    return Judged(
        values, success, sentence, float(found @ found) / 2, found, jacobian, known, posterior,
        tuple(dict.fromkeys(at.names)),
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
    at: _Reached

    def given(
        self, held: np.ndarray, variance: float | None = None
    ) -> tuple[Identifiability, Identifiability]:
        """By the data alone, and with the priors, where some limits (j,) hold the parameters.

        `variance` is that of a residual, where it is not to be estimated.
        """
        problem, r, j = self.task.problem, self.residuals, self.jacobian
        about: dict[str, Any] = {
            "scales": sizes(problem, self.values),
            "at_bound": self.at.parameters(held),
            "reached_sums": self.at.sums(held),
        }
        if variance is None and not _estimates(self.task):
            variance = 1.0
        known = identifiability(j, r, self.values, problem.names, variance=variance, **about)
        if not self.curvature.any():
            return known, known
        rows, zeros = np.diag(np.sqrt(self.curvature)), np.zeros(len(self.values))
        both = np.vstack([j, rows]), np.append(r, zeros)
        return known, identifiability(*both, self.values, problem.names, variance=1.0, **about)


def _reached(problem: Problem, values: np.ndarray) -> _Reached:
    near: Any = gaps(problem, values) <= AT_BOUND
    count = len(values)
    held = near[:count].any(axis=1)
    names, limited, outward = [], [], []
    for place, end in np.argwhere(near):
        sign, whole, part = (-1.0, 1.0)[end], np.zeros(count), np.zeros(count)
        if place < count:
            names.append(problem.names[place])
            whole[place], part[place] = 1.0, sign
        else:
            names.append(problem.derived[place - count])
            members = list(problem.bijection.groups[place - count].members)
            whole[members] = 1.0
            # It falls where those that it is the rest of rise.
            part[[i for i in members if not held[i]] or members] = -sign
        limited.append(whole)
        outward.append(part)
    own = np.array([place < count for place, _ in np.argwhere(near)], bool)
    rows = (np.array(one).reshape(-1, count) for one in (limited, outward))
    return _Reached(tuple(names), own, *rows)


def _pushed(
    at: _Reached, gradient: np.ndarray, jacobian: np.ndarray, curvature: np.ndarray, variance: float
) -> np.ndarray:
    """How hard the data push against each limit, (j,): positive outwards, negative inwards.

    In standard errors of a fit of what it stops alone.
    """
    slope = -at.outward @ gradient
    square = ((jacobian @ at.outward.T) ** 2).sum(axis=0) + at.outward**2 @ curvature
    size = np.sqrt(square * variance)
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
    ended: Ended, steps: int, stuck: str, left: float, finite: bool, exact: bool
) -> tuple[bool, str]:
    """Success, and the outcome as a sentence."""
    after = f"after {steps:,} step{'s' if steps != 1 else ''}"
    if not finite:
        return (
            False,
            f"Failed {after}: the run or its derivatives are not finite at the last point.",
        )
    if stuck:
        return False, (
            f"Stuck {after} at a saturated bound of {stuck}: the cost falls away from it, "
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
    return True, text


def _remaining(
    information: _Information, gradient: np.ndarray, held: np.ndarray, variance: float
) -> float:
    """How far the step of the quadratic model would go, in standard errors of its own direction."""
    free = np.flatnonzero(~information.at.parameters(held))
    if not len(free) or not variance > 0:
        return 0.0
    covariance = information.given(held, variance)[1].covariance[np.ix_(free, free)]
    square = gradient[free] @ covariance @ gradient[free]
    return float(np.sqrt(max(square, 0.0)) / variance)
