"""How well residuals identify parameters: what the Jacobian at a fit says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

RESOLUTION = float(np.sqrt(np.finfo(float).eps))
"""A direction whose singular value is below this share of the largest changes the sum of squares by less
than its rounding: the data do not identify it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Identifiability:
    """What data say about parameters, by the linear model of the residuals at the fit.

    Attributes:
        names: the parameters, n of them.
        values: their fitted values, (n,).
        singular_values: of the Jacobian with its columns scaled to length 1 (so that units do not
            matter), the largest first. Parameters at a bound are left out, and so are directions that
            a limit on a sum rules out.
        condition: the largest over the smallest of them.
        covariance: of the estimates, (n, n): s^2 (J'J)^-1, with s^2 the sum of squared residuals over the
            degrees of freedom. It supposes residuals that are independent and of one variance. NaN for
            parameters at a bound, and where there are no degrees of freedom; of directions that are not
            identified it says nothing (they are left out).
        standard_errors: (n,); infinite where the data say nothing, NaN for a parameter at a bound.
        unidentified: directions in which the parameters may move without effect on the residuals, each
            parameter name -> coefficient, the largest being 1.
        at_bound: parameters that are at a bound of theirs, or fixed by it.
        variance: of a residual: s^2, or as it was given.
        freedom: the degrees of freedom of s^2; infinite where the variance was given.
        reached_sums: weighted sums of the parameters that are at a limit, (j, n).
    """

    names: tuple[str, ...]
    values: np.ndarray
    singular_values: np.ndarray
    condition: float
    covariance: np.ndarray
    standard_errors: np.ndarray
    unidentified: tuple[dict[str, float], ...]
    at_bound: tuple[str, ...]
    variance: float = float("nan")
    freedom: float = float("inf")
    reached_sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))

    def error_of(self, weights: np.ndarray) -> float:
        """The standard error of a weighted sum of the parameters, for `weights` (n,).

        Parameters at bounds count as known; NaN if no other is in the sum, or if it is itself at a limit.
        """
        weights = np.asarray(weights, float)
        held = np.array([name in self.at_bound for name in self.names])
        used = np.flatnonzero((weights != 0) & ~held)
        if not len(used) or self._fixes(np.where(held, 0.0, weights), held):
            return float("nan")
        for one in self.unidentified:
            moved = [weights[i] * one.get(self.names[i], 0.0) for i in used]
            if abs(sum(moved)) > RESOLUTION * sum(map(abs, moved)):
                return float("inf")
        return float(np.sqrt(weights[used] @ self.covariance[np.ix_(used, used)] @ weights[used]))

    def _fixes(self, weights: np.ndarray, held: np.ndarray) -> bool:
        """Do limits on sums leave this one no room?"""
        if not len(self.reached_sums):
            return False
        rows = np.where(held, 0.0, self.reached_sums)
        rest = weights - rows.T @ np.linalg.lstsq(rows.T, weights, rcond=None)[0]
        return bool(np.linalg.norm(rest) <= RESOLUTION * np.linalg.norm(weights))

    def __str__(self) -> str:
        if not len(self.singular_values):
            return "No parameter is free to move: all are at bounds."
        said = "All parameters are identified" if not self.unidentified else "Not identified: "
        directions = []
        for one in self.unidentified:
            parts = [f"{coefficient:+.3g} {name}" for name, coefficient in one.items()]
            directions.append(" ".join(parts) if len(parts) > 1 else next(iter(one)))
        text = f"{said}{'; '.join(directions)} (condition {self.condition:.2g})."
        if self.at_bound:
            text += f" At a bound: {', '.join(self.at_bound)}."
        return text


def identifiability(
    jacobian: np.ndarray,
    residuals: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    *,
    scales: np.ndarray | None = None,
    at_bound: np.ndarray | None = None,
    reached_sums: np.ndarray | None = None,
    variance: float | None = None,
) -> Identifiability:
    """How well the residuals at a fit identify the parameters.

    Args:
        jacobian: (m, n). residuals: (m,). values: the fitted parameters, (n,).
        names: of the parameters, n of them.
        scales: what a large change of each parameter would be, (n,): one that changes the residuals by
            no more than the rounding of what the others do has no effect. Default: only one whose column
            is zero has none.
        at_bound: which parameters are at a bound, (n,) of bool. Default: none.
        reached_sums: weighted sums of the parameters that are at a limit, (j, n). Default: none.
        variance: of each residual, where it is known. Default: s^2, estimated from the residuals.

    Raises:
        ValueError: shapes that do not fit, or a Jacobian that is not finite.
    """
    jacobian, values = np.asarray(jacobian, float), np.asarray(values, float)
    count = len(names)
    held = np.zeros(count, bool) if at_bound is None else np.array(at_bound, bool)
    sums = np.zeros((0, count)) if reached_sums is None else np.asarray(reached_sums, float)
    if jacobian.shape != (len(residuals), count) or values.shape != (count,):
        raise ValueError(
            f"{len(residuals)} residuals and {count} names do not fit a Jacobian {jacobian.shape} and "
            f"values {values.shape}."
        )
    if not np.isfinite(jacobian).all():
        raise ValueError("The Jacobian is not finite.")
    from scipy.linalg import null_space

    for row in sums:
        if len(alone := np.flatnonzero((row != 0) & ~held)) == 1:
            held[alone] = True  # of a sum at its limit, the only one that could move cannot
    free = np.flatnonzero(~held)
    length = np.linalg.norm(jacobian[:, free], axis=0)
    effective = length > 0
    if scales is not None:
        weight = length * np.abs(scales)[free]
        effective &= weight > np.finfo(float).eps * len(residuals) * weight.max(initial=0)
    scale = np.where(effective, length, 1.0)
    columns = np.where(effective, jacobian[:, free] / scale, 0.0)
    # Admissible directions of the scaled parameters: those that leave reached sums as they are.
    within = sums[:, free] / scale
    basis = null_space(within) if len(within) else np.eye(len(free))
    # Of R alone, which has the same: the left singular vectors would be as many as residuals.
    _, singular, right = np.linalg.svd(np.linalg.qr(columns @ basis, mode="r"), full_matrices=True)
    singular = np.append(singular, np.zeros(basis.shape[1] - len(singular)))
    directions = basis @ right.T
    known = singular > RESOLUTION * singular.max(initial=0)
    condition = float(singular[0] / singular[-1]) if len(singular) and singular[-1] > 0 else np.inf

    freedom = np.inf
    if variance is None:
        freedom = len(residuals) - int(known.sum())
        variance = float(residuals @ residuals) / freedom if freedom > 0 else np.nan
    spread = directions[:, known] / singular[known] / scale[:, None]
    covariance = np.full((count, count), np.nan)
    covariance[np.ix_(free, free)] = variance * (spread @ spread.T)
    lost = directions[:, ~known]
    loose = free[(np.abs(lost) > RESOLUTION).any(axis=1)]
    errors = np.sqrt(np.diag(covariance))
    errors[loose] = np.inf
    free_names = [names[int(i)] for i in free]
    return Identifiability(
        tuple(names), values, singular, condition if len(singular) else np.nan, covariance, errors,
        tuple(_named(column, scale, free_names) for column in _sparse(lost).T),
        tuple(names[int(i)] for i in np.flatnonzero(held)), float(variance), float(freedom), sums,
    )  # fmt: skip


def _sparse(directions: np.ndarray) -> np.ndarray:
    """Another basis of the span of the columns, each with a row of its own in which the others are 0."""
    from scipy.linalg import qr

    if not directions.shape[1]:
        return directions
    *_, order = qr(directions.T, mode="r", pivoting=True)
    pivots = order[: directions.shape[1]]
    return np.linalg.solve(directions[pivots].T, directions.T).T


def _named(direction: np.ndarray, scale: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """A direction of the scaled parameters in the parameters' own units, without what is rounding."""
    direction = np.where(np.abs(direction) > 1e-6 * np.abs(direction).max(), direction, 0.0)
    found = direction / scale
    found = found / found[np.argmax(np.abs(found))]
    return {name: float(c) for name, c in zip(names, found, strict=True) if c != 0}
