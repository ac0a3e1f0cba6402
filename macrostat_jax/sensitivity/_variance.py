"""The estimators of Sobol indices, for all outputs at once, with their bootstrap."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 22
"""How many numbers of the outputs are worked on at a time."""
DOUBLE = float(np.finfo(np.float64).eps)
ROUNDINGS = 64
"""An output that varies by less than this many times the rounding of its size does not vary."""


class Estimates(NamedTuple):
    """For k outputs: indices and their standard errors (d, k), of pairs (d, d, k), and moments (k,)."""

    first: np.ndarray
    first_error: np.ndarray
    total: np.ndarray
    total_error: np.ndarray
    second: np.ndarray | None
    second_error: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray


def estimate(
    runs: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    d: int,
    second_order: bool,
    estimator: str,
    rounding: np.ndarray | float = DOUBLE,
) -> tuple[Estimates, Estimates]:
    """The indices of every column of `runs` (groups, runs of a group, k), and of all columns of one owner.

    Args:
        weights: from `resampled`.
        owner: for each column, the number of the output that it is an element of.
        rounding: of each column (k,), or of all, relative to its size.
    """
    columns, labels = runs.shape[2], int(owner.max()) + 1
    rounding = np.broadcast_to(rounding, columns)
    rows = 2 * d + (d * d if second_order else 0)
    mean, variance = np.empty(columns), np.empty(columns)
    found, errors = np.empty((2, rows, columns))
    whole = np.zeros((len(weights), 1 + rows, labels))
    for part in _blocks(columns, BLOCK // (runs.shape[0] * runs.shape[1])):
        block = runs[:, :, part]
        size = np.abs(block).max(axis=(0, 1))
        # By powers of two, which round nothing: the squares of 1e200 overflow.
        scale = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))))
        block = block / scale
        centre = block.mean(axis=(0, 1))
        # Of what is far from zero, products lose digits, and so does the estimate of the first order.
        parts = _parts(weights, block - centre, d, second_order, estimator)
        varies = np.sqrt(parts[0, 0]) > ROUNDINGS * rounding[part] * size / scale
        found[:, part], errors[:, part] = _shares(parts, varies)
        mean[part] = centre * scale
        with np.errstate(over="ignore"):  # infinite is then what it is
            parts = np.where(varies, parts, 0.0) * scale**2
        variance[part] = parts[0, 0]
        for label in np.unique(owner[part]):
            whole[:, :, label] += parts[:, :, owner[part] == label].sum(axis=2)
    means = np.bincount(owner, weights=mean) / np.bincount(owner)
    shares, spread = _shares(whole, whole[0, 0] > 0)
    return (
        _estimates(found, errors, d, mean, variance),
        _estimates(shares, spread, d, means, whole[0, 0]),
    )


def _estimates(
    found: np.ndarray, errors: np.ndarray, d: int, mean: np.ndarray, variance: np.ndarray
) -> Estimates:
    first, total, rest = slice(d), slice(d, 2 * d), slice(2 * d, None)
    there = len(found) > 2 * d
    return Estimates(
        found[first],
        errors[first],
        found[total],
        errors[total],
        found[rest].reshape(d, d, -1) if there else None,
        errors[rest].reshape(d, d, -1) if there else None,
        mean,
        variance,
    )


def resampled(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each group is in each resample, as weights that sum to 1; first the sample itself.

    A mean over a resample is then a matrix product, for all outputs at once.
    """
    rng = np.random.default_rng([seed, count])
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, count)), drawn]) / count


def _parts(
    weights: np.ndarray, runs: np.ndarray, d: int, second_order: bool, estimator: str
) -> np.ndarray:
    """The variance, and below it its parts: by parameter of the first order, in total, by pair.

    Of centred outputs (groups, runs of a group, k), for the sample and each resample: (resamples, rows, k).
    """
    a, b = runs[:, 0], runs[:, -1]
    mixed = [runs[:, 1 + i] for i in range(d)]
    variance = weights @ ((a**2 + b**2) / 2) - (weights @ ((a + b) / 2)) ** 2
    total = [weights @ ((a - one) ** 2) / 2 for one in mixed]
    if estimator == "saltelli":
        first = [weights @ (b * (one - a)) for one in mixed]
    else:
        first = [variance - weights @ ((b - one) ** 2) / 2 for one in mixed]
    if not second_order:
        return np.stack([variance, *first, *total], axis=1)
    pairs = [np.full_like(variance, np.nan)] * (d * d)
    for i, j in itertools.combinations(range(d), 2):
        both = weights @ (runs[:, 1 + d + i] * mixed[j] - a * b)
        pairs[i * d + j] = both - first[i] - first[j]
    return np.stack([variance, *first, *total, *pairs], axis=1)


def _shares(parts: np.ndarray, varies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and their standard errors, (rows, k); NaN where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(varies, parts[:, 1:] / parts[:, :1], np.nan)
    return shares[0], shares[1:].std(axis=0, ddof=1)


def _blocks(columns: int, size: int) -> Iterator[slice]:
    for start in range(0, columns, max(size, 1)):
        yield slice(start, start + max(size, 1))
