"""Kinks: where a function has a derivative to the left and another one to the right."""

from __future__ import annotations

import numpy as np


def kinks(points: np.ndarray, values: np.ndarray, eps: float) -> np.ndarray:
    """How far the left and right derivatives of each parameter are apart, (n, *shape).

    Of a smooth function, the forward and the backward difference quotient differ in proportion to
    their step, so that twice the gap at half the step is the gap at the whole step. What remains,
    less what rounding explains, is the gap at step 0. A central difference by itself cannot see a
    kink: of |x| at 0 it is 0, as torch says.

    Args:
        points: (R, n); row 0 is the point itself, other rows move one parameter, each parameter by
            two steps of different size to each side.
        values: the function there, (R, *shape).
        eps: the unit round-off of `values`.
    """
    found = []
    with np.errstate(invalid="ignore"):
        for column in (points - points[0]).T:
            rows = np.flatnonzero(column)
            rows = rows[np.argsort(column[rows])]
            width = column[rows].reshape(-1, *[1] * (values.ndim - 1))
            back, back_half, ahead_half, ahead = (values[rows] - values[0]) / width
            gap = np.abs(2 * (ahead_half - back_half) - (ahead - back))
            # Two roundings in each of the eight losses, a few units in the last place each.
            rounding = 80 * eps * np.abs(values[rows]).max(axis=0) / np.abs(width).max()
            found.append(np.maximum(gap - rounding, 0.0))
    return np.stack(found)
