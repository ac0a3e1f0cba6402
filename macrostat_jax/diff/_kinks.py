"""Kinks: where a function has a derivative to the left and another one to the right."""

from __future__ import annotations

import numpy as np

LONGEST_PART = 0.61


def kinks(
    points: np.ndarray, values: np.ndarray, eps: float, *, ladder: bool = False
) -> np.ndarray:
    """How far the left and right derivatives of each parameter are apart, (n, *shape).

    Of a smooth function, the forward and the backward difference quotient differ in proportion to
    their step, so that the gaps at two steps give the gap at step 0 (twice the gap at half the step,
    less the gap at the whole step). What remains, less what rounding explains, is a kink. A central
    difference by itself cannot see one: of |x| at 0 it is 0, as torch says.

    Args:
        points: (R, n); row 0 is the point itself, other rows move one parameter, each parameter by
            two or more steps of different size, as many to one side as to the other.
        values: the function there, (R, *shape).
        eps: the unit round-off of `values`.
        ladder: the steps span orders of magnitude: take the median over their pairs, where a kink at
            the point itself shows and one that only the long steps reach does not; else the largest.
    """
    found = []
    with np.errstate(invalid="ignore"):
        for column in (points - points[0]).T:
            rows = np.flatnonzero(column)
            rows = rows[np.argsort(column[rows])]
            width = column[rows].reshape(-1, *[1] * (values.ndim - 1))
            slopes = (values[rows] - values[0]) / width
            half = len(rows) // 2
            gaps = slopes[half:] - slopes[:half][::-1]  # from the shortest step to the longest
            steps = np.abs(column[rows][half:])
            size = np.abs(values[rows]).max(axis=0)
            pairs = []
            for long, step in enumerate(steps):
                shorter = np.flatnonzero(steps <= LONGEST_PART * step)
                if not shorter.size:
                    continue
                short = shorter[-1]
                part = steps[short] / step
                gap = np.abs(gaps[short] - part * gaps[long]) / (1 - part)
                # Two roundings in each of the losses, a few units in the last place each.
                rounding = 20 * eps * size / (steps[short] * (1 - part))
                pairs.append(np.maximum(gap - rounding, 0.0))
            found.append(np.median(pairs, axis=0) if ladder else np.max(pairs, axis=0))
    return np.stack(found)
