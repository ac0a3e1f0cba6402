"""The room that bounds leave the parameters of a problem, and where a point is in it."""

from __future__ import annotations

import numpy as np

from ._problem import Problem
from ._region import LinearConstraint

AT_BOUND = 1e-6
"""A value is at a bound when it is nearer than this share of the room between its bounds."""


def sizes(problem: Problem, values: np.ndarray) -> np.ndarray:
    """A large change of each parameter."""
    low, high = problem.bounds
    return np.where(np.isfinite(high - low), high - low, np.maximum(np.abs(values), 1.0))


def gaps(problem: Problem, values: np.ndarray) -> np.ndarray:
    """How far numbers are from their bounds, as shares of the room between these.

    Of the k parameters and then of the g derived numbers, below and above: (k + g, 2). Where a bound is
    infinite, the room is the scale of the parameter.
    """
    low, high = problem.bounds
    room = np.where(np.isfinite(high - low), high - low, problem.bijection.scale)
    found = np.stack([values - low, high - values], axis=1) / room[:, None]
    for group, total in zip(problem.bijection.groups, totals(problem), strict=True):
        rest = total - values[list(group.members)].sum()
        wide = group.high - group.low if np.isfinite(group.high - group.low) else 1.0
        found = np.vstack([found, [(rest - group.low) / wide, (group.high - rest) / wide]])
    return found


def totals(problem: Problem) -> list[float]:
    """Of each group that adds up: what those that move share."""
    return [float(total) for total in problem._totals(problem.inputs)]


def limits_on_sums(problem: Problem) -> LinearConstraint | None:
    """The limits that the derived numbers set to the sums of the free ones."""
    groups = problem.bijection.groups
    if not groups:
        return None
    matrix = np.zeros((len(groups), len(problem.names)))
    for row, group in zip(matrix, groups, strict=True):
        row[list(group.members)] = 1.0
    each = list(zip(totals(problem), groups, strict=True))
    return LinearConstraint(
        matrix, np.array([t - g.high for t, g in each]), np.array([t - g.low for t, g in each])
    )
