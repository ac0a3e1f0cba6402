"""The arithmetic of the benchmark, on numbers alone: spreads, ratios, intervals, crossovers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.99
"""Of intervals: a table has dozens of rows, and one in twenty would be a false alarm too many."""
ALONE = 1.10
"""By how much the medians of two processes may differ for no reason: what is allowed for where a file
has one process per backend, and hence cannot tell."""
DRAWS = 2000


class Spread(NamedTuple):
    """The median and the quartiles of repeats, in seconds."""

    median: float
    low: float
    high: float
    repeats: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (linear interpolation between order statistics).

    Raises:
        ValueError: no values, or one that is not finite.
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"A spread is of one or more finite numbers, not of {list(values)!r}.")
    low, median, high = np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high), len(values))


def calls_per_round(seconds: float, budget: float, rounds: int, most: int = 2000) -> int:
    """How many calls of `seconds` make a round, where all rounds together may take `budget` seconds."""
    if seconds <= 0:
        return most
    return int(min(max(budget / rounds / seconds, 1), most))


class Interval(NamedTuple):
    """A ratio and where it may lie."""

    ratio: float
    low: float
    high: float


def ratio_interval(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], level: float = LEVEL, seed: int = 0
) -> Interval:
    """The ratio b / a of two times, each given as processes of rounds, with a confidence interval.

    Where both have two processes or more, a process counts as one observation, the median of its
    rounds, in logarithms: the interval is Welch's (1947), whose width follows from how far processes
    differ. With a single process on either side, rounds are resampled (percentile bootstrap, Efron
    and Tibshirani 1993, chapter 13), and the interval is widened by `ALONE` to either side for the
    difference between processes, which then nobody has seen.

    Args:
        a, b: seconds, process -> round.
        level: of confidence.
        seed: of the resampling.
    """
    logs = [np.log([float(np.median(process)) for process in side]) for side in (a, b)]
    centre = float(np.mean(logs[1]) - np.mean(logs[0]))
    if min(len(a), len(b)) >= 2:
        half = _welch(logs[0], logs[1], level)
        return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half))
    rng = np.random.default_rng(seed)
    drawn = _resampled(b, rng) - _resampled(a, rng)
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(math.exp(centre), math.exp(low) / ALONE, math.exp(high) * ALONE)


def _welch(a: np.ndarray, b: np.ndarray, level: float) -> float:
    """Half the width of the interval for the difference of two means of unequal variances."""
    import scipy.stats

    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    variance = parts.sum()
    if variance == 0:
        return 0.0
    freedom = variance**2 / (parts**2 / np.array([len(a) - 1, len(b) - 1])).sum()
    return float(scipy.stats.t.ppf((1 + level) / 2, freedom) * math.sqrt(variance))


def _resampled(side: Sequence[Sequence[float]], rng: np.random.Generator) -> np.ndarray:
    """Log medians of resampled rounds, averaged over the processes: (DRAWS,)."""
    total = np.zeros(DRAWS)
    for process in side:
        rounds = np.asarray(process, float)
        picked = rng.integers(0, len(rounds), (DRAWS, len(rounds)))
        total += np.log(np.median(rounds[picked], axis=1))
    return total / len(side)


def verdict(interval: Interval, matters: float = 1.02) -> str:
    """What an interval of new / old times allows to say.

    Args:
        interval: of the ratio.
        matters: a certain difference below this factor is not called one.

    Returns:
        `"faster"` or `"slower"` where the whole interval is on one side of 1 and the ratio is beyond
        `matters`; else `"no difference that the noise allows"`.
    """
    if interval.high < 1 and interval.ratio < 1 / matters:
        return "faster"
    if interval.low > 1 and interval.ratio > matters:
        return "slower"
    return "no difference that the noise allows"


def crossovers(x: Sequence[float], a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Where two curves of times over sizes cross, interpolated in logarithms of both.

    Args:
        x: sizes, ascending. a, b: seconds at these sizes, all positive.

    Returns:
        The sizes at which the faster one changes, ascending; empty where one is always ahead. Curves
        that touch without crossing do not count.
    """
    logs = np.log(np.asarray(x, float))
    gap = np.log(np.asarray(a, float)) - np.log(np.asarray(b, float))
    found = []
    last = None
    for i, value in enumerate(gap):
        if value == 0:
            continue
        if last is not None and np.sign(value) != np.sign(gap[last]):
            share = gap[last] / (gap[last] - value)
            found.append(float(np.exp(logs[last] + share * (logs[i] - logs[last]))))
        last = i
    return found


def growth(x: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent k of seconds ~ x^k, by least squares in logarithms."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def disagreement(found: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """The largest difference of any entry, relative to the largest of its array or to 1.

    Undefined entries must be undefined in both; otherwise, and where arrays are missing or of other
    shapes, the answer is infinite.
    """
    if found.keys() != right.keys():
        return math.inf
    worst = 0.0
    for name, b in right.items():
        a = found[name]
        if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
            return math.inf
        there = ~np.isnan(b)
        same = a == b  # infinities too
        if (~np.isfinite(a) & there & ~same).any() or (~np.isfinite(b) & there & ~same).any():
            return math.inf
        finite = b[np.isfinite(b)]
        scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
        off = np.abs(a[there & ~same] - b[there & ~same])
        worst = max(worst, float(off.max(initial=0.0)) / scale)
    return worst
