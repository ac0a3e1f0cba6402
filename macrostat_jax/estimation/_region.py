"""Where parameters may be: bounds, and limits on sums of them; least squares within."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

ROUNDING = 1e-10
"""A limit on a sum is met, or reached, up to this share of the sum's terms: sums round, bounds do not."""


class LinearConstraint(NamedTuple):
    """low <= matrix @ x <= high, for `matrix` (k, n) and `low`, `high` (k,)."""

    matrix: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Region:
    """The x with low <= x <= high and, if there is one, the linear constraint.

    Args:
        size: n, the number of parameters.
        bounds: (low, high), each a number or (n,); infinite where there is none.
        constraint: limits on weighted sums.

    Raises:
        ValueError: shapes that do not fit, NaN, or a low above its high.
    """

    def __init__(
        self,
        size: int,
        bounds: tuple[Any, Any] = (-np.inf, np.inf),
        constraint: LinearConstraint | None = None,
    ) -> None:
        try:
            self.low, self.high = (np.broadcast_to(np.asarray(b, float), (size,)) for b in bounds)
        except ValueError as error:
            raise ValueError(f"bounds must be (low, high), numbers or ({size},): {error}") from None
        _check_order("bounds", self.low, self.high)
        if constraint is None:
            constraint = LinearConstraint(np.zeros((0, size)), np.zeros(0), np.zeros(0))
        matrix, *limits = (np.asarray(part, float) for part in constraint)
        count = len(matrix)
        if matrix.shape != (count, size) or any(one.shape != (count,) for one in limits):
            raise ValueError(
                f"A constraint on {size} parameters takes a matrix (k, {size}) and limits (k,), not "
                f"{[part.shape for part in (matrix, *limits)]}."
            )
        _check_order("The limits of the constraint", *limits)
        self.matrix, (self.sum_low, self.sum_high) = matrix, limits
        # All limits as rows of `rows @ x >= floor`: the bounds below, above, and those of sums.
        eye = np.eye(size)
        self._rows = np.concatenate([eye, -eye, matrix, -matrix])
        self._floor = np.concatenate([self.low, -self.high, self.sum_low, -self.sum_high])
        self._exact = np.arange(len(self._rows)) < 2 * size

    def slack(self, x: np.ndarray) -> np.ndarray:
        """How far x is from each limit: below, above, sums below, sums above. Negative: outside."""
        slack = self._rows @ x - self._floor
        rounding = ROUNDING * (np.abs(self._rows) @ np.abs(x) + np.abs(self._floor))
        reached = ~self._exact & np.isfinite(slack) & (np.abs(slack) <= rounding)
        return np.where(reached, 0.0, slack)

    def contains(self, x: np.ndarray) -> bool:
        return bool((self.slack(x) >= 0).all())

    def at_bound(self, x: np.ndarray) -> np.ndarray:
        """Which parameters are at a bound of their own, (n,)."""
        return (x == self.low) | (x == self.high)

    def reached_sums(self, x: np.ndarray) -> np.ndarray:
        """The rows of the linear constraint that x is at a limit of, (j, n)."""
        low, high = self.slack(x)[~self._exact].reshape(2, -1)
        return self.matrix[(low == 0) | (high == 0)]

    def descent(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Of the direction -gradient, the part that leads out of no limit x is at, (n,).

        It is zero at a constrained optimum, and -gradient where no limit is reached.
        """
        reached = self.slack(x) == 0
        eye = np.eye(len(x))
        floor = np.zeros(int(reached.sum()))
        return constrained_least_squares(eye, -gradient, self._rows[reached], floor)[0]

    def step(self, x: np.ndarray, factor: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The point x + s with the least |factor @ s - target| of those within, exactly at its bounds."""
        finite = np.flatnonzero(np.isfinite(self._floor))
        limits = -self.slack(x)[finite]
        move, met = constrained_least_squares(factor, target, self._rows[finite], limits)
        moved, size = x + move, len(x)
        for i in finite[met & self._exact[finite]]:
            moved[i % size] = self.low[i] if i < size else self.high[i - size]
        return np.clip(moved, self.low, self.high)


def constrained_least_squares(
    factor: np.ndarray, target: np.ndarray, rows: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The s with the least |factor @ s - target| of those with rows @ s >= floor; which rows hold it back.

    `factor` (m, n) has full column rank, and s = 0 is admissible (floor <= 0). By change of variables it
    is the search for the shortest vector z with given rows @ z >= floor, of which nonnegative least
    squares finds the active rows (Lawson and Hanson 1974, *Solving Least Squares Problems*, chapter 23).
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    q, r = np.linalg.qr(factor)
    free = solve_triangular(r, q.T @ target)
    missing = floor - rows @ free
    if not (missing > 0).any():
        return free, np.zeros(len(rows), bool)
    rows = solve_triangular(r, rows.T, trans=1).T  # of z = r @ (s - free)
    length = np.linalg.norm(rows, axis=1)
    length[length == 0] = 1.0
    rows, missing = rows / length[:, None], missing / length
    most = missing.max()
    goal = np.append(np.zeros(len(free)), 1.0)
    active = nnls(np.vstack([rows.T, missing / most]), goal)[0] > 0
    # Solved again for the active rows alone: nonnegative least squares loses digits on the way.
    shortest = np.linalg.lstsq(rows[active], missing[active], rcond=None)[0]
    return free + solve_triangular(r, shortest), active


def _check_order(what: str, low: np.ndarray, high: np.ndarray) -> None:
    if not (low <= high).all():
        raise ValueError(f"{what} must be numbers, each low at most its high: {low} and {high}.")
