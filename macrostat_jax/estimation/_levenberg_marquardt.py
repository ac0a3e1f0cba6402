"""Nonlinear least squares by Levenberg and Marquardt's method, within bounds.

Minimises the cost F(x) = |r(x)|^2 / 2. Each step s minimises |J s + r|^2 + lambda |D s|^2 within the bounds,
D^2 being the diagonal of J'J or the identity; the damping lambda follows the ratio of the achieved to the
predicted reduction of the cost (Nielsen's rule: Madsen, Nielsen and Tingleff 2004, *Methods for Non-Linear
Least Squares Problems*, section 3.2). A step that does not lower the cost is never taken.

Not `scipy.optimize.least_squares`, which is the tests' second opinion: its method with bounds has a trust
region in place of the damping, so that the documented damping options would mean nothing, it never
reaches a bound, and knows no limits on sums of parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._region import LinearConstraint, Region

FTOL, XTOL, GTOL, BUDGET, FAILED = 0, 1, 2, -1, -2
"""The statuses of `LeastSquares`."""

LEAST_DAMPING = float(np.finfo(float).eps)
"""Less would let directions without effect wander by rounding."""


class Iteration(NamedTuple):
    """What the callback is told after each trial step.

    Attributes:
        nit, nfev, njev: how many trial steps, residuals and Jacobians there were so far.
        x: the best parameters so far (n,): the trial, if it was accepted.
        cost: at `x`.
        damping: for the next step.
        accepted: whether the trial was taken.
        length: the largest change of a parameter in the trial step, relative to its size.
        optimality: at `x`.
    """

    nit: int
    nfev: int
    njev: int
    x: np.ndarray
    cost: float
    damping: float
    accepted: bool
    length: float
    optimality: float


@dataclasses.dataclass(frozen=True, eq=False)
class LeastSquares:
    """The outcome of a least-squares fit.

    Attributes:
        x: the parameters with the lowest cost that was met, (n,).
        cost: half the sum of the squared residuals there.
        residuals: (m,). jacobian: (m, n). Both at `x`.
        optimality: the largest element of the gradient J'r, less what would only lead out of the bounds.
        status: 0, 1, 2: converged by ftol, xtol, gtol; -1: out of evaluations; -2: failed.
        message: the outcome as a sentence.
        nfev, njev, nit: how many residuals, Jacobians and trial steps were computed.
    """

    x: np.ndarray
    cost: float
    residuals: np.ndarray
    jacobian: np.ndarray
    optimality: float
    status: int
    message: str
    nfev: int
    njev: int
    nit: int

    @property
    def success(self) -> bool:
        return self.status >= 0


def levenberg_marquardt(
    residuals: Callable[[np.ndarray], Any],
    jacobian: Callable[[np.ndarray], Any],
    start: Any,
    *,
    bounds: tuple[Any, Any] = (-np.inf, np.inf),
    constraint: LinearConstraint | None = None,
    scaling: str = "marquardt",
    ftol: float = 1e-8,
    xtol: float = 1e-8,
    gtol: float = 1e-8,
    max_nfev: int = 1000,
    damping_init: float = 1e-3,
    damping_update_factor: float = 2.0,
    callback: Callable[[Iteration], Any] | None = None,
) -> LeastSquares:
    """The parameters with the least sum of squared residuals.

    Args:
        residuals: x (n,) -> (m,). NaN or infinity rejects a step.
        jacobian: x (n,) -> (m, n).
        start: the first x, within bounds.
        bounds: (low, high), each a number or (n,). A parameter with low = high stays.
        constraint: limits on weighted sums of parameters.
        scaling: `"marquardt"` damps each parameter in proportion to its effect, so that units do not
            matter; `"identity"` all alike.
        ftol: converged when a step changes the cost F by less than ftol (F + ftol), and less damping
            would not promise more.
        xtol: likewise when it changes each parameter by less than xtol (|x| + xtol). Rejected steps,
            which grow shorter, end in this way too.
        gtol: converged when `optimality` is not above it.
        max_nfev: how many residuals may be computed.
        damping_init: the first damping, relative to the diagonal of J'J (`"identity"`: to its largest
            element).
        damping_update_factor: how much a first rejected step raises the damping; each further one in a
            row raises it by this factor more than the one before.
        callback: is told of each `Iteration`.

    Raises:
        ValueError: an option out of its range, a start outside the bounds or with residuals that are not
            finite, residuals or a Jacobian of the wrong shape.
    """
    check_options(scaling, ftol, xtol, gtol, max_nfev, damping_init, damping_update_factor)
    x = np.array(start, dtype=float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"start must be a vector of finite numbers, not {start}.")
    region = Region(len(x), bounds, constraint)
    if not region.contains(x):
        raise ValueError(f"The start {x} is not within the bounds.")
    search = _Search(residuals, jacobian, region, x, scaling)
    rejected: list[_Trial] = []
    factor, nit = damping_update_factor, 0

    def outcome(status: int, reason: str) -> LeastSquares:
        kind = {
            FTOL: "ftol termination condition satisfied",
            XTOL: "xtol termination condition satisfied",
            GTOL: "gtol termination condition satisfied",
            BUDGET: "maximum function evaluations reached",
            FAILED: "optimization failed",
        }[status]
        at = search.point
        return LeastSquares(
            at.x, at.cost, at.residuals, at.jacobian, at.optimality, status,
            f"{kind}: {reason}", search.nfev, search.njev, nit,
        )  # fmt: skip

    damping = damping_init
    if scaling == "identity":
        damping *= max(float((search.point.jacobian**2).sum(axis=0).max(initial=0)), LEAST_DAMPING)
    while True:
        at = search.point
        if not np.isfinite(at.jacobian).all():
            columns = np.flatnonzero(~np.isfinite(at.jacobian).all(axis=0)).tolist()
            return outcome(FAILED, f"the Jacobian is not finite in its columns {columns}.")
        if at.optimality <= gtol:
            return outcome(GTOL, f"no element of the gradient within bounds exceeds {gtol:g}.")
        if search.nfev >= max_nfev:
            return outcome(BUDGET, f"no criterion was met after {search.nfev} of them.")
        trial = search.trial(at.step(damping), xtol)
        nit += 1
        tolerance = ftol * (at.cost + ftol)
        flat = abs(trial.gain) <= tolerance and trial.predicted <= tolerance
        short = trial.length <= xtol
        accepted = trial.gain > 0 and trial.predicted > 0
        if accepted:
            ratio = min(trial.gain / trial.predicted, 2.0)
            # Damping alone can make a step small: then the model holds well, and promises more without.
            held_back = (flat or short) and ratio > 0.75
            if held_back:
                promise = at.reduction(at.step(LEAST_DAMPING))
                held_back = promise > 2 * max(tolerance, trial.predicted)
            damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
            factor, rejected = damping_update_factor, []
            search.accept(trial)
        else:
            held_back = False
            damping *= factor
            factor *= damping_update_factor
            rejected.append(trial)
        damping = max(damping, LEAST_DAMPING)
        if callback is not None:
            callback(
                Iteration(
                    nit, search.nfev, search.njev, search.point.x.copy(), search.point.cost,
                    damping, accepted, trial.length, search.point.optimality,
                )
            )  # fmt: skip
        if not accepted and (flat or short or trial.length == 0 or not np.isfinite(damping)):
            if problem := _contradiction(rejected, at.residuals):
                return outcome(FAILED, problem)
            if not flat:
                reason = f"no step above {xtol:g} of the parameters' size lowers the cost."
                return outcome(XTOL, reason)
        now = search.point
        if held_back or now.optimality <= gtol or not np.isfinite(now.jacobian).all():
            continue
        if flat:
            return outcome(FTOL, f"the cost changes by no more than {ftol:g} of itself.")
        if short:
            reason = f"the parameters change by no more than {xtol:g} of their size."
            return outcome(XTOL, reason)


def _contradiction(rejected: list[_Trial], residuals: np.ndarray) -> str | None:
    """Steps of all lengths were rejected: what is wrong, if this is no minimum.

    At a minimum, short steps change the residuals as the Jacobian says, or by rounding, which does not
    grow shorter with them. If the Jacobian is wrong, what it gets wrong is in proportion to the step.
    """
    if not np.isfinite(rejected[-1].cost):
        return "however short, the steps that promise a lower cost lead to residuals that are not finite."
    found = [t for t in rejected if np.isfinite(t.cost) and np.linalg.norm(t.change) > 0]
    if len(found) < 2:
        return None
    misses = [float(np.linalg.norm(t.residuals - residuals - t.change)) for t in found]
    shares = [miss / np.linalg.norm(t.change) for miss, t in zip(misses, found, strict=True)]
    resolved = np.mean(found[-1].residuals != residuals) > 0.5
    if resolved and min(shares) > 0.5 and misses[-1] < 0.1 * misses[0]:
        return (
            "no step lowers the cost, however short, although the Jacobian says so: it is not the "
            "derivative of the residuals here (is there a kink, or a part that is detached?)."
        )
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class _Trial:
    """A trial step: where it leads, and what it changes."""

    x: np.ndarray
    residuals: np.ndarray
    cost: float
    gain: float
    predicted: float
    change: np.ndarray
    """What the Jacobian says of the change of the residuals."""
    length: float
    """The largest change of a parameter, relative to its size."""


class _Point:
    """A point that was taken, with the linear model of the residuals around it."""

    def __init__(
        self,
        x: np.ndarray,
        residuals: np.ndarray,
        jacobian: np.ndarray,
        region: Region,
        scaling: str,
    ) -> None:
        self.x, self.residuals, self.jacobian = x, residuals, jacobian
        self.cost = float(residuals @ residuals) / 2
        self._region = region
        self.optimality = np.nan
        if not np.isfinite(jacobian).all():
            return
        gradient = jacobian.T @ residuals
        self.optimality = float(np.abs(region.descent(x, gradient)).max(initial=0))
        # J = Q R: steps need R alone.
        q, self._r = np.linalg.qr(jacobian)
        self._target = -(q.T @ residuals)
        length = np.linalg.norm(jacobian, axis=0)
        # A parameter without effect has no scale of its own; it stays where it is.
        self._scale = np.where(length > 0, length, 1.0) if scaling == "marquardt" else 1.0 + 0 * x

    def step(self, damping: float) -> np.ndarray:
        """The point to which the damped step leads, within bounds."""
        root = np.diag(np.sqrt(damping) * self._scale)
        target = np.append(self._target, np.zeros(len(self.x)))
        return self._region.step(self.x, np.vstack([self._r, root]), target)

    def change(self, x: np.ndarray) -> np.ndarray:
        return self.jacobian @ (x - self.x)

    def reduction(self, x: np.ndarray) -> float:
        """By how much the cost falls from here to x, says the linear model."""
        change = self.change(x)
        return -float(change @ self.residuals + change @ change / 2)


class _Search:
    """The functions, how often they were called, and the best point so far."""

    def __init__(
        self, residuals: Any, jacobian: Any, region: Region, x: np.ndarray, scaling: str
    ) -> None:
        self._residuals, self._jacobian = residuals, jacobian
        self._region, self._scaling = region, scaling
        self.nfev = self.njev = 0
        self._count: int | None = None
        first = self._evaluate(x)
        if wrong := int((~np.isfinite(first)).sum()):
            raise ValueError(f"{wrong} of {len(first)} residuals are not finite at the start.")
        self.point = self._point(x, first)

    def _evaluate(self, x: np.ndarray) -> np.ndarray:
        found = np.asarray(self._residuals(x.copy()), dtype=float)
        self.nfev += 1
        if found.ndim != 1 or not found.size or self._count not in (None, len(found)):
            raise ValueError(
                f"The residuals must be a vector of one length, not {found.shape}"
                + (f" after ({self._count},)." if self._count else ".")
            )
        self._count = len(found)
        return found

    def _point(self, x: np.ndarray, residuals: np.ndarray) -> _Point:
        jacobian = np.asarray(self._jacobian(x.copy()), dtype=float)
        self.njev += 1
        if jacobian.shape != (len(residuals), len(x)):
            raise ValueError(
                f"The Jacobian must have the shape {(len(residuals), len(x))}, not {jacobian.shape}."
            )
        return _Point(x, residuals, jacobian, self._region, self._scaling)

    def trial(self, x: np.ndarray, xtol: float) -> _Trial:
        at = self.point
        found = self._evaluate(x)
        with np.errstate(over="ignore", invalid="ignore"):
            cost = float(found @ found) / 2
            # Not the difference of two sums, which loses what small steps gain.
            gain = float((at.residuals - found) @ (at.residuals + found)) / 2
        if not np.isfinite(cost):
            cost, gain = np.inf, -np.inf
        moved, size = np.abs(x - at.x), np.maximum(np.abs(x), np.abs(at.x)) + xtol
        length = float((moved[moved > 0] / size[moved > 0]).max(initial=0))
        return _Trial(x, found, cost, gain, at.reduction(x), at.change(x), length)

    def accept(self, trial: _Trial) -> None:
        self.point = self._point(trial.x, trial.residuals)


def check_options(
    scaling: str, ftol: float, xtol: float, gtol: float, max_nfev: int, init: float, factor: float
) -> None:
    if scaling not in ("marquardt", "identity"):
        raise ValueError(f"Unknown scaling: {scaling}. Use 'marquardt' or 'identity'.")
    for name, value in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, not {value}.")
    if max_nfev < 1:
        raise ValueError(f"max_nfev must be at least 1, not {max_nfev}.")
    if not (np.isfinite(init) and init > 0):
        raise ValueError(f"damping_init must be a finite number above 0, not {init}.")
    if not (np.isfinite(factor) and factor > 1):
        raise ValueError(f"damping_update_factor must be a finite number above 1, not {factor}.")
